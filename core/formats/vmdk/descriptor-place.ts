// Where a descriptor stands (a file of its own, or sectors inside an extent), read and written back.
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { descriptorLimit, newDescriptorLength, sectorSize, type HostedHeader } from './spec.ts';

/** `room` null: the file holds nothing else and may have any length. */
export interface DescriptorPlace {
  readonly storage: Storage;
  readonly offset: HostOffset;
  readonly room: number | null;
}

/** The embedded descriptor that a header speaks of; null: it has none. */
export function embeddedPlace(storage: Storage, header: HostedHeader): DescriptorPlace | null {
  if (header.descriptorOffset === 0) return null;
  const offset = header.descriptorOffset * sectorSize;
  const room = header.descriptorSize === 0 ? newDescriptorLength : header.descriptorSize * sectorSize;
  return { storage, offset, room: Math.min(room, descriptorLimit) };
}

/** The bytes there, as many as a descriptor may have. */
export function readDescriptorBytes(place: DescriptorPlace): Uint8Array {
  const { storage, offset, room } = place;
  const length = Math.min(room ?? descriptorLimit, Math.max(0, storage.size - offset));
  const bytes = new Uint8Array(length);
  storage.readAt(bytes, Math.min(offset, storage.size));
  return bytes;
}

/**
 * Replaces the text `before` by `after` (one character per byte). Texts of one length: only the bytes that differ are written, so
 * that a new CID is a single small write. Throws `vmdk/descriptor-full`.
 */
export function writeDescriptor(place: DescriptorPlace, before: string, after: string): void {
  const { storage, offset, room } = place;
  if (room !== null && after.length > room) {
    throw new ImageError(
      'vmdk/descriptor-full',
      { needed: after.length, allowed: room },
      { file: storage.name, offset },
    );
  }
  if (after === before) return;
  if (after.length === before.length) {
    let from = 0;
    while (after[from] === before[from]) from++;
    let to = after.length;
    while (after[to - 1] === before[to - 1]) to--;
    storage.writeAt(Buffer.from(after.slice(from, to), 'latin1'), offset + from);
    return;
  }
  const text = Buffer.from(after, 'latin1');
  if (room === null) {
    storage.writeAt(text, offset);
    if (after.length < before.length) storage.truncate(offset + after.length);
    return;
  }
  const padded = new Uint8Array(Math.min(room, alignUp(Math.max(before.length, after.length), sectorSize)));
  padded.set(text);
  storage.writeAt(padded, offset);
}
