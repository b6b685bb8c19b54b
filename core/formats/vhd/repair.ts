// Repair of a VHD: each footer from the other one, the checksum of the header, rooms that two blocks share, blocks that are gone.
import type { Job } from '../../job.ts';
import type { Finding, RepairCounts } from '../driver.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { placedBlocks } from './blocks.ts';
import { findFooters, patchedFooter } from './footer.ts';
import { roomAt } from './layout.ts';
import { DynamicNode, type VhdNode } from './node.ts';
import { checksumOf, dynamicHeader, footer, sectorSize, unallocated } from './spec.ts';
import { endOfUse, structures } from './use.ts';

type Fix = (code: string, text: string, offset: number) => void;

/**
 * Repairs in place, with `all` only (space that nobody uses is the business of compact). The second of two blocks with the very same room
 * gets a copy of it, so that both read as before; a block of a dynamic disk of whose room nothing is in the file becomes zeroes (what it
 * held is lost; in a differencing disk it would show the parent's bytes, so there it is left); a file that was cut inside of a block is
 * filled up with zeroes. Then a missing or damaged footer is
 * written from the other one, and a footer of a fixed disk whose size fits the file gets its checksum. The checksum of the dynamic header is
 * written again only where the BAT that it leads to has no fault at all, and never in a differencing disk, whose parent fields nothing
 * else confirms. Left as they are: footers that differ, rooms that overlap in part or lie on other structures. Throws `storage/*`,
 * `request/cancelled`.
 */
export function repairVhd(
  node: VhdNode,
  what: 'leaks' | 'all',
  job: Job,
  tell: (finding: Finding) => void = () => {},
): RepairCounts {
  const counts = { corruptions: 0, leaks: 0 };
  if (what === 'leaks') return counts;
  const fix: Fix = (code, text, offset) => {
    const where = { file: node.name, offset };
    const severity = 'corruption';
    tell({
      code: `vhd/check-${code}`,
      severity,
      text: `Repairing ${text}`,
      where,
      count: 1,
      repair: null,
      fixed: true,
    });
    counts.corruptions++;
  };
  if (!(node instanceof DynamicNode)) {
    repairFixed(node, fix);
    return counts;
  }
  const sound = repairTable(node, job, fix);
  repairFooters(node, fix);
  if (sound) repairHeader(node, fix);
  return counts;
}

function repairFixed(node: VhdNode, fix: Fix): void {
  const { end } = findFooters(node.storage);
  if (end === null || end.checksumHolds || node.footer.current_size !== end.offset || end.length !== footer.size)
    return;
  node.storage.writeAt(patchedFooter(end.bytes, {}), end.offset);
  node.storage.flush();
  fix('footer-checksum', 'the checksum of the footer', end.offset);
}

/** True when the BAT had, or has now, no block outside of the file, shared, or on top of anything. */
function repairTable(node: DynamicNode, job: Job, fix: Fix): boolean {
  const { table, layout, storage } = node;
  const { roomSize } = layout;
  const fixed = structures(node);
  const copies: { block: number; room: HostOffset }[] = [];
  const gone: number[] = [];
  const cut: { block: number; end: HostOffset }[] = [];
  const ends = findFooters(storage).end !== null;
  let sound = true;
  let last = -1;
  let done = 0;
  for (const { block, room } of placedBlocks(node)) {
    if (done++ % 4096 === 0) job.throwIfCancelled();
    if (room >= storage.size && !node.differencing) gone.push(block);
    else if (room < storage.size && room + roomSize > storage.size && !node.differencing && !ends) {
      cut.push({ block, end: room + roomSize });
    } else if (room + roomSize > storage.size) sound = false;
    else if (fixed.some((use) => use.start < room + roomSize && use.start + use.length > room)) sound = false;
    else if (room === last) copies.push({ block, room });
    else if (last >= 0 && room < last + roomSize) sound = false;
    else last = room;
  }
  for (const block of gone) table.set(block, unallocated);
  for (const { block, end } of cut) {
    if (storage.size < end) storage.truncate(end);
    fix('outside', `block ${block}, which ends behind the end of the file: the rest of it is zeroes`, end);
  }
  // Behind everything, the footer too: that stays the last thing in the file until the new one is there.
  let end = alignUp(storage.size, sectorSize);
  for (const { block, room } of copies) {
    const bytes = new Uint8Array(roomSize);
    storage.readAt(bytes, room);
    storage.writeAt(bytes, end);
    table.set(block, end / sectorSize);
    end += roomSize;
  }
  if (copies.length > 0) {
    storage.writeAt(node.footerBytes, end);
    storage.flush();
  }
  if (table.isDirty) {
    table.write(storage);
    storage.flush();
  }
  for (const block of gone) {
    const text = `block ${block}, of which nothing is in the file: it reads as zeroes from now on`;
    fix('outside', text, table.offset + 4 * block);
  }
  for (const { block } of copies) {
    fix(
      'shared',
      `block ${block}, whose room another block has too: it gets a copy of its own`,
      table.offset + 4 * block,
    );
  }
  return sound;
}

function repairFooters(node: DynamicNode, fix: Fix): void {
  const { storage } = node;
  const { start, end } = findFooters(storage);
  const startHolds = start?.checksumHolds === true;
  const endHolds = end?.checksumHolds === true;
  if (startHolds && !endHolds) {
    const used = alignUp(storage.size, sectorSize);
    // A block outside of the file would come to lie in it, with other bytes than its own.
    if (endOfUse(node) > used) return;
    const at = end === null || end.length !== footer.size ? used : end.offset;
    storage.writeAt(start.bytes, at);
    storage.flush();
    fix(end === null ? 'footer-missing' : 'footer-checksum', 'the footer at the end of the file, from its copy', at);
  } else if (endHolds && !startHolds) {
    const [first] = structures(node).filter(({ what }) => what !== 'footer copy');
    if (first !== undefined && first.start < footer.size) return;
    storage.writeAt(end.bytes, 0);
    storage.flush();
    fix('footer-copy', 'the copy of the footer at the start of the file', 0);
  }
}

function repairHeader(node: DynamicNode, fix: Fix): void {
  const { checksum } = dynamicHeader.fields;
  const right = checksumOf(node.headerBytes, checksum.offset);
  if (right === node.header.checksum || node.differencing || !hasSoundHeader(node)) return;
  const bytes = node.headerBytes.slice();
  dynamicHeader.patch(bytes, { checksum: right });
  node.storage.writeAt(bytes, node.headerOffset);
  node.storage.flush();
  fix('header-checksum', 'the checksum of the dynamic disk header', node.headerOffset + checksum.offset);
}

/** The table that the header describes is just what the disk needs, and some block confirms where it stands. */
function hasSoundHeader(node: DynamicNode): boolean {
  const { table, header, layout } = node;
  if (header.max_table_entries < table.entries || header.block_size !== layout.blockSize) return false;
  let known = 0;
  for (let block = 0; block < table.entries; block++) {
    const entry = table.get(block);
    if (entry === unallocated) continue;
    if (roomAt(entry) % sectorSize !== 0) return false;
    known++;
  }
  return known > 0;
}
