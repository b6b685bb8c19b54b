// The columns of the library after the name: how wide each is, and what a click on its head puts the list in order by.
import type { ColumnName } from '../../state/settings.svelte.ts';
import type { Order } from './pages.svelte.ts';

interface Column {
  /** Null: the list is not put in order by it. */
  readonly order: Order | null;
  readonly width: string;
  readonly number: boolean;
}

export const columns: Readonly<Record<ColumnName, Column>> = {
  format: { order: 'format', width: '68px', number: false },
  virtual: { order: 'virtualSize', width: '92px', number: true },
  'on-disk': { order: 'allocated', width: '92px', number: true },
  chain: { order: null, width: '116px', number: false },
  health: { order: null, width: '150px', number: false },
  changed: { order: 'changed', width: '108px', number: false },
  datastore: { order: null, width: '120px', number: false },
};

/** The tracks of a grid with these columns. */
export function tracksOf(names: readonly ColumnName[]): string {
  return ['minmax(180px, 1fr)', ...names.map((name) => columns[name].width)].join(' ');
}
