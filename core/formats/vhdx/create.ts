// Writes an empty VHDX: fixed, dynamic or differencing.
import { randomUUID } from 'node:crypto';
import { alignUp, MiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, OptionValue } from '../driver.ts';
import { resolveReference } from '../gate.ts';
import { encodeCreator, serialiseHeader, type HeaderSection } from './header.ts';
import {
  batEntries,
  blockCount,
  chunkRatio,
  newLayout,
  payloadIndex,
  usualBlockSize,
  type FileLayout,
  type Geometry,
} from './layout.ts';
import { newItems, serialiseMetadata } from './metadata.ts';
import { identityOf } from './parent.ts';
import { recordedPaths, serialiseParentLocator } from './parent-locator.ts';
import { serialiseRegionTable } from './region-table.ts';
import {
  batRegion,
  fileIdentifier,
  fileIdentifierOffset,
  headerOffsets,
  maxBlockSize,
  maxVirtualSize,
  metadataRegion,
  minBlockSize,
  payloadState,
  regionTableOffsets,
  zeroGuid,
} from './spec.ts';

const creator = 'Platter';
/** Sequence numbers of the second header that `create` writes. Every later writer counts on from them. */
const freshSequence = 2n;
/** As above, for a file whose DataWriteGuid was asked for and is to stay through its first filling. */
const keptSequence = 12n;
const pieceLength = MiB;

/** What a new disk will be, from the options; the same for `create`, `sizeFor` and `measure`. */
export interface Plan {
  readonly geometry: Geometry;
  readonly physicalSectorSize: number;
  readonly layout: FileLayout;
  readonly fixed: boolean;
  readonly zeroBlocks: boolean;
}

type Options = Readonly<Record<string, OptionValue>>;

/**
 * Checks the options as qemu-img does. Throws `vhdx/size-too-large`, `vhdx/log-size-*`, `vhdx/block-size-power`, `vhdx/subformat`,
 * `vhdx/sector-size`, `vhdx/fixed-parent`, `vhdx/zero-parent`.
 */
export function planOf(size: number, options: Options, hasParent: boolean): Plan {
  const logicalSectorSize = sectorOption(options, 'logical_sector_size');
  const virtualSize = alignUp(size, logicalSectorSize);
  if (virtualSize > maxVirtualSize) throw new ImageError('vhdx/size-too-large');
  const logSize = numberOption(options, 'log_size') ?? MiB;
  if (logSize >= 2 ** 32) throw new ImageError('vhdx/log-size-large');
  if (logSize < 1) throw new ImageError('vhdx/log-size-unit');
  const logLength = alignUp(logSize, MiB);
  if (logLength >= 2 ** 32) throw new ImageError('vhdx/log-size-large');
  const subformat = options.subformat ?? 'dynamic';
  if (subformat !== 'dynamic' && subformat !== 'fixed') {
    throw new ImageError('vhdx/subformat', { found: String(subformat) });
  }
  const fixed = subformat === 'fixed';
  if (fixed && hasParent) throw new ImageError('vhdx/fixed-parent');
  if (hasParent && options.block_state_zero === true) throw new ImageError('vhdx/zero-parent');
  const asked = numberOption(options, 'block_size') ?? 0;
  const blockSize = asked === 0 ? usualBlockSize(virtualSize) : Math.min(maxBlockSize, alignUp(asked, minBlockSize));
  if (!Number.isInteger(Math.log2(blockSize))) throw new ImageError('vhdx/block-size-power');
  const geometry = { virtualSize, blockSize, logicalSectorSize };
  return {
    geometry,
    physicalSectorSize: sectorOption(options, 'physical_sector_size', logicalSectorSize),
    layout: newLayout(geometry, logLength),
    fixed,
    // A fixed disk whose blocks were said to be zero would have no room in its own file: QEMU writes such and grows them at the end.
    zeroBlocks: options.block_state_zero === true || (options.block_state_zero === undefined && !fixed && !hasParent),
  };
}

function numberOption(options: Options, name: string): number | null {
  const value = options[name];
  return typeof value === 'number' ? value : null;
}

function sectorOption(options: Options, name: string, usual = 512): number {
  const value = numberOption(options, name) ?? usual;
  if (value !== 512 && value !== 4096) throw new ImageError('vhdx/sector-size', { found: value }, { field: name });
  return value;
}

/** Leaves a complete image in the request's storage. Throws what `planOf` throws, `vhdx/parent-*`, `storage/*`. */
export function createVhdx(request: CreateRequest): void {
  const { storage, options } = request;
  const locator = request.backing === null ? null : newLocator(request);
  const { geometry, physicalSectorSize, layout, fixed, zeroBlocks } = planOf(request.size, options, locator !== null);
  const payload = fixed ? blockCount(geometry) * geometry.blockSize : 0;
  storage.truncate(layout.payloadOffset + payload);
  const how = options.preallocation;
  if (how === 'falloc' || how === 'full') storage.provide(0, layout.payloadOffset + payload, how);
  writeBat(request, { geometry, layout, fixed, zeroBlocks, hasParent: locator !== null });
  const items = newItems({
    ...geometry,
    physicalSectorSize,
    leaveBlocksAllocated: fixed,
    virtualDiskId: textOption(options, 'virtual_disk_id') ?? randomUUID(),
    parentLocator: locator,
  });
  storage.writeAt(serialiseMetadata(items), layout.metadataOffset);
  const regions = serialiseRegionTable([
    { guid: batRegion, offset: layout.batOffset, length: layout.batLength, required: true },
    { guid: metadataRegion, offset: layout.metadataOffset, length: layout.metadataLength, required: true },
  ]);
  for (const offset of regionTableOffsets) storage.writeAt(regions, offset);
  writeHeaders(request, layout);
  storage.writeAt(
    fileIdentifier.serialise({ Signature: 'vhdxfile', Creator: encodeCreator(creator) }),
    fileIdentifierOffset,
  );
}

function writeHeaders(request: CreateRequest, layout: FileLayout): void {
  const kept = textOption(request.options, 'data_write_guid');
  const last = kept === null ? freshSequence : keptSequence;
  const values = {
    Signature: 'head',
    Checksum: 0,
    FileWriteGuid: randomUUID(),
    DataWriteGuid: kept ?? randomUUID(),
    LogGuid: zeroGuid,
    LogVersion: 0,
    Version: 1,
    LogLength: layout.logLength,
    LogOffset: layout.logOffset,
  };
  headerOffsets.forEach((offset, slot) => {
    const SequenceNumber = last - 1n + BigInt(slot);
    request.storage.writeAt(serialiseHeader({ ...values, SequenceNumber }), offset);
  });
}

/** Whether the file is as `createVhdx` left it: `kept` where its DataWriteGuid was asked for. */
export function isAsCreated(section: HeaderSection): 'fresh' | 'kept' | null {
  if (section.creator !== creator || section.current !== 1) return null;
  if (section.header.SequenceNumber === freshSequence) return 'fresh';
  return section.header.SequenceNumber === keptSequence ? 'kept' : null;
}

/** The entries that are not all zero: blocks of a fixed disk, blocks that are said to be zero. */
function writeBat(
  request: CreateRequest,
  disk: Omit<Plan, 'physicalSectorSize'> & { readonly hasParent: boolean },
): void {
  const { geometry, layout } = disk;
  if (!disk.fixed && !disk.zeroBlocks) return;
  const ratio = chunkRatio(geometry);
  const blocks = blockCount(geometry);
  const total = batEntries(geometry, disk.hasParent);
  const piece = new DataView(new ArrayBuffer(pieceLength));
  const perPiece = pieceLength / 8;
  let block = 0;
  for (let first = 0; first < total; first += perPiece) {
    request.job.throwIfCancelled();
    new Uint8Array(piece.buffer).fill(0);
    const count = Math.min(perPiece, total - first);
    for (; block < blocks && payloadIndex(block, ratio) < first + count; block++) {
      const at = (payloadIndex(block, ratio) - first) * 8;
      const place = (layout.payloadOffset + block * geometry.blockSize) / MiB;
      piece.setUint32(
        at,
        disk.fixed && !disk.zeroBlocks ? (place % 4096) * MiB + payloadState.fullyPresent : payloadState.zero,
        true,
      );
      piece.setUint32(at + 4, disk.fixed && !disk.zeroBlocks ? Math.floor(place / 4096) : 0, true);
    }
    request.storage.writeAt(new Uint8Array(piece.buffer, 0, count * 8), layout.batOffset + first * 8);
  }
}

function textOption(options: Options, name: string): string | null {
  const value = options[name];
  return typeof value === 'string' ? value.replace(/^\{|\}$/g, '').toLowerCase() : null;
}

function newLocator(request: CreateRequest): Uint8Array {
  const { backing, openBacking, name } = request;
  if (backing === null) throw new Error('no parent');
  if (backing.format !== null && backing.format !== 'vhdx') {
    throw new ImageError('vhdx/parent-format', { name: backing.path, format: backing.format }, { file: name });
  }
  if (openBacking === undefined) throw new ImageError('vhdx/parent-closed', {}, { file: name });
  const identity = identityOf(openBacking(), name);
  return serialiseParentLocator(identity, recordedPaths(name, resolveReference(name, backing.path)));
}
