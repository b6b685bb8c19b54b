// What Linux and macOS have in common: extents by lseek, and the error of the last call.
import type { StorageExtent } from '../storage.ts';
import { type ForeignCalls, systemError } from './koffi.ts';

export const lseek = 'int64_t lseek(int fd, int64_t offset, int whence)';
export const SEEK_SET = 0;
export const SEEK_END = 2;

/** `whence` of `lseek` on this system. */
export interface SeekValues {
  readonly data: number;
  readonly hole: number;
}

/** What lies at `offset` of a file of `size` bytes, by SEEK_DATA and SEEK_HOLE; null: this file system cannot tell. */
export function seekExtent(
  library: ForeignCalls,
  values: SeekValues,
  descriptor: number,
  offset: number,
  size: number,
): StorageExtent | null {
  const data = library.call(lseek, descriptor, offset, values.data);
  if (data < 0) {
    // ENXIO: nothing but a hole up to the end.
    return library.lastError() === 'ENXIO' ? { kind: 'hole', length: size - offset } : null;
  }
  if (data > offset) return { kind: 'hole', length: Math.min(data, size) - offset };
  const hole = library.call(lseek, descriptor, offset, values.hole);
  // A hole at `offset` after all: the file changed in between.
  return hole <= offset ? null : { kind: 'data', length: Math.min(hole, size) - offset };
}

/** Errors that mean "not on this file, not on this file system, not on this kernel" rather than "it went wrong". */
const unsupported = new Set([
  'EOPNOTSUPP',
  'ENOTSUP',
  'ENOSYS',
  'ENOTTY',
  'ENODEV',
  'EINVAL',
  'EXDEV',
  'ETXTBSY',
  'EPERM',
]);
/** Errors of a lock call that mean: this file system has no such locks. */
const noLocks = new Set(['EINVAL', 'ENOSYS', 'ENOLCK', 'EOPNOTSUPP', 'ENOTSUP']);

/** False when the last error means that the call is not possible here; any other is thrown. */
export function cannot(library: ForeignCalls, call: string): false {
  const errno = library.lastError();
  if (unsupported.has(errno)) return false;
  throw systemError(call, errno);
}

/** What the last error of a lock call says. */
export function lockAnswer(library: ForeignCalls, call: string): 'busy' | 'no locks here' {
  const errno = library.lastError();
  if (errno === 'EAGAIN' || errno === 'EACCES') return 'busy';
  if (noLocks.has(errno)) return 'no locks here';
  throw systemError(call, errno);
}
