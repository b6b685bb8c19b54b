// What each stretch of the guest's disk is: partition tables, the heads of file systems, partitions, and what no partition has.
import type { Annotation } from '../bytes/struct.ts';
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import type { HostRange } from '../block/units.ts';
import { isImageError } from '../errors/image-error.ts';
import type { Region } from '../formats/driver.ts';
import { fileSystemsOf, type FoundFileSystem } from './file-systems.ts';
import { headsOf } from './file-system-heads.ts';
import type { GptCopy } from './gpt.ts';
import { extendedLinks, isExtended, readMbr } from './mbr.ts';
import { isContainer, readPartitionTable, type PartitionTable } from './partitions.ts';
import { gptEntry, gptHeader, mbr, mbrLength, mbrRecord, sectorSizes } from './spec.ts';

/** A stretch with annotations, before gaps are named. */
export type Stretch = Region;

/**
 * The regions of the guest's disk in order, every byte once. What cannot be read or contradicts itself is left out: the stretch then
 * counts as plain data.
 */
export function guestRegions(node: BlockNode): Region[] {
  const table = tolerant(() => readPartitionTable(node), null);
  const systems = tolerant(() => fileSystemsOf(node), []);
  const heads = [...tableStretches(node, table), ...systems.flatMap(({ fileSystem }) => headsOf(node, fileSystem))];
  heads.sort((a, b) => a.start - b.start);
  const parts = partitionsOf(node, table, systems);
  const regions: Region[] = [];
  let at = 0;
  const fill = (until: number): void => {
    while (at < until) {
      const inside = parts.find(({ start, end }) => start <= at && at < end);
      const next = parts.find(({ start }) => start > at);
      const stop = Math.min(until, inside?.end ?? next?.start ?? until);
      const label = inside?.label ?? (parts.length === 0 ? 'guest data' : 'not in a partition');
      regions.push({ start: at, length: stop - at, label, kind: 'data', annotate: () => [] });
      at = stop;
    }
  };
  for (const head of heads) {
    const start = Math.max(at, head.start);
    const end = Math.min(node.size, head.start + head.length);
    if (end <= start) continue;
    fill(start);
    regions.push({ ...head, start, length: end - start });
    at = end;
  }
  fill(node.size);
  return regions;
}

function tolerant<Result>(read: () => Result, otherwise: Result): Result {
  try {
    return read();
  } catch (error) {
    if (isImageError(error)) return otherwise;
    throw error;
  }
}

interface Part {
  readonly start: number;
  readonly end: number;
  readonly label: string;
}

function partitionsOf(
  node: BlockNode,
  table: PartitionTable | null,
  systems: readonly FoundFileSystem[],
): readonly Part[] {
  const kindOf = (number: number | null): string => {
    const found = systems.find(({ partition }) => partition === number)?.fileSystem.kind;
    return found === undefined || found === 'unknown' ? '' : ` (${found})`;
  };
  if (table === null) {
    const kind = systems[0]?.fileSystem.kind;
    return kind === undefined ? [] : [{ start: 0, end: node.size, label: kind }];
  }
  return table.partitions
    .filter((partition) => !isContainer(partition))
    .map(({ number, start, length }) => ({
      start,
      end: Math.min(node.size, start + length),
      label: `partition ${number}${kindOf(number)}`,
    }))
    .sort((a, b) => a.start - b.start);
}

/** The annotations of `rows` that touch the window. */
export function seen(window: HostRange, rows: readonly Annotation[]): Annotation[] {
  const end = window.start + window.length;
  return rows.filter(({ start, length }) => start < end && start + length > window.start);
}

/** `length` guest bytes from `start`; what lies behind the end of the disk is zero. */
export function guestBytes(node: BlockNode, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const inside = Math.max(0, Math.min(length, node.size - start));
  if (inside > 0) readGuest(node, bytes.subarray(0, inside), start);
  return bytes;
}

function* tableStretches(node: BlockNode, table: PartitionTable | null): Generator<Stretch, void, void> {
  const records = tolerant(() => readMbr(node), null);
  if (records === null) return;
  const sectorSize = table?.sectorSize ?? sectorSizes[0];
  const name = table?.kind === 'gpt' ? 'protective MBR' : 'MBR';
  yield mbrStretch(node, { at: 0, name, path: 'mbr', bases: [0, 0, 0, 0] }, sectorSize);
  if (table?.kind === 'mbr') {
    let count = 0;
    for (const { starting_lba: base } of records.filter(isExtended)) {
      for (const { link } of tolerant(() => [...extendedLinks(node, base, sectorSize)], [])) {
        const path = `ebr[${count++}]`;
        const place = { at: link * sectorSize, name: `extended boot record ${count}`, path };
        yield mbrStretch(node, { ...place, bases: [link, base, 0, 0] }, sectorSize);
      }
    }
  }
  const { primary = null, backup = null } = table?.gpt ?? {};
  if (primary !== null) yield* gptStretches(primary, 'gpt', 'GPT');
  if (backup !== null) yield* gptStretches(backup, 'gpt_backup', 'backup GPT');
}

/** A sector with four records; `bases`: the sectors that each record's first sector counts from. */
function mbrStretch(
  node: BlockNode,
  { at, name, path, bases }: { at: number; name: string; path: string; bases: readonly number[] },
  sectorSize: number,
): Stretch {
  const annotate = (window: HostRange): Annotation[] => {
    const bytes = guestBytes(node, at, mbrLength);
    const rows = mbr.annotate(bytes, at).map((row) => ({ ...row, structure: name, path: `${path}.${row.field}` }));
    const table = rows.findIndex(({ field }) => field === 'partition_records');
    const from = mbr.fields.partition_records.offset;
    const records = [0, 1, 2, 3].flatMap((index) =>
      mbrRecord
        .annotate(bytes.subarray(from + 16 * index, from + 16 * index + 16), at + from + 16 * index)
        .map((row) => {
          const lba = row.field === 'starting_lba' ? Number.parseInt(row.value, 10) : 0;
          const named = {
            ...row,
            structure: `${name}: record ${index + 1}`,
            path: `${path}.partition[${index}].${row.field}`,
          };
          return lba > 0 ? { ...named, target: { offset: ((bases[index] ?? 0) + lba) * sectorSize } } : named;
        }),
    );
    rows.splice(table, 1, ...records);
    return seen(window, rows);
  };
  return { start: at, length: mbrLength, label: name, kind: 'header', annotate };
}

const sectorFields = new Set(['my_lba', 'alternate_lba', 'first_usable_lba', 'last_usable_lba', 'partition_entry_lba']);

function* gptStretches(copy: GptCopy, path: string, name: string): Generator<Stretch, void, void> {
  const { sectorSize, header, headerBytes } = copy;
  const at = header.my_lba * sectorSize;
  const leads = (row: Annotation, fields: ReadonlySet<string>): Annotation => {
    const lba = fields.has(row.field) ? Number.parseInt(row.value, 10) : 0;
    return lba > 0 ? { ...row, target: { offset: lba * sectorSize } } : row;
  };
  yield {
    start: at,
    length: headerBytes.length,
    label: `${name} header`,
    kind: 'header',
    annotate: (window) =>
      seen(
        window,
        gptHeader
          .annotate(headerBytes, at)
          .map((row) => leads({ ...row, structure: `${name} header`, path: `${path}.${row.field}` }, sectorFields)),
      ),
  };
  const first = header.partition_entry_lba * sectorSize;
  const step = header.size_of_partition_entry;
  yield {
    start: first,
    length: copy.entries.length,
    label: `${name} entries`,
    kind: 'table',
    annotate(window) {
      const from = Math.max(0, Math.floor((window.start - first) / step));
      const to = Math.min(header.number_of_partition_entries, Math.ceil((window.start + window.length - first) / step));
      const rows: Annotation[] = [];
      for (let index = from; index < to; index++) {
        const bytes = copy.entries.subarray(index * step, (index + 1) * step);
        for (const row of gptEntry.annotate(bytes, first + index * step)) {
          const named = {
            ...row,
            structure: `${name} entry ${index + 1}`,
            path: `${path}.entry[${index}].${row.field}`,
          };
          const isName = row.field === 'partition_name';
          const text = isName ? JSON.stringify(utf16(bytes.subarray(56, 128))) : row.value;
          rows.push(leads({ ...named, value: text }, entryFields));
        }
      }
      return seen(window, rows);
    },
  };
}

const entryFields = new Set(['starting_lba', 'ending_lba']);

function utf16(bytes: Uint8Array): string {
  const whole = new TextDecoder('utf-16le').decode(bytes);
  const end = whole.indexOf('\0');
  return end < 0 ? whole : whole.slice(0, end);
}
