// The footer at the end of the file, its copy at the start, and which of them is believed.
import type { Storage } from '../../block/storage.ts';
import type { HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { checksumOf, diskType, footer, footerCookie, footerLengths, formatVersion, type Footer } from './spec.ts';

/** A footer as it stands in the file. `bytes` are always 512; one of 511 bytes is filled up. */
export interface FoundFooter {
  readonly place: 'start' | 'end';
  readonly offset: HostOffset;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly checksumHolds: boolean;
}

export interface Footers {
  readonly start: FoundFooter | null;
  readonly end: FoundFooter | null;
}

/** True when these bytes begin like a footer. */
export function hasCookie(bytes: Uint8Array): boolean {
  for (let i = 0; i < footerCookie.length; i++) if (bytes[i] !== footerCookie.charCodeAt(i)) return false;
  return bytes.length >= footerLengths[1];
}

/** The 512 bytes of the footer at the end of `tail`, whichever its length; null: none. */
export function footerAtEnd(tail: Uint8Array): { bytes: Uint8Array; length: number } | null {
  for (const length of footerLengths) {
    const found = tail.subarray(Math.max(0, tail.length - length));
    if (found.length !== length || !hasCookie(found)) continue;
    const bytes = new Uint8Array(footer.size);
    bytes.set(found);
    return { bytes, length };
  }
  return null;
}

/** True when the checksum field says what the other bytes add up to. */
export function checksumHolds(bytes: Uint8Array): boolean {
  const { checksum } = footer.fields;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(checksum.offset) === checksumOf(bytes, checksum.offset);
}

/** The `disk_type` in a footer, whatever else stands in it. */
export function typeIn(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(footer.fields.disk_type.offset);
}

/**
 * True for a sound footer at the end of a file of `size` bytes that fits the file: a fixed disk fills it to the byte.
 * `size` undefined: not known.
 */
export function fitsAtEnd(found: { bytes: Uint8Array; length: number }, size: number | undefined): boolean {
  const { bytes, length } = found;
  if (!checksumHolds(bytes)) return false;
  switch (typeIn(bytes)) {
    case diskType.fixed: {
      const { current_size } = footer.fields;
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      return size === undefined || view.getBigUint64(current_size.offset) + BigInt(length) === BigInt(size);
    }
    case diskType.dynamic:
    case diskType.differencing:
      return true;
    default:
      return false;
  }
}

/** Both footers of a file; null where there is none. Throws `storage/*`. */
export function findFooters(storage: Storage): Footers {
  const take = (length: number, offset: HostOffset): Uint8Array => {
    const bytes = new Uint8Array(length);
    storage.readAt(bytes, offset);
    return bytes;
  };
  let start: FoundFooter | null = null;
  if (storage.size >= footer.size) {
    const bytes = take(footer.size, 0);
    if (hasCookie(bytes)) {
      start = { place: 'start', offset: 0, length: footer.size, bytes, checksumHolds: checksumHolds(bytes) };
    }
  }
  const tailLength = Math.min(footer.size, storage.size);
  const found = footerAtEnd(take(tailLength, storage.size - tailLength));
  if (found === null || (start !== null && storage.size === found.length)) return { start, end: null };
  const { bytes, length } = found;
  const offset = storage.size - length;
  return { start, end: { place: 'end', offset, length, bytes, checksumHolds: checksumHolds(bytes) } };
}

/**
 * The footer to believe. A sound one of a fixed disk at the end wins: the start of such a file belongs to the guest, who can write there
 * what he likes. Otherwise the copy at the start, as other readers do; each only while its checksum holds, unless `tolerant`.
 * Throws `vhd/not-vhd`, `vhd/too-small`, `vhd/footer-checksum`, `vhd/type`, `vhd/version`.
 */
export function chooseFooter(footers: Footers, storage: Storage, tolerant: boolean): FoundFooter & { values: Footer } {
  const { start, end } = footers;
  const file = storage.name;
  if (start === null && end === null) {
    throw new ImageError(storage.size === 0 ? 'vhd/too-small' : 'vhd/not-vhd', {}, { file, offset: 0 });
  }
  const fixedAtEnd = end !== null && typeIn(end.bytes) === diskType.fixed;
  const order = fixedAtEnd && (end.checksumHolds || start === null) ? [end] : [start, end];
  const present = order.filter((found) => found !== null);
  const chosen = present.find((found) => found.checksumHolds) ?? present[0];
  if (chosen === undefined) throw new ImageError('vhd/not-vhd', {}, { file, offset: 0 });
  const where = { file, offset: chosen.offset };
  if (!chosen.checksumHolds && !tolerant)
    throw new ImageError('vhd/footer-checksum', {}, { ...where, field: 'checksum' });
  const values = footer.parse(chosen.bytes, where);
  if (values.file_format_version >>> 16 !== formatVersion >>> 16) {
    const detail = { found: showVersion(values.file_format_version), allowed: showVersion(formatVersion) };
    throw new ImageError('vhd/version', detail, { ...where, field: 'file_format_version' });
  }
  if (values.disk_type === diskType.fixed && chosen.place === 'start') throw new ImageError('vhd/not-vhd', {}, where);
  return { ...chosen, values };
}

/** `1.0` of 0x00010000. */
export function showVersion(version: number): string {
  return `${version >>> 16}.${version & 0xffff}`;
}

/** The 512 bytes with `values` written over them and a fresh checksum; what they do not name stays. */
export function patchedFooter(bytes: Uint8Array, values: Partial<Footer>): Uint8Array {
  const patched = bytes.slice();
  footer.patch(patched, values);
  footer.patch(patched, { checksum: checksumOf(patched, footer.fields.checksum.offset) });
  return patched;
}
