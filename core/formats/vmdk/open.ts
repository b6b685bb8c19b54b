// Opening a VMDK image: descriptor, extents through the gate, parent.
import type { ImageFile } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { isImageError, ImageError } from '../../errors/image-error.ts';
import type { OpenRequest } from '../driver.ts';
import type { Descriptor, ExtentLine } from './descriptor.ts';
import { FlatWriter, type ExtentWriter } from './extent-writer.ts';
import type { Extent } from './extent.ts';
import { TableCache } from './grain-tables.ts';
import { VmdkNode, WritableVmdkNode, type OpenedVmdk } from './node.ts';
import { openCowd, openHosted, readHostedHeader } from './open-sparse.ts';
import { locateDescriptor, openParent, readDescriptor } from './parent.ts';
import { openSeSparse } from './sesparse.ts';
import type { SparseExtent } from './sparse.ts';
import { RefusingWriter, SparseWriter } from './sparse-writer.ts';
import { cowdMagic, hostedMagic, type HostedHeader } from './spec.ts';
import { EndedStreamWriter, FrontedStreamWriter } from './stream-writer.ts';

/** Values of createType whose extents are all of kinds that are known. */
const createTypes: readonly string[] = [
  'monolithicSparse',
  'monolithicFlat',
  'streamOptimized',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  '2GbMaxExtentSparse',
  '2GbMaxExtentFlat',
  'vmfs',
  'vmfsSparse',
  'vmfsThin',
  'vmfsPreallocated',
  'vmfsEagerZeroedThick',
  'seSparse',
  'custom',
  'fullDevice',
  'partitionedDevice',
];

/** Settings of the one who opens: `keep-cid=on` leaves the CID as it is on the first write. */
const runtimeNames: readonly string[] = ['keep-cid'];

/** What is opened on the way, to be closed if the way ends early. */
interface Opening {
  readonly storage: Storage;
  readonly request: OpenRequest;
  readonly cache: TableCache;
  readonly files: ImageFile[];
  /** Extent files by the name that the descriptor gives them: several extents may lie in one. */
  readonly byName: Map<string, Storage>;
}

/** Opens the image whose descriptor (or only extent) `storage` is. Throws `vmdk/*`, `gate/*`, `storage/*`. */
export function openVmdk(storage: Storage, request: OpenRequest): VmdkNode {
  const files: ImageFile[] = [{ role: 'file', format: 'file', storage }];
  const opening: Opening = { storage, request, cache: new TableCache(), files, byName: new Map() };
  let node: VmdkNode | null = null;
  try {
    for (const name of Object.keys(request.runtime)) {
      if (!runtimeNames.includes(name)) throw new ImageError('request/invalid-option', { name });
    }
    node = openParts(opening);
    return node;
  } finally {
    if (node === null) for (const file of files) file.storage.close();
  }
}

function openParts(opening: Opening): VmdkNode {
  const { storage, request, files } = opening;
  const { place, header } = locateDescriptor(storage);
  const descriptor = readDescriptor(place);
  // A header without a size stands before a descriptor that names other files, or before an empty disk.
  const embedded = header !== null && (header.capacity > 0 || descriptor.extents.length === 0);
  const extents = embedded ? [openEmbedded(opening, header, descriptor)] : openListed(opening, descriptor);
  const [first] = extents;
  const stream = first?.kind === 'sparse' && first.compressed;
  const parts = {
    name: storage.name,
    files,
    extents,
    descriptor,
    place,
    embedded,
    createType: embedded ? (stream ? 'streamOptimized' : 'monolithicSparse') : descriptor.createType,
  };
  // The writers first: what they refuse is refused before anything else is opened.
  const writers = request.writable ? extents.map(writerFor) : null;
  const backing = openParent(storage.name, descriptor, request);
  const opened: OpenedVmdk = { ...parts, backing, gate: request.gate };
  if (writers === null) return new VmdkNode(opened, request.lenient !== undefined);
  return new WritableVmdkNode(opened, {
    writers,
    keepCid: request.fresh === true || request.runtime['keep-cid'] === 'on',
  });
}

/** The image is one sparse extent with its descriptor inside. */
function openEmbedded(opening: Opening, header: HostedHeader, descriptor: Descriptor): SparseExtent {
  const { storage, request, cache } = opening;
  if (descriptor.extents.length > 1) {
    throw new ImageError('vmdk/extent-embedded', { count: descriptor.extents.length }, { file: storage.name });
  }
  const facts = { type: '', role: 'file', line: 0, access: 'RW' } as const;
  return openHosted(
    { facts, storage, cache, id: 0, writable: request.writable, tolerant: request.lenient === 'open' },
    header,
  );
}

function openListed(opening: Opening, descriptor: Descriptor): Extent[] {
  const { createType } = descriptor;
  if (!createTypes.includes(createType)) {
    throw new ImageError('vmdk/create-type', { type: createType }, { file: opening.storage.name, field: 'createType' });
  }
  const from = opening.storage.name;
  opening.request.gate.announce?.(
    descriptor.extents.flatMap(({ name }, index) =>
      name === null ? [] : [{ from, path: name, role: `extents.${index}` }],
    ),
  );
  let end = 0;
  return descriptor.extents.map((line, index) => {
    const extent = openLine(opening, line, index);
    end += extent.size;
    if (!Number.isSafeInteger(end)) throw new ImageError('storage/too-large', { found: end }, { file: extent.role });
    return extent;
  });
}

function openLine(opening: Opening, line: ExtentLine, index: number): Extent {
  const { request, cache } = opening;
  const facts = { type: line.type, role: `extents.${index}`, line: index, access: line.access } as const;
  const file = opening.storage.name;
  if (line.type === 'ZERO') return { ...facts, kind: 'zero', size: line.size, storage: null };
  if (line.name === null) throw new ImageError('vmdk/extent-type', { type: line.type }, { file });
  if (line.access === 'NOACCESS') throw new ImageError('vmdk/extent-access', { name: line.name }, { file });
  switch (line.type) {
    case 'FLAT':
    case 'VMFS': {
      const storage = openExtentFile(opening, line.name, facts.role);
      if (line.offset + line.size > storage.size && !request.forRepair) {
        const detail = { size: storage.size, expected: line.offset + line.size };
        throw new ImageError('vmdk/extent-short', detail, { file: storage.name });
      }
      return { ...facts, kind: 'flat', size: line.size, storage, base: line.offset };
    }
    case 'SPARSE':
    case 'VMFSSPARSE':
    case 'SESPARSE': {
      const storage = openExtentFile(opening, line.name, facts.role);
      const writable = request.writable && line.access === 'RW';
      const sparse = { facts, storage, cache, id: index, writable, tolerant: request.lenient === 'open' };
      return line.type === 'SESPARSE' ? openSeSparse(sparse) : openSparse(sparse);
    }
    default:
      throw new ImageError('vmdk/extent-type', { type: line.type }, { file });
  }
}

/** A sparse extent in a file of its own, of whichever kind its magic says. */
function openSparse(request: Parameters<typeof openCowd>[0]): SparseExtent {
  const { storage } = request;
  const where = { file: storage.name, offset: 0 };
  if (storage.size < 4) throw new ImageError('vmdk/too-small', {}, where);
  const head = new Uint8Array(4);
  storage.readAt(head, 0);
  const magic = new DataView(head.buffer).getUint32(0, true);
  if (magic === cowdMagic) return openCowd(request);
  if (magic !== hostedMagic) throw new ImageError('vmdk/magic', {}, where);
  const header = readHostedHeader(storage);
  if (header.capacity === 0 && header.descriptorOffset !== 0) throw new ImageError('vmdk/extent-nested', {}, where);
  return openHosted(request, header);
}

/** Through the gate; the message names the file, as qemu-img's does. */
function openExtentFile(opening: Opening, name: string, role: string): Storage {
  const known = opening.byName.get(name);
  if (known !== undefined) return known;
  const from = opening.storage.name;
  try {
    const storage = opening.request.gate.openFile({ from, path: name, role });
    opening.byName.set(name, storage);
    opening.files.push({ role, format: 'file', storage });
    return storage;
  } catch (error) {
    if (!isImageError(error) || error.code.startsWith('gate/')) throw error;
    const detail = { name: error.where.file ?? name, reason: error.message };
    throw new ImageError('vmdk/extent-open', detail, error.where, error);
  }
}

/** What writes to an extent. */
export function writerFor(extent: Extent): ExtentWriter {
  const refuse = (reason: string): ExtentWriter => {
    const detail = { start: extent.role, reason };
    return new RefusingWriter(new ImageError('vmdk/extent-read-only', detail, { file: extent.storage?.name }));
  };
  if (extent.kind === 'zero') return refuse('it has no file');
  if (extent.access !== 'RW') return refuse(`the descriptor says ${extent.access}`);
  if (extent.kind === 'flat') return new FlatWriter(extent);
  if (!extent.compressed) return new SparseWriter(extent);
  if (!extent.markers) return refuse('compressed grains without markers');
  if (extent.form.id !== 'hosted' || !extent.form.atEnd) return new FrontedStreamWriter(extent);
  return new EndedStreamWriter(extent, readHostedHeader(extent.storage));
}
