// What the last check of an image found, kept with the image.
import type { Job } from '../job.ts';
import { check, type CheckResult } from '../operations/check.ts';
import type { Catalogue } from './catalogue.ts';
import { remember } from './images.ts';
import { placeOf, rereadImage } from './reread.ts';

/** A finding as it was kept. */
export interface KeptFinding {
  readonly code: string;
  readonly severity: 'corruption' | 'leak' | 'error';
  readonly text: string;
  /** File, byte offset and field, as far as they are known. */
  readonly place: { readonly file?: string; readonly offset?: number; readonly field?: string };
  readonly count: number;
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
  const { database } = catalogue;
  database.transaction(() => {
    database.run('delete from finding where image_id = :id', { id });
    for (const [index, { code, severity, text, where, count }] of result.findings.entries()) {
      database.run(
        `insert into finding (image_id, number, code, severity, text, place, count, found_at)
         values (:id, :number, :code, :severity, :text, :place, :count, :now)`,
        { id, number: index + 1, code, severity, text, place: JSON.stringify(where), count, now: Date.now() },
      );
    }
    const { corruptions, leaks, errors } = result;
    remember(catalogue, id, 'check', `${corruptions} corruptions, ${leaks} leaks, ${errors} errors`);
  });
  rereadImage(catalogue, id);
  return result;
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
      foundAt: number;
    }>(
      'select code, severity, text, place, count, found_at as foundAt from finding where image_id = :id order by number',
      { id },
    )
    .map((row) => ({ ...row, place: JSON.parse(row.place) as KeptFinding['place'] }));
}
