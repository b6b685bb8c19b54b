// From any older schema to today's, one file per step, each in a transaction of its own.
import { ImageError } from '../../errors/image-error.ts';
import type { Database } from '../sqlite.ts';
import { first } from './0001-first.ts';
import { migrations } from './0002-migrate.ts';
import { repairPlan } from './0003-repair-plan.ts';
import { changes } from './0004-changes.ts';
import { loose } from './0005-loose.ts';
import { problemDetail } from './0006-problem-detail.ts';

/** In order; the schema's version is the number of steps done. */
const steps: readonly string[] = [first, migrations, repairPlan, changes, loose, problemDetail];

export const newestSchema = steps.length;

/** Brings the schema up to date. Throws `catalogue/newer` for a catalogue that a newer program wrote. */
export function migrate(database: Database): void {
  const version = schemaOf(database);
  if (version > newestSchema) {
    const detail = { name: database.path, found: version, known: newestSchema };
    throw new ImageError('catalogue/newer', detail, { file: database.path });
  }
  if (version === newestSchema) return;
  database.transaction(() => {
    // Another program may have done it while we waited for the lock.
    for (let done = schemaOf(database); done < newestSchema; done++) {
      database.script(steps[done] ?? '');
      database.script(`pragma user_version = ${done + 1}`);
    }
  });
}

function schemaOf(database: Database): number {
  return database.one<{ user_version: number }>('pragma user_version')?.user_version ?? 0;
}
