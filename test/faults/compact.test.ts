// Power cuts while an image is compacted, at every step: what is left is sound, and the guest reads what it read before.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../core/block/node.ts';
import { readGuest } from '../../core/block/read.ts';
import type { Storage } from '../../core/block/storage.ts';
import { writeGuest } from '../../core/block/write.ts';
import type { FormatDriver, OpenGate, OptionValue } from '../../core/formats/driver.ts';
import { driverNamed } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';
import { compactNode } from '../../core/operations/compact.ts';
import { difference, positionCoded } from '../position-coded.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';
import { StepCounter } from './failing-storage.ts';
import { PowerCut, PowerCutStorage } from './power-cut.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const seed = chosenSeed('power cuts while compacting');

/** Start and length. */
type Stretch = readonly [number, number];

interface Row {
  readonly name: string;
  readonly format: string;
  readonly options?: Readonly<Record<string, OptionValue>>;
  readonly size: number;
  readonly written: readonly Stretch[];
  /** Overwritten with zeroes. */
  readonly zeroed: readonly Stretch[];
  /** A snapshot is taken when the first so many stretches are written. */
  readonly snapshotAfter?: number;
  /** Format of a layer below that is filled with a pattern. */
  readonly below?: string;
  /** What the file loses at least. */
  readonly gain: number;
  /** Codes of findings that a cut may leave and a repair puts right; none by default. */
  readonly repairable?: readonly string[];
}

const rows: readonly Row[] = [
  {
    name: 'qcow2',
    format: 'qcow2',
    options: { cluster_size: 4096 },
    size: 6 * MiB,
    written: [
      [0, 200 * KiB],
      [5 * MiB, 60 * KiB],
      [3 * MiB, 60 * KiB],
    ],
    zeroed: [
      [8 * KiB, 100 * KiB],
      [5 * MiB, 60 * KiB],
    ],
    gain: 160 * KiB,
  },
  {
    name: 'qcow2 with a snapshot',
    format: 'qcow2',
    options: { cluster_size: 4096 },
    size: 4 * MiB,
    written: [
      [0, 100 * KiB],
      [2 * MiB, 40 * KiB],
      [MiB, 60 * KiB],
    ],
    zeroed: [[2 * MiB, 40 * KiB]],
    snapshotAfter: 1,
    gain: 30 * KiB,
  },
  {
    name: 'qcow2 with subclusters over another layer',
    format: 'qcow2',
    options: { cluster_size: 16384, extended_l2: true },
    size: 2 * MiB,
    written: [
      [100 * KiB, 200 * KiB],
      [MiB, 50 * KiB],
    ],
    zeroed: [[128 * KiB, 128 * KiB]],
    below: 'raw',
    gain: 100 * KiB,
  },
  {
    name: 'vpc',
    format: 'vpc',
    options: { force_size: true, block_size: 512 * KiB },
    size: 6 * MiB,
    written: [
      [0, MiB],
      [4 * MiB, 100 * KiB],
      [2 * MiB, MiB],
      [5 * MiB, 100 * KiB],
    ],
    zeroed: [
      [0, MiB],
      [2 * MiB, 600 * KiB],
    ],
    gain: MiB,
    repairable: ['vhd/check-footers-differ', 'vhd/check-footer-missing'],
  },
  {
    name: 'vdi',
    format: 'vdi',
    size: 7 * MiB + 512,
    written: [
      [0, 2 * MiB],
      [4 * MiB, 100 * KiB],
      [7 * MiB, 512],
      [3 * MiB, 70 * KiB],
    ],
    zeroed: [[0, 2 * MiB]],
    gain: 2 * MiB,
  },
  {
    name: 'vdi differencing',
    format: 'vdi',
    size: 4 * MiB,
    written: [
      [0, 2 * MiB],
      [3 * MiB, 100 * KiB],
    ],
    zeroed: [[0, MiB + 100 * KiB]],
    below: 'vdi',
    gain: MiB,
  },
  {
    name: 'vhdx',
    format: 'vhdx',
    options: { block_size: MiB },
    size: 6 * MiB + 512,
    written: [
      [0, 2 * MiB],
      [4 * MiB, 100 * KiB],
      [6 * MiB, 512],
    ],
    zeroed: [[0, 2 * MiB]],
    gain: 2 * MiB,
    repairable: ['vhdx/check-log-pending'],
  },
  {
    name: 'vhdx differencing',
    format: 'vhdx',
    options: { block_size: MiB },
    size: 4 * MiB,
    written: [
      [0, MiB],
      [3 * MiB, 100 * KiB],
    ],
    zeroed: [[0, MiB]],
    below: 'vhdx',
    gain: MiB,
    repairable: ['vhdx/check-log-pending'],
  },
];

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
  row: Pick<Row, 'format' | 'size' | 'options' | 'below'>,
  base: (() => BlockNode) | null,
): MemoryStorage {
  const storage = new MemoryStorage(new Uint8Array(0), 'disk');
  driverNamed(row.format).create?.({
    storage,
    name: 'disk',
    size: row.size,
    options: row.options ?? {},
    backing: base === null ? null : { path: 'base', format: row.below ?? '' },
    ...(base === null ? {} : { openBacking: base }),
    createFile: () => new MemoryStorage(),
    job: silentJob,
  });
  return storage;
}

function baseOf({ below }: Row): (() => BlockNode) | null {
  if (below === undefined) return null;
  const driver = driverNamed(below);
  const storage = create({ format: below, size: belowSize }, null);
  const node = writableOver(driver, storage, null);
  if (below === 'raw') node.resize(belowSize);
  writeGuest(node, positionCoded(0, belowSize, 9), 0);
  node.flush();
  const bytes = storage.bytes();
  return () => open(driver, new MemoryStorage(bytes, 'base'), false, null);
}

function made(row: Row, base: (() => BlockNode) | null): Uint8Array {
  const driver = driverNamed(row.format);
  const storage = create(row, base);
  const node = writableOver(driver, storage, base);
  row.written.forEach(([start, length], index) => {
    if (index === row.snapshotAfter) {
      driver.snapshots?.create?.(node, { name: 'one', dateSeconds: 1, dateNanoseconds: 0 }, silentJob);
    }
    writeGuest(node, positionCoded(start, length, 1), start);
  });
  for (const [start, length] of row.zeroed) writeGuest(node, new Uint8Array(length), start);
  node.flush();
  node.close();
  return storage.bytes();
}

function contentOf(node: BlockNode): Uint8Array {
  const bytes = new Uint8Array(node.size);
  readGuest(node, bytes, 0);
  return bytes;
}

function snapshotOf(driver: FormatDriver, node: BlockNode): Uint8Array | null {
  const [first] = driver.snapshots?.list(node) ?? [];
  return first === undefined ? null : contentOf(driver.snapshots?.open(node, first.id) ?? node);
}

function faultsOf(driver: FormatDriver, node: BlockNode): string[] {
  const steps = driver.check?.(node, silentJob);
  return [...(steps ?? [])].filter(({ severity }) => severity !== 'leak').map(({ code }) => code);
}

describe('a power cut while compacting', () => {
  for (const row of rows) {
    it(`${row.name} leaves the disk as it was`, async () => {
      const driver = driverNamed(row.format);
      const random = new SeededRandom(seed);
      const base = baseOf(row);
      const first = made(row, base);
      const old = open(driver, new MemoryStorage(first, 'disk'), false, base);
      const before = contentOf(old);
      const snapshot = snapshotOf(driver, old);
      expect(snapshot === null).toBe(row.snapshotAfter === undefined);
      let cuts = 0;
      for (let n = 1; ; n++) {
        const counter = new StepCounter(n);
        const storage = new PowerCutStorage(first, counter, 'disk');
        let cut = false;
        try {
          const node = writableOver(driver, storage, base);
          await compactNode(node, driver, null, silentJob);
          node.flush();
          node.close();
        } catch (error) {
          if (!(error instanceof PowerCut)) throw error;
          cut = true;
          cuts++;
        }
        const title = `step ${n} (${counter.kinds.slice(-4).join(' ')}), seed ${seed}`;
        const left = new MemoryStorage(storage.afterCut(random), 'disk');
        const found = open(driver, left, false, base);
        expect(difference(contentOf(found), before), title).toBeNull();
        if (snapshot !== null) {
          expect(difference(snapshotOf(driver, found) ?? new Uint8Array(0), snapshot), title).toBeNull();
        }
        const { repairable = [] } = row;
        expect(
          faultsOf(driver, found).filter((code) => !repairable.includes(code)),
          title,
        ).toEqual([]);
        if (cut) continue;
        expect(first.length - left.size).toBeGreaterThanOrEqual(row.gain);
        expect([...(driver.check?.(found, silentJob) ?? [])]).toEqual([]);
        break;
      }
      expect(cuts).toBeGreaterThan(5);
    });
  }
});
