// Who uses which MiB of the file: header section, log, regions, blocks. Everything in a VHDX lies in whole MiB.
import { MiB } from '../../block/units.ts';
import { isPresent } from './block-table.ts';
import { blockCount, chunkCount } from './layout.ts';
import type { VhdxNode } from './node.ts';
import { bitmapBlockLength, bitmapState, headerSectionLength } from './spec.ts';

/** MiB of the file that are looked at in one pass over the BAT: 1 TiB. */
const windowMebibytes = 2 ** 20;

/** A piece that is not a block. */
export interface FixedPiece {
  readonly name: 'header section' | 'log' | 'BAT' | 'metadata' | 'other';
  readonly label: string;
  readonly start: number;
  readonly length: number;
}

/** Header section, log and regions of the file in their order. */
export function fixedPieces(node: VhdxNode): FixedPiece[] {
  const { section, table } = node.image;
  const { LogOffset, LogLength } = section.header;
  const pieces: FixedPiece[] = [
    { name: 'header section', label: 'header section', start: 0, length: headerSectionLength },
  ];
  if (LogLength > 0) pieces.push({ name: 'log', label: 'log', start: LogOffset, length: LogLength });
  for (const region of table.regions) {
    const isBat = region.guid === table.bat.guid;
    const name = isBat ? 'BAT' : region.guid === table.metadata.guid ? 'metadata' : 'other';
    const start = isBat ? node.table.offset : region.offset;
    const length = isBat ? node.table.capacity * 8 : region.length;
    pieces.push({ name, label: `${region.name} region`, start, length });
  }
  return pieces.sort((a, b) => a.start - b.start);
}

/** A block of the file, by its BAT entry. */
export interface UsedBlock {
  readonly kind: 'payload' | 'bitmap';
  /** Payload block or chunk. */
  readonly number: number;
  readonly index: number;
  readonly place: number;
  readonly length: number;
}

/** Calls `each` for every block that the BAT says is in the file, payload first. */
function forEachBlock(node: VhdxNode, each: (block: UsedBlock) => void): void {
  const { table, geometry } = node;
  const blocks = blockCount(geometry);
  for (let number = 0; number < blocks; number++) {
    const index = table.payload(number);
    if (!isPresent(table.state(index))) continue;
    each({ kind: 'payload', number, index, place: table.place(index), length: geometry.blockSize });
  }
  const chunks = chunkCount(geometry);
  for (let number = 0; number < chunks; number++) {
    const index = table.bitmap(number);
    if (index >= table.capacity || table.state(index) !== bitmapState.present) continue;
    each({ kind: 'bitmap', number, index, place: table.place(index), length: bitmapBlockLength });
  }
}

/** The owner of each MiB of a stretch of the file. */
export interface UseWindow {
  /** First byte of the stretch. */
  readonly start: number;
  /** One number per MiB: 0 nobody, n > 0 payload block n - 1, n < 0 the bitmap of chunk -n - 1. */
  readonly owners: Int32Array;
}

/**
 * The file in stretches of 1 TiB at most, with the blocks in them. `clash` hears of blocks that lie over another one, which then keeps
 * the place: a block `over` another owner (as in `owners`), or over a piece that is no block.
 */
export function* useOfFile(
  node: VhdxNode,
  clash: (block: UsedBlock, over: number | FixedPiece) => void,
): Generator<UseWindow, void, void> {
  const total = Math.ceil(node.image.storage.size / MiB);
  const pieces = fixedPieces(node);
  for (let first = 0; first < total; first += windowMebibytes) {
    const owners = new Int32Array(Math.min(windowMebibytes, total - first));
    const end = first + owners.length;
    forEachBlock(node, (block) => {
      const start = block.place / MiB;
      const stop = start + block.length / MiB;
      if (start >= end || stop <= first) return;
      const value = block.kind === 'payload' ? block.number + 1 : -(block.number + 1);
      const piece = pieces.find((one) => one.start < stop * MiB && one.start + one.length > start * MiB);
      if (piece !== undefined) {
        if (start >= first) clash(block, piece);
        return;
      }
      let over = 0;
      for (let at = Math.max(start, first); at < Math.min(stop, end); at++) {
        const owner = owners[at - first] ?? 0;
        if (owner === 0) owners[at - first] = value;
        else over ||= owner;
      }
      if (over !== 0) clash(block, over);
    });
    yield { start: first * MiB, owners };
  }
}

/** An owner in words. */
export function ownerName(owner: number): string {
  return owner > 0 ? `block ${owner - 1}` : `the sector bitmap of chunk ${-owner - 1}`;
}
