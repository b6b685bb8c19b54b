// Numbers with a meaning: offsets of the guest's disk and of files, ranges, binary multiples.

/** A number that says what it counts; a plain number at run time. Two different meanings do not mix. */
export type Unit<Name extends string> = number & { readonly __unit?: Name };

/** Byte offset on the virtual disk. */
export type GuestOffset = Unit<'guest offset'>;
/** Byte offset in a file of the host. */
export type HostOffset = Unit<'host offset'>;

/** `length` bytes of the virtual disk from `start`. */
export interface GuestRange {
  readonly start: GuestOffset;
  readonly length: number;
}

/** `length` bytes of a file from `start`. */
export interface HostRange {
  readonly start: HostOffset;
  readonly length: number;
}

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

/** The largest multiple of `step` that is not above `value`. Exact for all safe integers. */
export function alignDown(value: number, step: number): number {
  return value - (value % step);
}

/** The smallest multiple of `step` that is not below `value`. */
export function alignUp(value: number, step: number): number {
  const over = value % step;
  return over === 0 ? value : value - over + step;
}
