// Settings that are kept with the catalogue: a name and a value that is plain data.
import type { Catalogue } from './catalogue.ts';

/** Null: nothing was kept under that name. */
export function readSetting({ database }: Pick<Catalogue, 'database'>, name: string): unknown {
  const row = database.one<{ value: string }>('select value from setting where name = :name', { name });
  return row === null ? null : JSON.parse(row.value);
}

/** Keeps `value` in place of what was there. */
export function writeSetting({ database }: Pick<Catalogue, 'database'>, name: string, value: unknown): void {
  database.run('insert or replace into setting (name, value) values (:name, :value)', {
    name,
    value: JSON.stringify(value),
  });
}
