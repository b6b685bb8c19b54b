// The only place where guest bytes are written one request at a time: reserve, fill up, write, publish.
import type { Place, WritableNode } from './node.ts';
import { checkRange, readGuest } from './read.ts';
import { alignDown, alignUp, type GuestOffset } from './units.ts';

/**
 * Writes `bytes` at `start` of the guest's disk. Throws `request/out-of-range`, `storage/*`, and the format's codes when it has
 * no room. What was written survives a power cut after `node.flush()`.
 */
export function writeGuest(node: WritableNode, bytes: Uint8Array, start: GuestOffset): void {
  checkRange(node, { start, length: bytes.length });
  let done = 0;
  while (done < bytes.length) {
    const at = start + done;
    const place = node.reserve({ start: at, length: bytes.length - done });
    const length = Math.min(bytes.length - done, place.covers.start + place.covers.length - at);
    writePlace(node, place, bytes.subarray(done, done + length), at);
    done += length;
  }
}

/** Writes `bytes` (guest offset `at`) into `place`; what else the place covers keeps its content. Publishes it. */
export function writePlace(node: WritableNode, place: Place, bytes: Uint8Array, at: GuestOffset): void {
  const { covers, cipher } = place;
  const sector = cipher?.sectorSize ?? 1;
  // Bytes that are live already stand in the same sector as their neighbours, and are encrypted with them.
  const from = place.fresh ? covers.start : alignDown(at, sector);
  const to = place.fresh ? covers.start + covers.length : alignUp(at + bytes.length, sector);
  let whole = bytes;
  if (from !== at || to !== at + bytes.length || cipher !== undefined) {
    whole = new Uint8Array(to - from);
    readWithinDisk(node, whole.subarray(0, at - from), from);
    readWithinDisk(node, whole.subarray(at + bytes.length - from), at + bytes.length);
    whole.set(bytes, at - from);
  }
  const host = place.offset + (from - covers.start);
  cipher?.encrypt(whole, from, host);
  place.storage.writeAt(whole, host);
  place.publish();
}

/** Fills `into` from `start`; what lies past the end of the disk stays zero. */
function readWithinDisk(node: WritableNode, into: Uint8Array, start: GuestOffset): void {
  const length = Math.min(into.length, node.size - start);
  if (length > 0) readGuest(node, into.subarray(0, length), start);
}
