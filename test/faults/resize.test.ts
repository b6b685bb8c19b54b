// Power cuts while a disk is resized, at every step: what is left has the old size or the new one, each with all that belongs to it.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../core/block/memory.ts';
import { isWritable, type BlockNode, type Preallocation, type WritableNode } from '../../core/block/node.ts';
import { readGuest } from '../../core/block/read.ts';
import type { Storage } from '../../core/block/storage.ts';
import { writeGuest } from '../../core/block/write.ts';
import type { FormatDriver, OpenGate, OptionValue } from '../../core/formats/driver.ts';
import { driverNamed } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';
import { difference, positionCoded } from '../position-coded.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';
import { StepCounter } from './failing-storage.ts';
import { PowerCut, PowerCutStorage } from './power-cut.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const seed = chosenSeed('power cuts while resizing');

interface Row {
  readonly name: string;
  readonly format: string;
  readonly options?: Readonly<Record<string, OptionValue>>;
  readonly size: number;
  /** Stretches of the pattern, start and length. */
  readonly written: readonly (readonly [number, number])[];
  readonly to: readonly number[];
  /** Format of a layer below that is filled with a pattern and longer than the disk. */
  readonly below?: string;
  readonly preallocation?: Preallocation;
  /** Codes of findings that a cut may leave and a repair puts right; none by default. */
  readonly repairable?: readonly string[];
}

const rows: readonly Row[] = [
  { name: 'raw', format: 'raw', size: 200 * KiB, written: [[0, 200 * KiB]], to: [300 * KiB, 100 * KiB + 512] },
  {
    name: 'qcow2',
    format: 'qcow2',
    options: { cluster_size: 4096 },
    size: 3 * MiB + 512,
    written: [
      [0, 100 * KiB],
      [3 * MiB - 100 * KiB, 100 * KiB + 512],
    ],
    to: [MiB + 512, 3 * MiB + 1024, 1200 * MiB],
  },
  {
    name: 'qcow2 preallocated',
    format: 'qcow2',
    options: { cluster_size: 4096 },
    size: MiB + 512,
    written: [
      [0, 100 * KiB],
      [MiB - KiB, KiB + 512],
    ],
    to: [3 * MiB],
    preallocation: 'metadata',
  },
  {
    name: 'qcow2 over a longer layer',
    format: 'qcow2',
    options: { cluster_size: 4096 },
    size: MiB + 512,
    written: [[100 * KiB, 100 * KiB]],
    to: [300 * KiB, 2 * MiB + 512],
    below: 'raw',
  },
  {
    name: 'qcow2 version 2 over a longer layer',
    format: 'qcow2',
    options: { cluster_size: 4096, compat: '0.10' },
    size: MiB + 512,
    written: [[100 * KiB, 100 * KiB]],
    to: [MiB + 100 * KiB],
    below: 'raw',
  },
  {
    name: 'qcow2 with subclusters',
    format: 'qcow2',
    options: { cluster_size: 16384, extended_l2: true },
    size: MiB + 512,
    written: [
      [100 * KiB, 100 * KiB],
      [MiB - KiB, KiB + 512],
    ],
    to: [300 * KiB, 2 * MiB + 512],
    below: 'raw',
  },
  {
    name: 'qcow',
    format: 'qcow',
    size: MiB,
    written: [
      [0, 50 * KiB],
      [900 * KiB, 50 * KiB],
    ],
    to: [500 * KiB, 2 * MiB, 2300 * MiB],
  },
  {
    name: 'qcow over a longer layer',
    format: 'qcow',
    size: MiB,
    written: [[0, 50 * KiB]],
    to: [500 * KiB, MiB + 64 * KiB],
    below: 'raw',
  },
  {
    name: 'vpc fixed',
    format: 'vpc',
    options: { subformat: 'fixed', force_size: true },
    size: 200 * KiB,
    written: [[0, 200 * KiB]],
    to: [300 * KiB, 100 * KiB],
  },
  {
    name: 'vpc dynamic',
    format: 'vpc',
    options: { force_size: true },
    size: 5 * MiB,
    written: [
      [0, 50 * KiB],
      [MiB - 10 * KiB, 20 * KiB],
      [5 * MiB - 10 * KiB, 10 * KiB],
    ],
    to: [MiB + 512, 7 * MiB, 2000 * MiB],
    repairable: ['vhd/check-footers-differ', 'vhd/check-footer-missing'],
  },
  {
    name: 'vpc differencing',
    format: 'vpc',
    options: { force_size: true },
    size: 6301696,
    written: [[0, 50 * KiB]],
    to: [MiB, 7 * MiB + 512],
    below: 'vpc',
    repairable: ['vhd/check-footers-differ', 'vhd/check-footer-missing'],
  },
  {
    name: 'vdi',
    format: 'vdi',
    size: 3 * MiB + 512,
    written: [
      [0, 50 * KiB],
      [MiB - KiB, 2 * KiB],
      [3 * MiB, 512],
    ],
    to: [MiB + 512, 6 * MiB, 600 * 1024 * MiB],
    // Blocks that make room for a larger map stand behind the count of the smaller disk for a moment.
    repairable: ['vdi/check-too-large'],
  },
  {
    name: 'vdi static',
    format: 'vdi',
    options: { static: true },
    size: 2 * MiB,
    written: [[0, 50 * KiB]],
    to: [MiB + 512, 4 * MiB],
  },
  {
    name: 'vdi differencing',
    format: 'vdi',
    size: 2 * MiB,
    written: [[0, 50 * KiB]],
    to: [MiB + 512, 3 * MiB + 512],
    below: 'vdi',
  },
  {
    name: 'vhdx',
    format: 'vhdx',
    options: { block_size: MiB },
    size: 3 * MiB + 512,
    written: [
      [0, 50 * KiB],
      [MiB - KiB, 2 * KiB],
      [3 * MiB, 512],
    ],
    to: [MiB + 512, 6 * MiB],
    repairable: ['vhdx/check-log-pending'],
  },
  {
    name: 'vhdx differencing',
    format: 'vhdx',
    options: { block_size: MiB },
    size: 2 * MiB,
    written: [[0, 50 * KiB]],
    to: [MiB + 512, 3 * MiB + 512],
    below: 'vhdx',
    repairable: ['vhdx/check-log-pending'],
  },
  {
    name: 'vmdk',
    format: 'vmdk',
    size: 3 * MiB + 512,
    written: [
      [0, 50 * KiB],
      [3 * MiB - KiB, KiB + 512],
    ],
    to: [MiB + 512, 6 * MiB, 300 * MiB],
    repairable: ['vmdk/extent-size'],
  },
  {
    name: 'vmdk delta',
    format: 'vmdk',
    size: 2 * MiB,
    written: [[0, 50 * KiB]],
    to: [MiB + 512, 2 * MiB + 192 * KiB],
    below: 'vmdk',
    repairable: ['vmdk/extent-size'],
  },
];

/** Larger than any disk over it. */
const belowSize = 6 * MiB;

function gateOver(base: (() => BlockNode) | null): OpenGate {
  const none = (): never => {
    throw new Error('nothing else belongs to this image');
  };
  return { openImage: base ?? none, openFile: none };
}

function open(driver: FormatDriver, storage: Storage, writable: boolean, base: (() => BlockNode) | null): BlockNode {
  return driver.open(storage, { writable, gate: gateOver(base), withBacking: true, runtime: {}, forRepair: false });
}

function writableOver(driver: FormatDriver, storage: Storage, base: (() => BlockNode) | null): WritableNode {
  const node = open(driver, storage, true, base);
  if (!isWritable(node)) throw new Error('read-only');
  return node;
}

function create(
  format: string,
  size: number,
  options: Row['options'],
  base: (() => BlockNode) | null,
  below: string,
): MemoryStorage {
  const storage = new MemoryStorage(new Uint8Array(0), 'disk');
  driverNamed(format).create?.({
    storage,
    name: 'disk',
    size,
    options: options ?? {},
    backing: base === null ? null : { path: 'base', format: below },
    ...(base === null ? {} : { openBacking: base }),
    createFile: () => new MemoryStorage(),
    job: silentJob,
  });
  return storage;
}

function baseOf({ below }: Row): (() => BlockNode) | null {
  if (below === undefined) return null;
  const driver = driverNamed(below);
  const storage = create(below, belowSize, {}, null, '');
  const node = writableOver(driver, storage, null);
  if (below === 'raw') node.resize(belowSize);
  writeGuest(node, positionCoded(0, belowSize, 9), 0);
  node.flush();
  const bytes = storage.bytes();
  return () => open(driver, new MemoryStorage(bytes, 'base'), false, null);
}

function contentOf(node: BlockNode, limit: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(node.size, limit));
  readGuest(node, bytes, 0);
  return bytes;
}

function faultsOf(driver: FormatDriver, node: BlockNode): string[] {
  const steps = driver.check?.(node, silentJob);
  return [...(steps ?? [])].filter(({ severity }) => severity !== 'leak').map(({ code }) => code);
}

/** More than all that is written; the rest of a disk is zeroes. */
const looked = 8 * MiB;

describe('a power cut while resizing', () => {
  for (const row of rows) {
    const driver = driverNamed(row.format);
    for (const size of row.to) {
      it(`${row.name} from ${row.size} to ${size} leaves one of both`, () => {
        const random = new SeededRandom(seed);
        const base = baseOf(row);
        const made = create(row.format, row.size, row.options, base, row.below ?? '');
        const node = writableOver(driver, made, base);
        for (const [start, length] of row.written) writeGuest(node, positionCoded(start, length, 1), start);
        node.flush();
        const first = made.bytes();
        const before = contentOf(open(driver, new MemoryStorage(first, 'disk'), false, base), looked);
        const after = new Uint8Array(Math.min(size, looked));
        after.set(before.subarray(0, after.length));
        const seen = new Set<number>();
        for (let n = 1; ; n++) {
          const counter = new StepCounter(n);
          const storage = new PowerCutStorage(first, counter, 'disk');
          let cut = false;
          try {
            const resized = writableOver(driver, storage, base);
            resized.resize(size, row.preallocation);
            resized.flush();
          } catch (error) {
            if (!(error instanceof PowerCut)) throw error;
            cut = true;
          }
          const title = `step ${n} (${counter.kinds.slice(-4).join(' ')}), seed ${seed}`;
          const left = new MemoryStorage(storage.afterCut(random), 'disk');
          const found = open(driver, left, false, base);
          expect([row.size, size], title).toContain(found.size);
          seen.add(found.size);
          expect(difference(contentOf(found, looked), found.size === size ? after : before), title).toBeNull();
          const faults = faultsOf(driver, found);
          const { repairable = [] } = row;
          expect(
            faults.filter((code) => !repairable.includes(code)),
            title,
          ).toEqual([]);
          if (!cut) {
            expect(found.size).toBe(size);
            break;
          }
        }
        expect(seen).toContain(size);
      });
    }
  }
});
