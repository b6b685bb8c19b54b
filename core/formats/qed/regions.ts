// What each stretch of a qed file is for: header, tables, data, what nothing refers to.
import type { Annotation } from '../../bytes/struct.ts';
import type { HostRange } from '../../block/units.ts';
import { silentJob } from '../../job.ts';
import type { Region } from '../driver.ts';
import { QedWalk } from './check.ts';
import { readTable, type QedNode } from './node.ts';
import { qedHeader, zeroCluster } from './spec.ts';

/** Annotations are made for this many bytes of a window at most. */
const windowLimit = 256 * 1024;

/** In the order of the file, every byte once. Throws `qed/too-many-clusters`, `storage/*`. */
export function* qedRegions(node: QedNode): Generator<Region, void, void> {
  const { storage, header, layout } = node;
  const end = storage.size;
  const walk = new QedWalk(node, silentJob);
  const findings = walk.run();
  while (findings.next().done !== true);
  const tables = [header.l1_table_offset, ...walk.tables].sort((a, b) => a - b);
  let at = 0;
  for (const region of headerRegions(node)) {
    const start = Math.max(at, region.start);
    const stop = Math.min(end, region.start + region.length);
    if (stop <= start) continue;
    if (start > at) yield { start: at, length: start - at, ...unused };
    yield { ...region, start, length: stop - start };
    at = stop;
  }
  const headerEnd = Math.min(end, layout.headerBytes);
  if (at < headerEnd) yield { start: at, length: headerEnd - at, ...unused };
  at = Math.max(at, headerEnd);
  for (const table of tables) {
    yield* clusters(walk, node, at, Math.min(table, end));
    const stop = Math.min(end, table + layout.tableBytes);
    const start = Math.max(at, table);
    if (stop > start) yield tableRegion(node, table, { start, length: stop - start });
    at = Math.max(at, stop);
  }
  yield* clusters(walk, node, at, end);
}

const unused = { label: 'unused rest of the header', kind: 'lost', annotate: (): Annotation[] => [] } as const;

function headerRegions(node: QedNode): Region[] {
  const { storage, header, reference } = node;
  const rows = (): Annotation[] => {
    const bytes = new Uint8Array(qedHeader.size);
    storage.readAt(bytes, 0);
    return qedHeader.annotate(bytes, 0);
  };
  const regions: Region[] = [
    { start: 0, length: qedHeader.size, label: 'header', kind: 'header', annotate: (window) => seen(window, rows()) },
  ];
  const { backing_filename_offset: start, backing_filename_size: length } = header;
  if (reference !== null && start >= qedHeader.size && length > 0) {
    const structure = 'backing file name';
    const value = JSON.stringify(reference.path);
    const name = { start, length, structure, field: 'name', value, meaning: 'the layer below', fault: null };
    regions.push({ start, length, label: structure, kind: 'header', annotate: (window) => seen(window, [name]) });
  }
  return regions;
}

function seen(window: HostRange, all: readonly Annotation[]): Annotation[] {
  const end = window.start + window.length;
  return all.filter(({ start, length }) => start < end && start + length > window.start);
}

function tableRegion(node: QedNode, table: number, range: HostRange): Region {
  const label = table === node.header.l1_table_offset ? 'L1 table' : 'L2 table';
  return { ...range, label, kind: 'table', annotate: (window) => entries(node, table, label, range, window) };
}

function entries(node: QedNode, table: number, label: string, range: HostRange, window: HostRange): Annotation[] {
  const from = Math.max(range.start, window.start);
  const to = Math.min(range.start + range.length, window.start + Math.min(window.length, windowLimit));
  if (to <= from) return [];
  const first = Math.floor((from - table) / 8);
  const count = Math.ceil((to - table) / 8) - first;
  const view = new DataView(readTable(node.storage, table + first * 8, count));
  return Array.from({ length: count }, (_, index) => {
    const value = view.getBigUint64(index * 8, true);
    const target = label === 'L1 table' ? 'L2 table' : 'data';
    const words =
      value === 0n
        ? 'unallocated'
        : value === BigInt(zeroCluster) && label === 'L2 table'
          ? 'reads as zeroes'
          : `${target} at 0x${value.toString(16)}`;
    const start = table + (first + index) * 8;
    const meaning = label === 'L1 table' ? 'an L2 table of the guest disk' : 'a cluster of the guest disk';
    const isPlace = value > BigInt(zeroCluster) && value < BigInt(node.storage.size);
    return {
      start,
      length: 8,
      structure: label,
      field: `entry ${first + index}`,
      value: words,
      meaning,
      fault: value > BigInt(zeroCluster) && !isPlace ? 'lies outside of the file' : null,
      path: label === 'L1 table' ? `L1[${first + index}]` : `L2@0x${table.toString(16)}[${first + index}]`,
      section: 'QED: Tables',
      ...(isPlace ? { target: { offset: Number(value) } } : {}),
    };
  });
}

function* clusters(walk: QedWalk, node: QedNode, from: number, to: number): Generator<Region, void, void> {
  const { clusterSize } = node.layout;
  for (let at = from; at < to;) {
    const first = Math.floor(at / clusterSize);
    const stop = Math.min(to, (first + walk.used.run(first, Math.ceil(to / clusterSize))) * clusterSize);
    const used = walk.used.has(first);
    yield {
      start: at,
      length: stop - at,
      label: used ? 'data clusters' : 'lost clusters, referenced by nothing',
      kind: used ? 'data' : 'lost',
      annotate: () => [],
    };
    at = stop;
  }
}
