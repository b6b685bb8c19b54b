// The parent of a delta: found by name, recognised by its CID.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import { isUnreadable, UnreadableNode } from '../../block/unreadable.ts';
import type { OpenRequest } from '../driver.ts';
import { embeddedPlace, readDescriptorBytes, type DescriptorPlace } from './descriptor-place.ts';
import { cidText, parseDescriptor, type Descriptor } from './descriptor.ts';
import { readHostedHeader } from './open-sparse.ts';
import { cowdMagic, descriptorLimit, hostedMagic, noParent, type HostedHeader } from './spec.ts';

/** The descriptor of the image in a file, and the header of the file if it is a sparse extent. */
export interface LocatedDescriptor {
  readonly place: DescriptorPlace;
  readonly header: HostedHeader | null;
}

/** Where the descriptor of the image that begins in `storage` stands. Throws `vmdk/too-small`, `vmdk/descriptor*`. */
export function locateDescriptor(storage: Storage): LocatedDescriptor {
  const where = { file: storage.name, offset: 0 };
  if (storage.size < 4) throw new ImageError('vmdk/too-small', {}, where);
  const head = new Uint8Array(4);
  storage.readAt(head, 0);
  const magic = new DataView(head.buffer).getUint32(0, true);
  if (magic === cowdMagic) throw new ImageError('vmdk/descriptor-missing', {}, where);
  if (magic === hostedMagic) {
    const header = readHostedHeader(storage);
    const place = embeddedPlace(storage, header);
    if (place === null) throw new ImageError('vmdk/descriptor-missing', {}, where);
    return { place, header };
  }
  if (storage.size > descriptorLimit) throw new ImageError('vmdk/descriptor', {}, where);
  return { place: { storage, offset: 0, room: null }, header: null };
}

/** The descriptor there. Throws as `parseDescriptor`, and `vmdk/descriptor-missing` for room that was left empty. */
export function readDescriptor(place: DescriptorPlace): Descriptor {
  const bytes = readDescriptorBytes(place);
  const where = { file: place.storage.name, offset: place.offset };
  if (place.room !== null && (bytes[0] ?? 0) === 0) throw new ImageError('vmdk/descriptor-missing', {}, where);
  return parseDescriptor(bytes, where);
}

/** The content identifier of an open VMDK image, as its file has it now. Throws `vmdk/parent-format` for other formats. */
export function cidOf(node: BlockNode): number {
  const file = node.files[0];
  if (node.format !== 'vmdk' || file === undefined) {
    throw new ImageError('vmdk/parent-format', { name: node.name, format: node.format }, { file: node.name });
  }
  return readDescriptor(locateDescriptor(file.storage).place).cid;
}

/**
 * The layer below, or null. Throws `vmdk/parent-missing` and `vmdk/parent-unnamed` with the CID that is looked for,
 * `vmdk/parent-changed`, `vmdk/parent-format`, `gate/*`.
 */
export function openParent(
  name: string,
  descriptor: Descriptor,
  request: Pick<OpenRequest, 'withBacking' | 'gate' | 'lenient' | 'forRepair'>,
): BlockNode | null {
  if (!request.withBacking) return null;
  const { parentCid, parentHint } = descriptor;
  const expected = cidText(parentCid);
  if (parentHint === null) {
    if (parentCid === noParent) return null;
    const uuid = descriptor.values.get('ddb.uuid.parent');
    const detail = { cid: expected, uuid: uuid === undefined ? '' : ` (UUID ${uuid})` };
    const unnamed = new ImageError('vmdk/parent-unnamed', detail, { file: name, field: 'parentCID' });
    if (request.lenient === 'open') return new UnreadableNode(expected, unnamed);
    throw unnamed;
  }
  let parent: BlockNode;
  try {
    parent = request.gate.openImage({ from: name, path: parentHint, format: 'vmdk' });
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== 'gate/backing') throw error;
    const detail = { reason: error.message, cid: expected };
    throw new ImageError('vmdk/parent-missing', detail, error.where, error);
  }
  try {
    const change = isUnreadable(parent) ? null : parentChange(descriptor, parent);
    // Who repairs is told by the check.
    const mayDiffer = request.forRepair && request.lenient === undefined;
    if (change !== null && !mayDiffer) throw change;
  } catch (error) {
    parent.close();
    throw error;
  }
  return parent;
}

/** Why `parent` is not the image that the delta was made over; null: it is. Throws `vmdk/parent-format`. */
export function parentChange(descriptor: Descriptor, parent: BlockNode): ImageError | null {
  const found = cidOf(parent);
  if (found === descriptor.parentCid) return null;
  const detail = { name: parent.name, found: cidText(found), expected: cidText(descriptor.parentCid) };
  return new ImageError('vmdk/parent-changed', detail, { file: parent.name, field: 'CID' });
}
