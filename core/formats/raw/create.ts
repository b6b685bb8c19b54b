// Writes an empty raw image: a file of the size, its space provided for as asked.
import type { CreateRequest } from '../driver.ts';

/** Options: `preallocation` off, falloc, full. Throws `storage/*`. */
export function createRaw(request: CreateRequest): void {
  const { storage, size } = request;
  const how = request.options.preallocation;
  storage.truncate(size);
  if (size > 0 && (how === 'falloc' || how === 'full')) storage.provide(0, size, how);
}
