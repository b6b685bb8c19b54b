// Repair of a VDI: the number of blocks, places that two blocks share, blocks that are no longer in the file, the unused end of the file.
import crypto from 'node:crypto';
import type { Job } from '../../job.ts';
import type { Finding, RepairCounts } from '../driver.ts';
import { fieldOffset, patchHead } from './header.ts';
import type { VdiNode } from './node.ts';
import { freeBlock, imageType, nullUuid, zeroBlock, type Header1 } from './spec.ts';

/** Blocks between two looks at the job. */
const chunk = 65_536;

/** A block that gets another entry, and why. */
interface Change {
  readonly block: number;
  readonly code: string;
  readonly text: string;
  /** The place to copy from; null: the block has none any more and becomes zeroes. */
  readonly from: number | null;
}

/**
 * Repairs in place. With `all`: the second of two blocks that share a place gets a copy of it, so that both read as before; a block
 * whose place is not in the file at all becomes zeroes (what it held is lost); a file that ends inside a block is filled up with
 * zeroes; null UUIDs are replaced. Always: the number of blocks is set to what the map needs, and space behind the last block is cut
 * off. A block map with numbers that the image cannot have is left as it is. Nothing is done to static images but their UUIDs and
 * count. Order on disk: data, header, block map, end of the file. Throws `storage/*`, `request/cancelled`.
 */
export function repairVdi(
  node: VdiNode,
  what: 'leaks' | 'all',
  job: Job,
  tell: (finding: Finding) => void = () => {},
): RepairCounts {
  const all = what === 'all';
  const counts = { corruptions: 0, leaks: 0 };
  const fix = (severity: 'corruption' | 'leak', code: string, text: string, offset: number, count = 1): void => {
    const where = { file: node.name, offset };
    tell({ code: `vdi/check-${code}`, severity, text: `Repairing ${text}`, where, count, repair: null, fixed: true });
    if (severity === 'leak') counts.leaks += count;
    else counts.corruptions += count;
  };
  const { values } = node.header;
  const patch: Partial<Header1> = {};
  for (const field of ['uuid_create', 'uuid_modify'] as const) {
    if (!all || values[field] !== nullUuid) continue;
    patch[field] = crypto.randomUUID();
    fix('corruption', 'uuid', `${field}, which is null`, fieldOffset(node.header, field));
  }
  const dynamic = values.image_type !== imageType.static;
  const { changes, used, highest, held } = survey(node, dynamic && all, job);
  const top = dynamic ? applyChanges(node, changes, used, highest, fix) : highest;
  if (dynamic && all && held > node.storage.size) {
    fix('corruption', 'outside', `the last block, which ends behind the end of the file`, node.storage.size);
    node.storage.truncate(held);
  }
  const { blocks_allocated: stated } = values;
  const sound = top + 1 < values.blocks_in_image + 1;
  if (sound && stated !== top + 1 && (all || stated > top + 1)) {
    const severity = stated < top + 1 ? 'corruption' : 'leak';
    const text = `allocated blocks, which are ${top + 1}, not ${stated}`;
    fix(severity, 'count', text, fieldOffset(node.header, 'blocks_allocated'), Math.abs(stated - top - 1));
    patch.blocks_allocated = top + 1;
  }
  node.storage.flush();
  patchHeader(node, patch);
  if (node.blockMap.isDirty) {
    node.blockMap.write();
    node.storage.flush();
  }
  if (sound && dynamic) cutEnd(node, top, fix);
  return counts;
}

type Fix = (severity: 'corruption' | 'leak', code: string, text: string, offset: number, count?: number) => void;

/** Goes through the map: what is to be changed, which places are used, the highest of them, and how long the file must be. */
function survey(
  node: VdiNode,
  changing: boolean,
  job: Job,
): { changes: Change[]; used: Uint8Array; highest: number; held: number } {
  const { blockMap, storage, blockSize } = node;
  const { blocks_in_image: blocks } = node.header.values;
  const used = new Uint8Array(Math.ceil(blocks / 8));
  const changes: Change[] = [];
  let highest = -1;
  let held = 0;
  for (let block = 0; block < blockMap.entries; block++) {
    if (block % chunk === 0) job.throwIfCancelled();
    const entry = blockMap.get(block);
    if (entry === freeBlock || entry === zeroBlock) continue;
    if (changing && node.placeOf(entry) >= storage.size) {
      const text = `block ${block}, of which nothing is in the file: it reads as zeroes from now on`;
      changes.push({ block, code: 'outside', text, from: null });
      continue;
    }
    if (entry >= blocks) {
      highest = Math.max(highest, entry);
      continue;
    }
    const mask = 1 << (entry & 7);
    if (((used[entry >> 3] ?? 0) & mask) !== 0 && changing) {
      const text = `block ${block}, whose place another block has too: it gets a copy of its own`;
      changes.push({ block, code: 'shared', text, from: entry });
    }
    used[entry >> 3] = (used[entry >> 3] ?? 0) | mask;
    highest = Math.max(highest, entry);
    held = Math.max(held, node.placeOf(entry) + Math.min(blockSize, node.size - block * blockSize));
  }
  return { changes, used, highest, held };
}

/** Gives copies their places, the lowest that nobody has; returns the highest place there is then. */
function applyChanges(node: VdiNode, changes: readonly Change[], used: Uint8Array, highest: number, fix: Fix): number {
  const { blockMap, storage, blockSize } = node;
  const { blocks_in_image: blocks, block_extra: extra } = node.header.values;
  let next = 0;
  let top = highest;
  for (const { block, code, text, from } of changes) {
    const at = blockMap.offset + 4 * block;
    if (from === null) {
      blockMap.set(block, zeroBlock);
      fix('corruption', code, text, at);
      continue;
    }
    while (next < blocks && ((used[next >> 3] ?? 0) & (1 << (next & 7))) !== 0) next++;
    if (next >= blocks) return top;
    const bytes = new Uint8Array(extra + blockSize);
    const source = node.placeOf(from) - extra;
    storage.readAt(bytes.subarray(0, Math.min(bytes.length, storage.size - source)), source);
    storage.writeAt(bytes, node.placeOf(next) - extra);
    used[next >> 3] = (used[next >> 3] ?? 0) | (1 << (next & 7));
    blockMap.set(block, next);
    top = Math.max(top, next);
    fix('corruption', code, text, at);
  }
  return top;
}

function patchHeader(node: VdiNode, values: Partial<Header1>): void {
  if (Object.keys(values).length === 0) return;
  const head = node.head.slice();
  patchHead(head, node.header, values);
  node.storage.writeAt(head, 0);
  node.storage.flush();
  node.head = head;
  node.header = { ...node.header, values: { ...node.header.values, ...values } };
}

/** Whole blocks behind the last one are given back. */
function cutEnd(node: VdiNode, top: number, fix: Fix): void {
  const { offset_data: data, block_extra: extra, block_size: size } = node.header.values;
  const end = data + (top + 1) * (extra + size);
  const count = Math.floor((node.storage.size - end) / (extra + size));
  if (count < 1) return;
  fix('leak', 'leak', `space for ${count} block${count === 1 ? '' : 's'} behind the last one: cut off`, end, count);
  node.storage.truncate(end);
  node.storage.flush();
}
