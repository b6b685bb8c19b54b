// The deep check of a VHD: both footers, the header, every block's room, the names and the identity of the parent.
import type { Job } from '../../job.ts';
import { ImageError } from '../../errors/image-error.ts';
import { relinkRepair, type CheckSummary, type Finding } from '../driver.ts';
import { placedBlocks } from './blocks.ts';
import { findFooters } from './footer.ts';
import { roomAt } from './layout.ts';
import { DynamicNode, type VhdNode } from './node.ts';
import { claimOf, openParent } from './parent.ts';
import { checksumOf, dynamicHeader, footer, unallocated, type Footer } from './spec.ts';
import { structures, type FixedUse } from './use.ts';

type Severity = Finding['severity'];

function finding(node: VhdNode, severity: Severity, code: string, text: string, more: Partial<Finding> = {}): Finding {
  const { where, count = 1, repair = null } = more;
  return { code, severity, text, where: { file: node.name, ...where }, count, repair };
}

/** Findings one by one; the figures at the end count blocks. Throws `storage/*`, `request/cancelled`. */
export function* checkVhd(node: VhdNode, job: Job): Generator<Finding, CheckSummary, void> {
  yield* checkFooters(node);
  if (node instanceof DynamicNode) return yield* checkDynamic(node, job);
  return {
    imageEndOffset: node.storage.size,
    totalClusters: null,
    allocatedClusters: null,
    fragmentedClusters: null,
    compressedClusters: null,
  };
}

function* checkFooters(node: VhdNode): Generator<Finding, void, void> {
  const { start, end } = findFooters(node.storage);
  const again = 'write the footer again';
  const dynamic = node instanceof DynamicNode;
  const endAt = { offset: Math.max(0, node.storage.size - footer.size) };
  if (end === null) {
    const text = 'ERROR the footer at the end of the file is missing';
    yield finding(node, 'corruption', 'vhd/check-footer-missing', text, { where: endAt, repair: again });
  } else if (!end.checksumHolds) {
    const text = 'ERROR the checksum of the footer at the end of the file is wrong';
    const where = { offset: end.offset, field: 'checksum' };
    yield finding(node, 'corruption', 'vhd/check-footer-checksum', text, { where, repair: again });
  }
  if (!dynamic) {
    const held = end?.offset ?? node.storage.size;
    if (node.footer.current_size > held) {
      const text = `ERROR the disk has ${node.footer.current_size} bytes, the file holds ${held}`;
      yield finding(node, 'corruption', 'vhd/check-short', text, { where: { offset: held, field: 'current_size' } });
    }
    return;
  }
  if (start === null || !start.checksumHolds) {
    const what = start === null ? 'is missing' : 'has a wrong checksum';
    const text = `ERROR the copy of the footer at the start of the file ${what}`;
    yield finding(node, 'corruption', 'vhd/check-footer-copy', text, { where: { offset: 0 }, repair: again });
    return;
  }
  if (end === null || !end.checksumHolds) return;
  for (const field of differingFields(start.bytes, end.bytes)) {
    const text = `ERROR the footer and its copy differ: ${field}`;
    yield finding(node, 'corruption', 'vhd/check-footers-differ', text, { where: { offset: end.offset, field } });
  }
}

function differingFields(a: Uint8Array, b: Uint8Array): string[] {
  return Object.entries(footer.fields).flatMap(([name, { offset, type }]) => {
    const same = Buffer.compare(a.subarray(offset, offset + type.width), b.subarray(offset, offset + type.width)) === 0;
    return same || name === ('checksum' satisfies keyof Footer) ? [] : [name];
  });
}

function* checkDynamic(node: DynamicNode, job: Job): Generator<Finding, CheckSummary, void> {
  const { checksum } = dynamicHeader.fields;
  if (checksumOf(node.headerBytes, checksum.offset) !== node.header.checksum) {
    const where = { offset: node.headerOffset + checksum.offset, field: 'checksum' };
    const text = 'ERROR the checksum of the dynamic disk header is wrong';
    yield finding(node, 'corruption', 'vhd/check-header-checksum', text, { where, repair: 'write the checksum again' });
  }
  yield* checkStructures(node);
  yield* checkRooms(node, job);
  if (node.differencing) yield* checkParent(node);
  return summary(node);
}

function* checkStructures(node: DynamicNode): Generator<Finding, void, void> {
  const found = structures(node);
  for (const [index, use] of found.entries()) {
    const next = found[index + 1];
    if (next === undefined || use.start + use.length <= next.start) continue;
    const text = `ERROR ${nameOf(use)} and ${nameOf(next)} overlap`;
    yield finding(node, 'corruption', 'vhd/check-overlap', text, { where: { offset: next.start } });
  }
  for (const { entry, index } of node.locators) {
    if (entry.platform_data_offset + entry.platform_data_length <= node.storage.size) continue;
    const text = `ERROR parent locator ${index + 1} (${entry.platform_code}) points outside of the file`;
    const where = { offset: entry.platform_data_offset, field: `parent_locator_entry_${index + 1}` };
    yield finding(node, 'corruption', 'vhd/check-locator', text, { where });
  }
}

function nameOf({ what, index }: FixedUse): string {
  switch (what) {
    case 'footer copy':
      return 'the copy of the footer';
    case 'header':
      return 'the dynamic disk header';
    case 'table':
      return 'the BAT';
    case 'name':
      return `parent name ${index + 1}`;
    case 'batmap':
      return 'the batmap';
  }
}

/** Rooms in the order of the file: outside of it, on top of a structure or of each other, and the space that nothing uses. */
function* checkRooms(node: DynamicNode, job: Job): Generator<Finding, void, void> {
  const { roomSize } = node.layout;
  const { table, storage } = node;
  const fixed = structures(node);
  const total = table.entries;
  let next = 0;
  let done = 0;
  let end = 0;
  let last: number | null = null;
  const entryAt = (block: number) => ({ offset: table.offset + 4 * block, field: `BAT[${block}]` });
  const gap = function* (upTo: number): Generator<Finding, void, void> {
    const count = Math.floor((upTo - end) / roomSize);
    if (count < 1) return;
    const text = `Leaked space for ${count} block${count === 1 ? '' : 's'} at offset ${end}`;
    yield finding(node, 'leak', 'vhd/check-leak', text, { where: { offset: end }, count, repair: 'convert the image' });
  };
  for (const { block, room } of placedBlocks(node)) {
    if (done++ % 4096 === 0) {
      job.throwIfCancelled();
      job.progress({ phase: 'check', done, total });
    }
    if (room + roomSize > storage.size) {
      const text = `ERROR block ${block} lies outside of the file: offset ${room}`;
      yield finding(node, 'corruption', 'vhd/check-outside', text, { where: entryAt(block) });
      continue;
    }
    for (let use = fixed[next]; use !== undefined && use.start < room + roomSize; use = fixed[++next]) {
      if (use.start > end) yield* gap(use.start);
      end = Math.max(end, use.start + use.length);
    }
    const struck = fixed.find((use) => use.start < room + roomSize && use.start + use.length > room);
    if (struck !== undefined) {
      const text = `ERROR block ${block} overlaps ${nameOf(struck)}`;
      yield finding(node, 'corruption', 'vhd/check-overlap', text, { where: entryAt(block) });
    } else if (last !== null && room < roomAt(table.get(last)) + roomSize) {
      const text = `ERROR block ${block} and block ${last} share offset ${room}`;
      yield finding(node, 'corruption', 'vhd/check-shared', text, { where: entryAt(block) });
    }
    if (room > end) yield* gap(room);
    end = Math.max(end, room + roomSize);
    last = block;
  }
  for (; next < fixed.length; next++) {
    const use = fixed[next];
    if (use === undefined) break;
    if (use.start > end) yield* gap(use.start);
    end = Math.max(end, use.start + use.length);
  }
  yield* gap(storage.size - footer.size);
}

function* checkParent(node: DynamicNode): Generator<Finding, void, void> {
  const claim = claimOf(node.header, node.headerBytes, node.locators, node.footer);
  try {
    openParent(claim, node.name, node.gate).close();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const severity = error.code === 'vhd/parent-changed' ? 'corruption' : 'error';
    const where = { offset: node.headerOffset, field: 'parent_unique_id' };
    yield finding(node, severity, error.code, `ERROR ${error.message}`, {
      where,
      repair: severity === 'corruption' ? relinkRepair : null,
    });
  }
}

function summary(node: DynamicNode): CheckSummary {
  const { table, layout } = node;
  let allocated = 0;
  let fragmented = 0;
  let expected = -1;
  for (let block = 0; block < table.entries; block++) {
    const entry = table.get(block);
    if (entry === unallocated) continue;
    allocated++;
    if (expected >= 0 && roomAt(entry) !== expected) fragmented++;
    expected = roomAt(entry) + layout.roomSize;
  }
  return {
    imageEndOffset: node.storage.size,
    totalClusters: table.entries,
    allocatedClusters: allocated,
    fragmentedClusters: fragmented,
    compressedClusters: 0,
  };
}
