// Writing the header back: single fields in place, or all of it with its extensions.
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { HeaderExtension, Qcow2Header } from './header.ts';
import type { Layout } from './layout.ts';
import { extensionHead, headerAdditional, headerV2, headerV3, type HeaderV3 } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** Writes these fields, which stand next to each other in the header, as `state` has them, and no other byte. */
export function writeHeaderFields(state: Qcow2State, names: readonly (keyof HeaderV3)[]): void {
  const bytes = new Uint8Array(headerV3.size);
  let from = bytes.length;
  let to = 0;
  for (const name of names) {
    const row = headerV3.fields[name];
    from = Math.min(from, row.offset);
    to = Math.max(to, row.offset + row.type.width);
  }
  headerV3.patch(bytes, state.header.fields);
  state.storage.writeAt(bytes.subarray(from, to), from);
}

/**
 * The first bytes of the image as `header` says: fields, what was not understood, extensions in their order, the name of the layer
 * below. Sets the fields that say where things stand. Throws `qcow2/header-full` when they do not fit the first cluster.
 */
export function serialiseHeader(header: Qcow2Header, layout: Layout, file: string): Uint8Array {
  const { fields } = header;
  const name = header.backingName === null ? null : Buffer.from(header.backingName, 'utf8');
  const shape = fields.version < 3 ? headerV2 : headerV3;
  const additional = fields.version < 3 ? 0 : headerAdditional.size + header.unknownFields.length;
  fields.header_length = shape.size + additional;
  let end = fields.header_length;
  for (const extension of header.extensions) end += extensionHead.size + alignUp(extension.data.length, 8);
  end += extensionHead.size;
  fields.backing_file_offset = name === null ? 0 : end;
  fields.backing_file_size = name === null ? 0 : name.length;
  const length = end + (name?.length ?? 0);
  if (length > layout.clusterSize) {
    throw new ImageError('qcow2/header-full', { needed: length, allowed: layout.clusterSize }, { file, offset: 0 });
  }
  const bytes = new Uint8Array(length);
  shape.patch(bytes, fields);
  if (additional > 0) {
    headerAdditional.patch(bytes.subarray(shape.size), { compression_type: header.compressionType });
    bytes.set(header.unknownFields, shape.size + headerAdditional.size);
  }
  let at = fields.header_length;
  for (const extension of header.extensions) {
    extensionHead.patch(bytes.subarray(at), { type: extension.type, length: extension.data.length });
    bytes.set(extension.data, at + extensionHead.size);
    at += extensionHead.size + alignUp(extension.data.length, 8);
  }
  if (name !== null) bytes.set(name, end);
  return bytes;
}

/** Writes the whole header; what it took before and does not now becomes zero. Throws `qcow2/header-full`. */
export function writeHeader(state: Qcow2State): void {
  const { header, layout, storage } = state;
  const before = { ...header.fields };
  let bytes: Uint8Array;
  try {
    bytes = serialiseHeader(header, layout, storage.name);
  } catch (error) {
    header.fields = before;
    throw error;
  }
  const whole = new Uint8Array(Math.max(bytes.length, header.usedLength));
  whole.set(bytes);
  writeInOrder(storage, whole, header.usedLength, bytes.length);
  header.usedLength = bytes.length;
}

/** What a disk writes as a whole or not at all. */
const sector = 512;

/**
 * Where either the header that was (`before` bytes) or the one that will be (`after` bytes) is in the first sector alone, the rest is
 * written while no header speaks of it: a power cut leaves one of the two. Otherwise it is one write of several sectors.
 */
function writeInOrder(storage: Storage, whole: Uint8Array, before: number, after: number): void {
  const tail = whole.subarray(sector);
  if (tail.length === 0 || (before > sector && after > sector)) {
    storage.writeAt(whole, 0);
    return;
  }
  if (after > sector) {
    storage.writeAt(tail, sector);
    storage.flush();
  }
  storage.writeAt(whole.subarray(0, sector), 0);
  if (after <= sector) {
    storage.flush();
    storage.writeAt(tail, sector);
  }
}

/** `extensions` with the one of `type` replaced (or put first), or taken out. */
export function withExtension(
  extensions: readonly HeaderExtension[],
  type: number,
  data: Uint8Array | null,
): HeaderExtension[] {
  const at = extensions.findIndex((extension) => extension.type === type);
  if (data === null) return extensions.filter((extension) => extension.type !== type);
  const added = { type, data, offset: -1 };
  if (at < 0) return [added, ...extensions];
  return extensions.flatMap((extension, i) => (i === at ? [added] : extension.type === type ? [] : [extension]));
}
