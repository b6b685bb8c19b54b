// Puts checksums right again after a mutation, so that a mutant reaches what lies behind them.
import { crc32c } from '../../core/bytes/checksum.ts';
import type { FormatId } from '../../core/formats/format-id.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Changes `image` in place. Formats without checksums stay as they are. */
export function reseal(format: FormatId, image: Uint8Array): void {
  if (format === 'vpc') {
    for (const [at, length, field] of [
      [0, 512, 64],
      [512, 1024, 36],
      [image.length - 512, 512, 64],
    ] as const) {
      if (at >= 0 && at + length <= image.length && cookieAt(image, at))
        sealSum(image.subarray(at, at + length), field);
    }
  }
  if (format === 'ova') {
    for (let at = 0; at + 512 <= image.length; at += 512) sealTar(image.subarray(at, at + 512));
  }
  if (format === 'vhdx') {
    for (const at of [64 * KiB, 128 * KiB]) sealCrc(image, at, 4 * KiB);
    for (const at of [192 * KiB, 256 * KiB]) sealCrc(image, at, 64 * KiB);
    for (let at = MiB; at + 4 * KiB <= image.length; at += 4 * KiB) {
      const view = new DataView(image.buffer, image.byteOffset + at);
      if (view.getUint32(0) !== 0x6c6f6765) continue; // "loge"
      sealCrc(image, at, Math.min(view.getUint32(8, true), image.length - at));
    }
  }
}

function cookieAt(image: Uint8Array, at: number): boolean {
  const cookie = Buffer.from(image.subarray(at, at + 8)).toString('latin1');
  return cookie === 'conectix' || cookie === 'cxsparse';
}

/** tar: the sum of the bytes of a header, blanks in the field itself, as octal digits. */
function sealTar(block: Uint8Array): void {
  if (Buffer.from(block.subarray(257, 262)).toString('latin1') !== 'ustar') return;
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
}

/** VHD: the ones' complement of the sum of all bytes, the checksum's own left out. */
function sealSum(structure: Uint8Array, field: number): void {
  structure.fill(0, field, field + 4);
  const sum = structure.reduce((total, byte) => total + byte, 0);
  new DataView(structure.buffer, structure.byteOffset).setUint32(field, ~sum >>> 0);
}

/** VHDX: CRC-32C over the structure with the checksum (at 4) as zero. */
function sealCrc(image: Uint8Array, at: number, length: number): void {
  if (length < 8 || at + length > image.length) return;
  const structure = image.subarray(at, at + length);
  structure.fill(0, 4, 8);
  new DataView(structure.buffer, structure.byteOffset).setUint32(4, crc32c(structure), true);
}
