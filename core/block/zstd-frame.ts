// How long a zstd frame is: what stands behind it in a sector-rounded store is not part of it (RFC 8878, section 3.1).
import { ImageError } from '../errors/image-error.ts';

const frameMagic = 0xfd2fb528;
const checksumBytes = 4;

/**
 * Bytes that the frame at the start of `stored` takes: header, blocks, checksum. A frame that goes on past the end counts as long as
 * `stored` (the decoder says what is missing). Throws `packed/damaged` when no frame begins here.
 */
export function zstdFrameLength(stored: Uint8Array): number {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length);
  if (stored.length < 6 || view.getUint32(0, true) !== frameMagic) {
    throw new ImageError('packed/damaged', { codec: 'zstd', reason: 'no frame begins here' });
  }
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentSizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  let at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes + contentSizeBytes;
  for (;;) {
    if (at + 3 > stored.length) return stored.length;
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    const repeated = ((header >> 1) & 3) === 1;
    at += 3 + (repeated ? 1 : header >> 3);
    if ((header & 1) === 1) break;
  }
  return Math.min(stored.length, at + ((descriptor & 4) !== 0 ? checksumBytes : 0));
}
