// Power cuts: at every change of the file during random guest writes, what is left holds old or new bytes, for us and for qemu-img.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../../../core/block/file.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate, OptionValue } from '../../../../core/formats/driver.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { FailingStorage, StepCounter } from '../../../faults/failing-storage.ts';
import { PowerCut, PowerCutStorage } from '../../../faults/power-cut.ts';
import { missing, mustRun, runQemuImg } from '../../../peers.ts';
import { originOf, positionCoded } from '../../../position-coded.ts';
import { quickFolder } from '../../../scratch.ts';
import { SeededRandom, seedOf } from '../../../seeded-random.ts';
import { checkOf, createImage, createIn, withImage, writing } from '../new-image.ts';

const long = process.env.PLATTER_LONG === '1';
const writes = 200;
const unit = 4 * KiB;
const sector = 512;

interface Deed {
  readonly kind: 'write' | 'zero' | 'release' | 'flush';
  readonly start: number;
  readonly length: number;
}

/** 200 writes of whole 4 KiB here and there, zeroes and discards among them, a flush now and then. */
function deedsFor(random: SeededRandom, size: number): Deed[] {
  const deeds: Deed[] = [];
  for (let i = 0; i < writes; i++) {
    const start = random.below(size / unit) * unit;
    const longest = random.oneIn(8) ? 300 : 6;
    const length = Math.min(size - start, (1 + random.below(longest)) * unit);
    const block = start - (start % MiB);
    const kind = random.pick(['zero', 'release', ...Array<'write'>(10).fill('write')] as const);
    if (kind === 'write') deeds.push({ kind, start, length });
    else deeds.push({ kind, start: block, length: Math.min(MiB, size - block) });
    if (random.oneIn(10)) deeds.push({ kind: 'flush', start: 0, length: 0 });
  }
  deeds.push({ kind: 'flush', start: 0, length: 0 });
  return deeds;
}

/** What a unit of the disk holds: the number of the deed that wrote it, 0 zeroes, -1 what is below. */
type State = Int32Array;

/** Which of several states each unit may be in: those at the last flush and all since. */
class History {
  before: State;
  now: State;
  /** Units changed since the last flush, with what they held in between. */
  #between = new Map<number, number[]>();

  constructor(first: State) {
    this.before = first;
    this.now = first.slice();
  }

  change(deed: Deed, value: number): void {
    for (let at = deed.start / unit; at < (deed.start + deed.length) / unit; at++) {
      const passed = this.#between.get(at) ?? [];
      passed.push(value);
      this.#between.set(at, passed);
      this.now[at] = value;
    }
  }

  flushed(): void {
    this.before = this.now.slice();
    this.#between = new Map();
  }

  allowed(at: number): number[] {
    return [this.before[at] ?? 0, ...(this.#between.get(at) ?? [])];
  }
}

interface Row {
  readonly name: string;
  readonly size: number;
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly below: Uint8Array | null;
  /** Bytes that the disk begins with, written and flushed before the changes under test. */
  readonly filled: number;
}

const size = 12 * MiB;
const rows: readonly Row[] = [
  { name: 'dynamic', size, options: { block_size: MiB }, below: null, filled: 5 * MiB },
  { name: 'dynamic, new', size, options: { block_size: MiB }, below: null, filled: 0 },
  { name: 'fixed', size, options: { block_size: 2 * MiB, subformat: 'fixed' }, below: null, filled: MiB },
  { name: 'differencing', size, options: { block_size: MiB }, below: positionCoded(0, size, 77), filled: 3 * MiB },
];

/** Bytes of unit `at` in state `value`. */
function bytesOf(row: Row, value: number, at: number): Uint8Array {
  if (value === 0) return new Uint8Array(unit);
  if (value === -1) return row.below?.subarray(at * unit, (at + 1) * unit) ?? new Uint8Array(unit);
  return positionCoded(at * unit, unit, value);
}

describe('a power cut', () => {
  const folder = quickFolder('vhdx-crash');
  const noPeer = missing({ peers: ['qemu-img'] });
  if (noPeer !== null) console.log(`qemu-img is not asked: ${noPeer}`);

  for (const row of rows) {
    describe(`in a disk that is ${row.name}`, () => {
      const parent = makeParent(row);
      const gate: OpenGate = {
        openImage: () => {
          if (parent === null) throw new Error('no parent');
          return vhdx.open(new MemoryStorage(parent, 'base.vhdx'), reading);
        },
        openFile: () => {
          throw new Error('no other file');
        },
      };
      const reading = { writable: false, gate, withBacking: true, runtime: {}, forRepair: false };
      const open = (storage: Storage, writable: boolean): BlockNode => vhdx.open(storage, { ...reading, writable });
      const openWritable = (storage: Storage): WritableNode => {
        const node = open(storage, true);
        if (!isWritable(node)) throw new Error('opened for writing, and cannot be written');
        return node;
      };

      const first = makeImage(row, gate, openWritable);
      const begin: State = new Int32Array(row.size / unit).fill(row.below === null ? 0 : -1);
      begin.fill(1, 0, row.filled / unit);
      const deeds = deedsFor(new SeededRandom(seedOf(`vhdx ${row.name}`)), row.size);

      /** Does the deeds until one fails; the node is closed where nothing did. */
      const run = (storage: Storage, history: History): Error | null => {
        try {
          const node = openWritable(storage);
          deeds.forEach((deed, index) => {
            perform(node, deed, index + 2, row, history);
          });
          node.close();
          return null;
        } catch (error) {
          return error instanceof Error ? error : new Error(String(error));
        }
      };

      const wrongUnit = (content: Uint8Array, history: History): string | null => {
        for (let at = 0; at < content.length / unit; at++) {
          const allowed = history.allowed(at).map((value) => bytesOf(row, value, at));
          for (let part = 0; part < unit; part += sector) {
            const found = content.subarray(at * unit + part, at * unit + part + sector);
            if (allowed.some((bytes) => Buffer.compare(bytes.subarray(part, part + sector), found) === 0)) continue;
            const names = allowed.map((bytes) => originOf(bytes.subarray(part, part + sector))).join(' or ');
            return `guest offset ${at * unit + part}: ${originOf(found)} in place of ${names}`;
          }
        }
        return null;
      };

      const judge = (left: Uint8Array, history: History, title: string, askQemu: boolean): void => {
        const node = open(new MemoryStorage(left), false);
        const content = new Uint8Array(node.size);
        readGuest(node, content, 0);
        expect(wrongUnit(content, history), title).toBeNull();
        const findings = checkOf(vhdx, node).findings.filter(({ code }) => !ends.includes(code));
        expect(findings, title).toEqual([]);
        node.close();
        // A writer replays the log on the disk: the content is the same, and nothing is left to replay.
        const replayed = new MemoryStorage(left);
        open(replayed, true).close();
        const again = open(new MemoryStorage(replayed.bytes()), false);
        const second = new Uint8Array(again.size);
        readGuest(again, second, 0);
        expect(Buffer.compare(second, content), title).toBe(0);
        expect(checkOf(vhdx, again).findings, title).toEqual([]);
        again.close();
        if (!askQemu || noPeer !== null || row.below !== null) return;
        const file = path.join(folder, 'left.vhdx');
        const raw = path.join(folder, 'left.raw');
        fs.writeFileSync(file, left);
        const repair = runQemuImg(['check', '-q', '-r', 'all', '-f', 'vhdx', file]);
        expect(repair.status, `${title}: ${repair.stderr}`).toBe(0);
        mustRun('qemu-img', ['convert', '-f', 'vhdx', '-O', 'raw', file, raw]);
        expect(Buffer.compare(fs.readFileSync(raw), content), `${title}, read by qemu-img`).toBe(0);
      };

      it('that does not come leaves what was written', () => {
        const history = new History(begin);
        const storage = new MemoryStorage(first);
        expect(run(storage, history)).toBeNull();
        judge(storage.bytes(), history, 'no cut', true);
      });

      it('at any change leaves old or new bytes', { timeout: 600_000 }, () => {
        const counter = new StepCounter(Infinity);
        expect(run(new PowerCutStorage(first, counter), new History(begin))).toBeNull();
        const total = counter.steps;
        expect(total).toBeGreaterThan(100);
        // Short: a spread of steps, and all those around the log; long: every one.
        const stride = long ? 1 : Math.max(1, Math.floor(total / 20));
        for (let n = 1, round = 0; n <= total; n += stride, round++) {
          const history = new History(begin);
          const cut = new StepCounter(n);
          const storage = new PowerCutStorage(first, cut);
          const error = run(storage, history);
          if (!(error instanceof PowerCut)) throw error ?? new Error(`step ${n} did not come`);
          const title = `power cut at step ${n} (${cut.kinds[n - 1]})`;
          judge(storage.afterCut(new SeededRandom(n)), history, title, round % (long ? 10 : 4) === 0);
        }
      });

      it('at any change of a disk that dies with an error leaves old or new bytes', { timeout: 600_000 }, () => {
        const counter = new StepCounter(Infinity);
        expect(run(new FailingStorage(new MemoryStorage(first), counter), new History(begin))).toBeNull();
        const stride = long ? 1 : Math.max(1, Math.floor(counter.steps / 20));
        for (let n = 2, round = 0; n <= counter.steps; n += stride, round++) {
          const history = new History(begin);
          const inner = new MemoryStorage(first);
          const failing = new StepCounter(n, { torn: round % 2 === 0 });
          const error = run(new FailingStorage(inner, failing), history);
          if (!isImageError(error)) throw error ?? new Error(`the failure of step ${n} was swallowed`);
          const title = `step ${n} (${failing.kinds[n - 1]}) fails`;
          judge(inner.bytes(), history, title, round % (long ? 10 : 4) === 0);
        }
      });
    });
  }
});

describe('a flush of more sectors than an entry of the log takes', () => {
  const folder = quickFolder('vhdx-rounds');
  /** Blocks so far apart that each has a sector of bitmap of its own; an entry takes 126. */
  const apart = 17 * MiB;
  const base = path.join(folder, 'base.vhdx');
  const file = path.join(folder, 'image.vhdx');
  const below = (at: number): Uint8Array => positionCoded(at, 1024, 9);

  /** 140: two rounds, the first of bitmaps only. 122: the BAT is split, its end with the bitmap's entry comes first. */
  for (const [blocks, prepared] of [
    [140, true],
    [122, false],
  ] as const) {
    const title = `over ${blocks} blocks, ${prepared ? 'of which half were there' : 'all of them new'}`;
    it(`${title}, leaves sound tables wherever it ends`, { timeout: 600_000 }, () => {
      createImage(vhdx, base, { size: blocks * apart, options: { block_size: MiB } });
      writing(base, (node) => {
        for (let at = 0; at < blocks * apart; at += apart) writeGuest(node, positionCoded(at, 4096, 9), at);
      });
      const makeImage = (): void => {
        createImage(vhdx, file, { size: blocks * apart, options: { block_size: MiB }, backing: 'base.vhdx' });
        if (!prepared) return;
        writing(file, (node) => {
          for (let block = 0; block < blocks; block += 2) {
            writeGuest(node, positionCoded(block * apart, 1024, 1), block * apart);
          }
        });
      };
      /** Every fourth block goes and comes back with other sectors. */
      const change = (counter: StepCounter): void => {
        const storage = new FailingStorage(openFile(file, { writable: true, lock: 'none' }), counter);
        const node = vhdx.open(storage, { ...reading(base), writable: true });
        if (!isWritable(node)) throw new Error('opened for writing, and cannot be written');
        try {
          for (let block = 0; block < blocks; block += 4) node.release({ start: block * apart, length: MiB });
          for (let block = 0; block < blocks; block++) {
            writeGuest(node, positionCoded(block * apart + 2048, 1024, 2), block * apart + 2048);
          }
          node.flush();
        } finally {
          node.close();
        }
      };
      makeImage();
      const whole = new StepCounter(Infinity);
      change(whole);
      // Short: the last flush alone.
      for (let n = long ? 1 : whole.steps - 75; n <= whole.steps; n += long ? 1 : 5) {
        makeImage();
        const counter = new StepCounter(n);
        expect(() => change(counter)).toThrow('Input/output error');
        const title = `step ${n} of ${whole.steps} (${counter.kinds[n - 1]}) fails`;
        withImage(file, {}, (left) => {
          const content = new Uint8Array(4096);
          for (let block = 0; block < blocks; block++) {
            const start = block * apart;
            readGuest(left, content, start);
            const allowed = (at: number, ...states: Uint8Array[]): void => {
              const found = content.subarray(at, at + 1024);
              const known = states.some((state) => Buffer.compare(state, found) === 0);
              expect(known, `${title}: block ${block} + ${at}: ${originOf(found)}`).toBe(true);
            };
            const before = prepared && block % 2 === 0 ? positionCoded(start, 1024, 1) : below(start);
            allowed(0, before, block % 4 === 0 ? below(start) : before);
            allowed(1024, below(start + 1024));
            allowed(2048, below(start + 2048), positionCoded(start + 2048, 1024, 2));
          }
          const corrupt = checkOf(vhdx, left).findings.filter(({ code }) => !ends.includes(code));
          expect(corrupt, title).toEqual([]);
        });
      }
    });
  }
});

function reading(parent: string): Parameters<typeof vhdx.open>[1] {
  const gate: OpenGate = { openImage: () => openImage(parent, { format: 'vhdx' }).node, openFile: refuse };
  return { writable: false, gate, withBacking: true, runtime: {}, forRepair: false };
}

/** What a check may say after a cut: the log waits, a header was half written. */
const ends = ['vhdx/check-log-pending', 'vhdx/check-header'];

function perform(node: WritableNode, deed: Deed, value: number, row: Row, history: History): void {
  const { kind, start, length } = deed;
  switch (kind) {
    case 'flush':
      node.flush();
      history.flushed();
      break;
    case 'write':
      history.change(deed, value);
      writeGuest(node, positionCoded(start, length, value), start);
      break;
    case 'zero':
      history.change(deed, 0);
      if (node.zero({ start, length })?.length !== length) throw new Error('a whole block could not be made zero');
      break;
    case 'release': {
      const fixed = row.options.subformat === 'fixed';
      history.change(deed, row.below === null || fixed ? 0 : -1);
      if (node.release({ start, length })?.length !== length) throw new Error('a whole block could not be discarded');
      break;
    }
  }
}

function makeParent(row: Row): Uint8Array | null {
  if (row.below === null) return null;
  const storage = new MemoryStorage();
  createIn(vhdx, storage, 'base.vhdx', { size: row.size, options: { block_size: MiB } });
  const closed = { openImage: refuse, openFile: refuse };
  const request = { writable: true, gate: closed, withBacking: true, runtime: {}, forRepair: false };
  const node = vhdx.open(storage, request);
  if (!isWritable(node)) throw new Error('not writable');
  writeGuest(node, row.below, 0);
  node.flush();
  node.close();
  return storage.bytes();
}

function refuse(): never {
  throw new Error('no file is expected');
}

function makeImage(row: Row, gate: OpenGate, openWritable: (storage: Storage) => WritableNode): Uint8Array {
  const storage = new MemoryStorage();
  vhdx.create?.({
    storage,
    name: 'image.vhdx',
    size: row.size,
    options: row.options,
    backing: row.below === null ? null : { path: 'base.vhdx', format: 'vhdx' },
    openBacking: () => gate.openImage({ from: 'image.vhdx', path: 'base.vhdx', format: 'vhdx' }),
    createFile: refuse,
    job: { progress: () => {}, throwIfCancelled: () => {} },
  });
  if (row.filled === 0) return storage.bytes();
  const node = openWritable(storage);
  writeGuest(node, positionCoded(0, row.filled, 1), 0);
  node.flush();
  node.close();
  return storage.bytes();
}
