// What the last check of an image found, kept with the image.
import type { Job } from '../job.ts';
import { check, type CheckResult } from '../operations/check.ts';
import type { Catalogue } from './catalogue.ts';
import { remember } from './images.ts';
import { placeOf, rereadImage } from './reread.ts';
import { statFileNow } from './scan/walk.ts';

/** A finding as it was kept. */
export interface KeptFinding {
  readonly code: string;
  readonly severity: 'corruption' | 'leak' | 'error';
  readonly text: string;
  /** File, byte offset and field, as far as they are known. */
  readonly place: { readonly file?: string; readonly offset?: number; readonly field?: string };
  readonly count: number;
  /** What a repair would do; null: nothing is known. */
  readonly repair: string | null;
  /** Milliseconds since 1970. */
  readonly foundAt: number;
}

/** Findings that are kept of one check; all are counted. */
const mostKept = 500;

/** Checks an image and keeps what is found in place of what was found before. Throws what `check` throws. */
export async function checkImage(catalogue: Catalogue, id: string, job: Job): Promise<CheckResult> {
  const { file, format } = placeOf(catalogue, id);
  const result = await check(
    { path: file, options: { format, policy: catalogue.policy }, limit: mostKept, repair: null },
    job,
  );
  keepCheck(catalogue, id, result);
  rereadImage(catalogue, id);
  return result;
}

/** What was found in the file at `file` is kept with the images of the catalogue that it is (none: it is in no datastore). */
export function keepCheckOfFile(catalogue: Catalogue, file: string, result: CheckResult): void {
  const stat = statFileNow(file);
  if (stat === null) return;
  const known = catalogue.database.all<{ id: string }>(
    'select id from image where device = :device and inode = :inode and gone_at is null',
    { device: stat.device, inode: stat.inode },
  );
  for (const { id } of known) keepCheck(catalogue, id, result);
}

/** In place of what was found before; the history of the image says when and how much. */
function keepCheck(catalogue: Catalogue, id: string, result: CheckResult): void {
  const { database } = catalogue;
  database.transaction(() => {
    database.run('delete from finding where image_id = :id', { id });
    for (const [index, { code, severity, text, where, count, repair }] of result.findings
      .slice(0, mostKept)
      .entries()) {
      database.run(
        `insert into finding (image_id, number, code, severity, text, place, count, repair, found_at)
         values (:id, :number, :code, :severity, :text, :place, :count, :repair, :now)`,
        { id, number: index + 1, code, severity, text, place: JSON.stringify(where), count, repair, now: Date.now() },
      );
    }
    const { corruptions, leaks, errors } = result;
    remember(catalogue, id, 'check', `${corruptions} corruptions, ${leaks} leaks, ${errors} errors`);
  });
}

/** What the last check found, in its order. */
export function findingsOf({ database }: Catalogue, id: string): KeptFinding[] {
  return database
    .all<{
      code: string;
      severity: KeptFinding['severity'];
      text: string;
      place: string;
      count: number;
      repair: string | null;
      foundAt: number;
    }>(
      'select code, severity, text, place, count, repair, found_at as foundAt from finding where image_id = :id order by number',
      { id },
    )
    .map((row) => ({ ...row, place: JSON.parse(row.place) as KeptFinding['place'] }));
}
