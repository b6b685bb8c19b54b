// Guest writes that fail at step n, for every n, and power cuts at step n: what is left opens, has no corruption, and each sector is old or new.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../core/block/node.ts';
import { readGuest } from '../../core/block/read.ts';
import type { Storage } from '../../core/block/storage.ts';
import { isImageError } from '../../core/errors/image-error.ts';
import type { OpenGate } from '../../core/formats/driver.ts';
import { driverNamed, findDriver } from '../../core/formats/registry.ts';
import { describeWith, mustRun, runQemuImg } from '../peers.ts';
import { originOf, positionCoded } from '../position-coded.ts';
import { quickFolder } from '../scratch.ts';
import { SeededRandom, seedOf } from '../seeded-random.ts';
import { FailingStorage, type FailureOptions, StepCounter } from './failing-storage.ts';
import { type Change, type FaultImage, faultImages, someChanges } from './formats.ts';
import { PowerCut, PowerCutStorage } from './power-cut.ts';

const sector = 512;
const baseName = 'base.raw';

/** Makes the image of the row in `folder` and gives the bytes of its file. */
function make(image: FaultImage, folder: string): Uint8Array {
  fs.mkdirSync(folder);
  const below: string[] = [];
  if (image.base !== null) {
    fs.writeFileSync(path.join(folder, baseName), positionCoded(0, image.base, 1));
    below.push('-b', baseName, '-F', 'raw');
  }
  const options = image.options === '' ? [] : ['-o', image.options];
  mustRun('qemu-img', ['create', '-q', '-f', image.format, ...options, ...below, 'image', String(image.size)], {
    cwd: folder,
  });
  for (const [program, ...args] of image.prepare) {
    mustRun(
      program,
      args.map((argument) => (argument === 'IMAGE' ? 'image' : argument)),
      { cwd: folder },
    );
  }
  return fs.readFileSync(path.join(folder, 'image'));
}

function openOver(image: FaultImage, storage: Storage, writable: boolean): BlockNode {
  const gate: OpenGate = {
    openImage: () =>
      driverNamed('raw').open(new MemoryStorage(positionCoded(0, image.base ?? 0, 1), baseName), readOnly(gate)),
    openFile: ({ path: name }) => {
      throw new Error(`the image asks for '${name}'`);
    },
  };
  return driverNamed(image.format).open(storage, { ...readOnly(gate), writable });
}

function readOnly(gate: OpenGate): Parameters<ReturnType<typeof driverNamed>['open']>[1] {
  return { writable: false, gate, withBacking: true, runtime: {}, forRepair: false };
}

function contentOf(node: BlockNode): Uint8Array {
  const bytes = new Uint8Array(node.size);
  readGuest(node, bytes, 0);
  return bytes;
}

/** The disk's possible contents: the one at the last flush that went through, and each one since. */
class History {
  states: Uint8Array[];

  constructor(first: Uint8Array) {
    this.states = [first];
  }

  get latest(): Uint8Array {
    const last = this.states.at(-1);
    if (last === undefined) throw new Error('a history without states');
    return last;
  }

  /** The first sector that none of the states holds, in words; null: all are old or new. */
  foreignSector(found: Uint8Array): string | null {
    for (let at = 0; at < found.length; at += sector) {
      const here = found.subarray(at, at + sector);
      const known = this.states.some((state) => Buffer.compare(state.subarray(at, at + sector), here) === 0);
      if (!known)
        return `guest offset ${at} holds ${originOf(here)}, and should hold ${this.states.map((state) => originOf(state.subarray(at, at + sector))).join(' or ')}`;
    }
    return null;
  }
}

/** Makes the changes until one fails. Null: all went through. `history` ends as what the disk may hold. */
function makeChanges(node: WritableNode, changes: readonly (Change | null)[], history: History): Error | null {
  try {
    for (const change of changes) {
      if (change === null) {
        node.flush();
        history.states = [history.latest];
      } else {
        // The new state stands before the change is made: half of it may be there when it fails.
        const after = history.latest.slice();
        change.applyTo(after);
        history.states.push(after);
        change.apply(node);
      }
    }
    return null;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

interface Verdict {
  readonly folder: string;
  readonly image: FaultImage;
  readonly history: History;
  readonly title: string;
}

/** What qemu-img reads in a file with these bytes, which steps that change nothing leave again and again. */
const seen = new Map<string, Uint8Array>();

/** Asks qemu-img whether what is left is free of corruption, and for what it reads there. */
function readByQemu(left: Uint8Array, { folder, image, title }: Verdict): Uint8Array {
  const digest = `${image.name} ${createHash('sha1').update(left).digest('hex')}`;
  const known = seen.get(digest);
  if (known !== undefined) return known;
  fs.writeFileSync(path.join(folder, 'left'), left);
  if (image.checked) {
    const check = runQemuImg(['check', '--output=json', '-f', image.format, 'left'], { cwd: folder });
    expect(check.stdout, `${title}: ${check.stderr}`).not.toBe('');
    const { corruptions = 0, 'check-errors': errors = 0 } = JSON.parse(check.stdout) as Record<string, number>;
    // An image that says itself that its refcounts are not to be trusted is repaired by the next writer, and by nothing else.
    const dirty = image.options.includes('lazy_refcounts=on');
    expect({ corruptions: dirty ? 0 : corruptions, errors }, `${title}: ${check.stderr}`).toEqual({
      corruptions: 0,
      errors: 0,
    });
    if (dirty && corruptions > 0)
      expect(runQemuImg(['check', '-r', 'all', '-f', image.format, 'left'], { cwd: folder }).status, title).toBe(0);
  }
  const convert = runQemuImg(['convert', '-f', image.format, '-O', 'raw', 'left', 'content'], { cwd: folder });
  expect(convert.status, `${title}: ${convert.stderr}`).toBe(0);
  const content = fs.readFileSync(path.join(folder, 'content'));
  seen.set(digest, content);
  return content;
}

/** The three questions to what is left: does it open, is it free of corruption, is each sector old or new. */
function judge(left: Uint8Array, verdict: Verdict): void {
  const { image, history, title } = verdict;
  const content = readByQemu(left, verdict).subarray(0, history.latest.length);
  expect(history.foreignSector(content), `${title}, read by qemu-img`).toBeNull();
  const ours = openOver(image, new MemoryStorage(left), false);
  expect(history.foreignSector(contentOf(ours)), `${title}, read by us`).toBeNull();
  ours.close();
  const writable = openOver(image, new MemoryStorage(left), true);
  expect(isWritable(writable), `${title}: opened for writing`).toBe(true);
  writable.close();
}

const changeCount = process.env.PLATTER_LONG === '1' ? 40 : 12;
/** In the short mode every n is tried for the first kind of failure, and every other n for the rest. */
const kinds: readonly { name: string; options: FailureOptions; stride: number }[] = [
  { name: 'EIO from step n on', options: { errno: 'EIO', mode: 'lasting' }, stride: 1 },
  { name: 'ENOSPC once at step n, the write torn', options: { errno: 'ENOSPC', mode: 'once', torn: true }, stride: 3 },
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'guest writes that fail', () => {
  const scratch = quickFolder('faults');
  for (const image of faultImages.filter(({ format }) => findDriver(format) !== null)) {
    describe(image.name, () => {
      const folder = path.join(scratch, image.name.replaceAll(' ', '-'));
      const random = new SeededRandom(seedOf(image.name));
      let first: Uint8Array;
      let before: Uint8Array;
      let changes: (Change | null)[];

      beforeAll(() => {
        first = make(image, folder);
        const node = openOver(image, new MemoryStorage(first), false);
        before = contentOf(node);
        changes = someChanges(random, image.size, node.granularity, changeCount);
        node.close();
      });

      it('get through when nothing fails', () => {
        const storage = new MemoryStorage(first);
        const node = openOver(image, storage, true);
        const history = new History(before);
        if (!isWritable(node)) throw new Error('opened for writing, and cannot be written');
        const error = makeChanges(node, changes, history);
        if (error !== null) throw error;
        node.close();
        expect(history.states.length).toBe(1);
        judge(storage.bytes(), { folder, image, history, title: 'no failure' });
      });

      for (const { name, options, stride } of kinds) {
        it(`${name}, for every n`, { timeout: 600_000 }, () => {
          for (let n = 1; ; n += process.env.PLATTER_LONG === '1' ? 1 : stride) {
            const inner = new MemoryStorage(first);
            const counter = new StepCounter(n, options);
            const history = new History(before);
            const error = openAndChange(image, new FailingStorage(inner, counter), changes, history);
            const text = changes.map((change) => change?.text ?? 'flush').join('; ');
            const title = `step ${n} (${counter.kinds[n - 1]}) of: ${text}`;
            if (error !== null && !isImageError(error)) throw error;
            if (counter.struck) expect(error, `${title}: the failure was swallowed`).not.toBeNull();
            judge(inner.bytes(), { folder, image, history, title });
            if (!counter.struck) return;
          }
        });
      }

      it('a power cut at step n, for every n', { timeout: 600_000 }, () => {
        for (let n = 1; ; n += process.env.PLATTER_LONG === '1' ? 1 : 2) {
          const counter = new StepCounter(n);
          const storage = new PowerCutStorage(first, counter);
          const history = new History(before);
          const error = openAndChange(image, storage, changes, history);
          if (error !== null && !(error instanceof PowerCut)) throw error;
          const left = storage.afterCut(new SeededRandom(seedOf(`${image.name} ${n}`)));
          judge(left, { folder, image, history, title: `power cut at step ${n} (${counter.kinds[n - 1]})` });
          if (!counter.struck) return;
        }
      });
    });
  }
});

function openAndChange(
  image: FaultImage,
  storage: Storage,
  changes: readonly (Change | null)[],
  history: History,
): Error | null {
  let node: BlockNode;
  try {
    node = openOver(image, storage, true);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
  if (!isWritable(node)) throw new Error('opened for writing, and cannot be written');
  return makeChanges(node, changes, history);
}
