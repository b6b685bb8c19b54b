// The one error class of the engine: a code, what was found, where; and its form on a wire between threads.
import { type ErrorCode, type ErrorDetail, type Facts, sentence } from './messages.ts';
import { factsOf } from './sentence.ts';

/** Where a fault lies: the file, the byte offset in that file, and the field by the specification's name. */
export interface Where {
  readonly file?: string | undefined;
  readonly offset?: number | undefined;
  readonly field?: string | undefined;
}

/** An `ImageError` as plain data: what crosses a thread or a socket. */
export interface WireError {
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;
  readonly where: Where;
  readonly cause: string | null;
}

/**
 * A fault in an image, in the host or in what was asked. `message` is the sentence of `messages.ts` filled with `detail`;
 * `code` (`subject/what`) is stable. A plain `Error` anywhere in the engine means a bug in this program.
 */
export class ImageError extends Error {
  readonly code: ErrorCode;
  readonly detail: ErrorDetail;
  readonly where: Where;

  constructor(code: ErrorCode, detail: ErrorDetail = {}, where: Where = {}, cause?: unknown) {
    super(sentence(code, detail), cause === undefined ? undefined : { cause });
    this.name = 'ImageError';
    this.code = code;
    this.detail = detail;
    this.where = where;
  }

  /** `detail` without its lists. */
  get facts(): Facts {
    return factsOf(this.detail);
  }

  /** The same error with places filled in that it did not know itself. */
  at(where: Where): ImageError {
    return new ImageError(this.code, this.detail, { ...where, ...dropUndefined(this.where) }, this.cause);
  }

  toWire(): WireError {
    const cause = this.cause instanceof Error ? this.cause.message : null;
    return { code: this.code, detail: this.detail, where: this.where, cause };
  }

  static fromWire(wire: WireError): ImageError {
    const cause = wire.cause === null ? undefined : new Error(wire.cause);
    return new ImageError(wire.code, wire.detail, wire.where, cause);
  }
}

function dropUndefined(where: Where): Where {
  return Object.fromEntries(Object.entries(where).filter(([, value]) => value !== undefined));
}

/** True for an `ImageError`, and for one with that code if a code is given. */
export function isImageError(error: unknown, code?: ErrorCode): error is ImageError {
  return error instanceof ImageError && (code === undefined || error.code === code);
}

/**
 * What an error that wraps `error` adds to its detail where that is about a passphrase: `because`, its code. Whoever asks people for
 * passphrases goes by it; the file is in `where`.
 */
export function becauseOfPassphrase({ code, detail }: ImageError): { readonly because?: string } {
  const because = typeof detail.because === 'string' ? detail.because : code;
  return because.startsWith('crypto/') ? { because } : {};
}

/** Sentences of the C library for the error numbers that file work meets; what users of qemu-img know them by. */
const systemSentences: Record<string, string> = {
  EACCES: 'Permission denied',
  EADDRINUSE: 'Address already in use',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EAGAIN: 'Resource temporarily unavailable',
  EBADF: 'Bad file descriptor',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  EFBIG: 'File too large',
  EINVAL: 'Invalid argument',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENOTDIR: 'Not a directory',
  ENOTSUP: 'Operation not supported',
  ENXIO: 'No such device or address',
  EOPNOTSUPP: 'Operation not supported',
  EPERM: 'Operation not permitted',
  EROFS: 'Read-only file system',
  ESPIPE: 'Illegal seek',
  ETXTBSY: 'Text file busy',
};

/** The C library's words for an errno name such as `ENOENT`; the name itself where it has none here. */
export function systemSentence(errno: string): string {
  return systemSentences[errno] ?? errno;
}

/**
 * Turn what a system call threw into an `ImageError` with `code`; `detail.errno` is the errno's name and `detail.reason` its
 * sentence. An `ImageError` passes through, anything without an errno is a bug and is thrown on.
 */
export function fromSystem(code: ErrorCode, error: unknown, where: Where, detail: ErrorDetail = {}): ImageError {
  if (error instanceof ImageError) return error;
  const errno = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null;
  if (errno === null) throw error;
  return new ImageError(code, { ...detail, errno, reason: systemSentence(errno) }, where, error);
}
