// Digests of what guests see, kept with the state of the file that they belong to.
import type { Job } from '../job.ts';
import { digest, type DigestAlgorithm, type DigestResult } from '../operations/digest.ts';
import type { Catalogue } from './catalogue.ts';
import { imageRecord, remember } from './images.ts';
import { placeOf, rereadImage } from './reread.ts';

/** Digests the image's disk and keeps the result. Throws what reading throws. */
export async function digestImage(
  catalogue: Catalogue,
  id: string,
  algorithm: DigestAlgorithm,
  job: Job,
): Promise<DigestResult> {
  const place = placeOf(catalogue, id);
  rereadImage(catalogue, id);
  const before = stateOf(catalogue, id);
  const result = await digest(
    { path: place.file, options: { format: place.format, policy: catalogue.policy }, algorithm },
    job,
  );
  catalogue.database.transaction(() => {
    catalogue.database.run(
      `insert or replace into digest (image_id, kind, algorithm, value, mtime_ns, file_length, made_at)
       values (:id, 'guest', :algorithm, :value, :mtimeNs, :length, :now)`,
      { id, algorithm, value: result.value, mtimeNs: before.mtime_ns, length: before.file_length, now: Date.now() },
    );
    remember(catalogue, id, 'digest', `${algorithm} ${result.value}`);
  });
  return result;
}

function stateOf({ database }: Catalogue, id: string): { mtime_ns: string; file_length: number } {
  const row = database.one<{ mtime_ns: string; file_length: number }>(
    'select mtime_ns, file_length from image where id = :id',
    { id },
  );
  return row ?? { mtime_ns: '', file_length: 0 };
}

/** The digest of the disk as it is now, if one was made since its file last changed. */
export function currentDigest(catalogue: Catalogue, id: string, algorithm: DigestAlgorithm): string | null {
  const found = imageRecord(catalogue, id).digests.find(
    (one) => one.kind === 'guest' && one.algorithm === algorithm && one.current,
  );
  return found?.value ?? null;
}
