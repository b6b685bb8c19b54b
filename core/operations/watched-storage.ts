// A storage whose long calls can be cancelled and tell how far they are: what a format writes in one go, in pieces.
import type { Storage } from '../block/storage.ts';
import { MiB } from '../block/units.ts';
import type { Job } from '../job.ts';

const piece = 64 * MiB;

/**
 * From now on `storage` asks `job` before every write, and provides space in pieces, which it reports as phase `provide` of `total`
 * bytes. Its calls then throw `request/cancelled` too. Gives it back.
 */
export function watchedStorage(storage: Storage, total: number, job: Job): Storage {
  const provide = storage.provide.bind(storage);
  const writeAt = storage.writeAt.bind(storage);
  let provided = 0;
  storage.provide = (offset, length, how) => {
    for (let done = 0; done < length; done += piece) {
      job.throwIfCancelled();
      const part = Math.min(piece, length - done);
      provide(offset + done, part, how);
      provided += part;
      job.progress({ phase: 'provide', done: Math.min(provided, total), total });
    }
  };
  storage.writeAt = (from, offset) => {
    job.throwIfCancelled();
    writeAt(from, offset);
  };
  return storage;
}
