// Writes an empty VMDK image in the layout of qemu-img (streams: in VMware's), with all its files.
import type { Provision, Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest } from '../driver.ts';
import { newDescriptor } from './descriptor.ts';
import {
  cylindersFor,
  headsFor,
  hostedLayout,
  newDescriptorSector,
  newDescriptorSectors,
  newGrainSectors,
  newGrainSize,
  siblingName,
  baseName,
  splitSizes,
  streamOverHead,
  tablesFor,
} from './layout.ts';
import { freshCid } from './node.ts';
import { readCreateOptions, type VmdkOptions } from './options.ts';
import { cidOf } from './parent.ts';
import {
  compressDeflate,
  directoryLimit,
  gdAtEnd,
  hostedFlag,
  hostedHeader,
  hostedMagic,
  hostedTableEntries,
  newlineBytes,
  newDescriptorLength,
  noParent,
  sectorSize,
  sparseFileLimit,
  type HostedHeader,
} from './spec.ts';
import { streamTrailer } from './stream-writer.ts';

interface ExtentFile {
  readonly size: number;
  readonly type: 'FLAT' | 'SPARSE' | 'VMFS';
  readonly name: string;
}

/**
 * Options: those of the driver's rows; `preallocation` (off, falloc, full) as files have it. Throws `vmdk/*` with qemu-img's sentences, `storage/*`.
 */
export function createVmdk(request: CreateRequest): void {
  const options = readCreateOptions(request.options, request.backing);
  const size = alignUp(request.size, sectorSize);
  const allowed = directoryLimit * hostedTableEntries * newGrainSize;
  if (!options.flat && size > allowed) throw new ImageError('vmdk/size', { size, allowed }, { file: request.name });
  const parentCid = request.backing === null ? noParent : readParentCid(request);
  const extents = createExtents(request, options, size);
  const heads = headsFor(options.adapter);
  const text = newDescriptor({
    cid: options.cid ?? freshCid(0),
    parentCid,
    createType: options.subformat,
    parentHint: request.backing?.path ?? null,
    extents,
    hardwareVersion: options.hardwareVersion,
    cylinders: cylindersFor(size, heads),
    heads,
    adapter: options.adapter,
    toolsVersion: options.toolsVersion,
    uuid: options.uuid,
  });
  const embedded = !options.flat && !options.split;
  if (embedded && text.length > newDescriptorLength) {
    throw new ImageError(
      'vmdk/descriptor-full',
      { needed: text.length, allowed: newDescriptorLength },
      { file: request.name },
    );
  }
  request.storage.writeAt(Buffer.from(text, 'latin1'), embedded ? newDescriptorSector * sectorSize : 0);
}

function readParentCid(request: CreateRequest): number {
  if (request.openBacking === undefined) {
    throw new ImageError('request/unsupported', { what: 'Failed to read parent CID' }, { file: request.name });
  }
  const parent = request.openBacking();
  if (parent.format !== 'vmdk') {
    throw new ImageError('vmdk/backing-found', { format: parent.format }, { file: request.name });
  }
  return cidOf(parent);
}

function createExtents(request: CreateRequest, options: VmdkOptions, size: number): ExtentFile[] {
  const { name, storage } = request;
  if (options.subformat === 'monolithicFlat' || options.subformat === 'vmfs') {
    // A disk of no size has no extent, as with qemu-img.
    if (size === 0) return [];
    const sibling = siblingName(name, 'flat', 1);
    createFlat(request.createFile(sibling, 'extents.0'), size, options.preallocation);
    return [{ size, type: options.subformat === 'vmfs' ? 'VMFS' : 'FLAT', name: sibling }];
  }
  if (options.split) {
    return splitSizes(size).map((part, index) => {
      request.job.throwIfCancelled();
      const sibling = siblingName(name, options.flat ? 'f' : 's', index + 1);
      const file = request.createFile(sibling, `extents.${index}`);
      if (options.flat) createFlat(file, part, options.preallocation);
      else createHosted(file, part, options);
      return { size: part, type: options.flat ? 'FLAT' : 'SPARSE', name: sibling };
    });
  }
  if (options.subformat === 'streamOptimized') createStream(storage, size, options);
  else createHosted(storage, size, options);
  return [{ size, type: 'SPARSE', name: baseName(name) }];
}

/** A flat extent: the guest's bytes, all zero. */
export function createFlat(file: Storage, size: number, how: Provision | null): void {
  file.truncate(size);
  if (how !== null) file.provide(0, size, how);
}

/** Header, directories and empty tables; with preallocation all grains have their places. */
export function createHosted(
  file: Storage,
  size: number,
  options: Pick<VmdkOptions, 'preallocation' | 'zeroedGrains'>,
): void {
  const layout = hostedLayout(size);
  const { tables, directorySectors, tableSectors, rgdOffset, gdOffset, overHead } = layout;
  const grains = options.preallocation === null ? 0 : Math.ceil(size / newGrainSize);
  const dataStart = overHead * sectorSize;
  const end = dataStart + grains * newGrainSize;
  if (end > sparseFileLimit) throw new ImageError('vmdk/full', {}, { file: file.name });
  file.truncate(end);
  file.writeAt(
    hostedHeader.serialise({
      ...headerOf(size),
      version: options.zeroedGrains ? 2 : 1,
      flags: hostedFlag.newlineTest | hostedFlag.redundantTable | (options.zeroedGrains ? hostedFlag.zeroedGrains : 0),
      rgdOffset,
      gdOffset,
      overHead,
    }),
    0,
  );
  for (const offset of [rgdOffset, gdOffset]) {
    const first = offset + directorySectors;
    writeNumbers(file, offset * sectorSize, tables, (table) => first + table * tableSectors);
    if (grains > 0) writeNumbers(file, first * sectorSize, grains, (grain) => overHead + grain * newGrainSectors);
  }
  if (grains > 0) file.provide(dataStart, grains * newGrainSize, options.preallocation ?? 'falloc');
}

/** A stream without grains: header, room for the descriptor, directory, footer, end of stream. */
function createStream(file: Storage, size: number, options: VmdkOptions): void {
  if (options.preallocation !== null) {
    const reason = 'A streamOptimized image cannot be preallocated';
    throw new ImageError('request/invalid-value', { reason, name: 'preallocation' }, { file: file.name });
  }
  const header: HostedHeader = {
    ...headerOf(size),
    version: 3,
    flags:
      hostedFlag.newlineTest |
      hostedFlag.compressed |
      hostedFlag.markers |
      (options.zeroedGrains ? hostedFlag.zeroedGrains : 0),
    rgdOffset: 0,
    gdOffset: gdAtEnd,
    overHead: streamOverHead,
    compressAlgorithm: compressDeflate,
  };
  file.writeAt(hostedHeader.serialise(header), 0);
  const directory = new Uint32Array(tablesFor(size, newGrainSize, hostedTableEntries));
  const start = streamOverHead * sectorSize;
  file.writeAt(streamTrailer(header, directory, start), start);
}

function headerOf(size: number): HostedHeader {
  return {
    magicNumber: hostedMagic,
    version: 1,
    flags: 0,
    capacity: size / sectorSize,
    grainSize: newGrainSectors,
    descriptorOffset: newDescriptorSector,
    descriptorSize: newDescriptorSectors,
    numGTEsPerGT: hostedTableEntries,
    rgdOffset: 0,
    gdOffset: 0,
    overHead: 0,
    uncleanShutdown: 0,
    ...newlineBytes,
    compressAlgorithm: 0,
    pad: new Uint8Array(433),
  };
}

/** `count` numbers of 32 bits from `offset` on, in pieces of 256 KiB. */
function writeNumbers(file: Storage, offset: number, count: number, numberAt: (index: number) => number): void {
  const step = 64 * 1024;
  for (let done = 0; done < count; done += step) {
    const part = Math.min(step, count - done);
    const bytes = new Uint8Array(part * 4);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < part; i++) view.setUint32(4 * i, numberAt(done + i), true);
    file.writeAt(bytes, offset + done * 4);
  }
}
