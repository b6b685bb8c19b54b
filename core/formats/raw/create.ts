// Writes an empty raw image: a file of the size, its space provided for as asked.
import type { CreateRequest } from '../driver.ts';

/**
 * A new file gets its first block written, as qemu does it: direct I/O finds out by reading it what alignment the host wants, which a
 * hole does not tell.
 */
const firstBlock = 4096;

/** Options: `preallocation` off, falloc, full. Throws `storage/*`. */
export function createRaw(request: CreateRequest): void {
  const { storage, size } = request;
  const how = request.options.preallocation;
  const isNew = storage.size === 0;
  storage.truncate(size);
  if (size > 0 && (how === 'falloc' || how === 'full')) storage.provide(0, size, how);
  else if (isNew) storage.writeAt(new Uint8Array(size < firstBlock ? Math.min(size, 512) : firstBlock), 0);
}
