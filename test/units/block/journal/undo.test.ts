// The undo journal against a plain buffer: what is read meanwhile, what stands afterwards, what comes back; and journals that lie.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openFile } from '../../../../core/block/file.ts';
import { Coverage } from '../../../../core/block/journal/coverage.ts';
import { listenToJournals } from '../../../../core/block/journal/notices.ts';
import { journalPath } from '../../../../core/block/journal/place.ts';
import { settleJournal, type Opening } from '../../../../core/block/journal/settle.ts';
import { lastVerb, takeBack, type TakingBack } from '../../../../core/block/journal/take-back.ts';
import { UndoJournal, type UndoOptions } from '../../../../core/block/journal/undo-journal.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { isImageError, type ImageError } from '../../../../core/errors/image-error.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const scratch = scratchFolder('journal');
let count = 0;
let notices: ImageError[] = [];

beforeEach(() => {
  notices = [];
  listenToJournals((notice) => notices.push(notice));
});

const told = (): string[] => notices.map(({ code }) => code);

/** A new file in a folder of its own. */
function newFile(bytes: Uint8Array, name = 'image'): string {
  const folder = path.join(scratch, String(count++));
  fs.mkdirSync(folder);
  const file = path.join(folder, name);
  fs.writeFileSync(file, bytes);
  return file;
}

const options: UndoOptions = { verb: 'test', command: 'a test', keep: true, lasting: true };
const open = (file: string, writable = true): Storage => openFile(file, { writable, lock: 'none' });
const neverOther = (): never => {
  throw new Error('there is no other file');
};
const opening = (writable: boolean): Opening => ({ writable, share: false, openOther: neverOther });
const taking: TakingBack = { dryRun: false, openImage: (file) => open(file), openOther: neverOther };

function begin(file: string, more: Partial<UndoOptions> = {}): { journal: UndoJournal; storage: Storage } {
  const journal = new UndoJournal(file, { ...options, ...more });
  return { journal, storage: journal.watch(open(file), 'file') };
}

/** A file as a model: what the same changes make of a buffer. */
class Model {
  bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = Uint8Array.from(bytes);
  }

  truncate(size: number): void {
    const next = new Uint8Array(size);
    next.set(this.bytes.subarray(0, size));
    this.bytes = next;
  }

  write(bytes: Uint8Array, offset: number): void {
    if (offset + bytes.length > this.bytes.length) this.truncate(offset + bytes.length);
    this.bytes.set(bytes, offset);
  }
}

/** One random change of both; gives its name. */
function change(random: SeededRandom, storage: Storage, model: Model, largest: number): string {
  const offset = random.below(largest);
  const length = random.oneIn(12) ? 1 + random.below(3 * MiB) : 1 + random.below(random.pick([8, 600, 9000, 70_000]));
  switch (random.below(9)) {
    case 0: {
      const size = random.oneIn(3) ? Math.floor(offset / 512) * 512 : offset;
      storage.truncate(size);
      model.truncate(size);
      return `truncate ${size}`;
    }
    case 1:
    case 2:
      storage.zeroAt(offset, length);
      model.write(new Uint8Array(length), offset);
      return `zero ${offset}+${length}`;
    case 3:
      storage.provide(offset, length, 'full');
      model.write(new Uint8Array(length), offset);
      return `provide ${offset}+${length}`;
    case 4:
      storage.flush();
      return 'flush';
    default: {
      // Buffers, as the copy plane hands them over and uses again.
      const bytes = Buffer.from(random.bytes(Math.min(length, 40_000)));
      storage.writeAt(bytes, offset);
      model.write(bytes, offset);
      bytes.fill(0xee);
      return `write ${offset}+${bytes.length}`;
    }
  }
}

function someBytes(random: SeededRandom, length: number): Uint8Array {
  const bytes = random.bytes(length);
  // Zeroes inside, and a length that is no multiple of a sector.
  bytes.fill(0, Math.floor(length / 4), Math.floor(length / 2));
  return bytes;
}

describe('coverage', () => {
  it('says what a set of bytes says', () => {
    const random = new SeededRandom(chosenSeed('coverage'));
    for (let round = 0; round < 50; round++) {
      const coverage = new Coverage();
      const covered = new Set<number>();
      for (let i = 0; i < 30; i++) {
        const start = random.below(100);
        const end = start + random.below(20);
        const missing = coverage.missing(start, end).flatMap((part) => {
          return Array.from({ length: part.end - part.start }, (_, at) => part.start + at);
        });
        const expected = [];
        for (let at = start; at < end; at++) if (!covered.has(at)) expected.push(at);
        expect(missing).toEqual(expected);
        coverage.add(start, end);
        for (let at = start; at < end; at++) covered.add(at);
      }
      let last = -1;
      for (const { start, end } of coverage.stretches()) {
        expect(start).toBeGreaterThan(last);
        last = end;
      }
    }
  });
});

describe('changes under a journal', () => {
  it('are seen at once, stand afterwards, and are taken back to the byte', () => {
    const seed = chosenSeed('journal');
    const random = new SeededRandom(seed);
    for (let round = 0; round < 25; round++) {
      const before = someBytes(random, 1 + random.below(3 * MiB));
      const file = newFile(before);
      const { journal, storage } = begin(file);
      const model = new Model(before);
      const done: string[] = [];
      for (let i = 0; i < 40; i++) {
        done.push(change(random, storage, model, 4 * MiB));
        expect(storage.size, `seed ${seed}: ${done.join(', ')}`).toBe(model.bytes.length);
        if (!random.oneIn(4)) continue;
        const at = random.below(model.bytes.length + 1);
        const found = new Uint8Array(Math.min(model.bytes.length - at, random.below(200_000)));
        storage.readAt(found, at);
        const same = Buffer.compare(found, model.bytes.subarray(at, at + found.length)) === 0;
        expect(same, `seed ${seed}, read at ${at}: ${done.join(', ')}`).toBe(true);
      }
      const title = `seed ${seed}, round ${round}: ${done.join(', ')}`;
      if (random.oneIn(2)) {
        storage.close();
        expect(journal.seal()).toBe(true);
        expect(Buffer.compare(fs.readFileSync(file), model.bytes) === 0, title).toBe(true);
        expect(lastVerb(file)?.verb).toBe('test');
        takeBack(file, taking);
      } else journal.rollBack();
      expect(Buffer.compare(fs.readFileSync(file), before) === 0, title).toBe(true);
      expect(fs.existsSync(journalPath(file)), title).toBe(false);
    }
    expect(told()).toEqual([]);
  });

  it('leave no journal where nothing was changed, or where none is to be kept', () => {
    const file = newFile(new Uint8Array(1000));
    const first = begin(file);
    first.storage.flush();
    expect(first.journal.seal()).toBe(false);
    const second = begin(file, { keep: false });
    second.storage.writeAt(new Uint8Array(10).fill(1), 5);
    second.storage.flush();
    expect(second.journal.seal()).toBe(false);
    expect(fs.readdirSync(path.dirname(file))).toEqual(['image']);
    expect(() => takeBack(file, taking)).toThrow(expect.objectContaining({ code: 'undo/nothing' }));
  });

  it('go on without a journal that would grow too large, and say so', () => {
    const file = newFile(new Uint8Array(4 * MiB).fill(1));
    const { journal, storage } = begin(file, { limit: MiB });
    for (let at = 0; at < 4 * MiB; at += 64 * KiB) storage.writeAt(new Uint8Array(64 * KiB).fill(2), at);
    expect(journal.seal()).toBe(false);
    expect(told()).toEqual(['undo/not-kept']);
    expect(fs.readdirSync(path.dirname(file))).toEqual(['image']);
    expect(fs.readFileSync(file).every((byte) => byte === 2)).toBe(true);
  });

  it('go on without a journal for a name that leaves no room for one', () => {
    const file = newFile(new Uint8Array(1000), 'n'.repeat(250));
    const { journal, storage } = begin(file);
    storage.writeAt(new Uint8Array(10).fill(1), 5);
    expect(journal.seal()).toBe(false);
    expect(told()).toEqual(['undo/not-kept']);
    expect(fs.readFileSync(file)[5]).toBe(1);
  });

  it('have their journal beside the file, not beside a link to it, for the eyes of its owner', () => {
    const file = newFile(new Uint8Array(1000));
    fs.chmodSync(file, 0o640);
    const link = path.join(scratch, `link-${count}`);
    fs.symlinkSync(file, link);
    const { journal, storage } = begin(link);
    storage.writeAt(new Uint8Array(10).fill(1), 5);
    journal.seal();
    expect(fs.statSync(path.join(path.dirname(file), '.image.platter-journal')).mode & 0o777).toBe(0o640);
    takeBack(link, taking);
    expect(fs.readFileSync(file)[5]).toBe(0);
  });
});

/** A verb that ended in the middle: some of its changes are made, and the journal is left. Gives what the file was and is. */
function unfinished(random: SeededRandom): { file: string; before: Uint8Array; left: Uint8Array } {
  const before = someBytes(random, 200_000 + random.below(300_000));
  const file = newFile(before);
  const { storage } = begin(file);
  const model = new Model(before);
  for (let batch = 0; batch < 3; batch++) {
    for (let i = 0; i < 12; i++) change(random, storage, model, 500_000);
    // A long stretch of zeroes makes all changes that were held back.
    storage.zeroAt(600_000 + batch * 2 * MiB, 1.5 * MiB);
  }
  return { file, before, left: fs.readFileSync(file) };
}

describe('a verb that ended early', () => {
  it('is taken back by the next opening for writing', () => {
    const random = new SeededRandom(chosenSeed('early'));
    for (let round = 0; round < 10; round++) {
      const { file, before, left } = unfinished(random);
      expect(Buffer.compare(left, before)).not.toBe(0);
      const image = open(file);
      expect(settleJournal(file, image, opening(true))(image)).toBe(image);
      expect(image.size).toBe(before.length);
      expect(Buffer.compare(fs.readFileSync(file), before)).toBe(0);
      image.close();
    }
    expect(new Set(told())).toEqual(new Set(['undo/rolled-back']));
  });

  it('is not seen by one who only reads, and nothing is written', () => {
    const random = new SeededRandom(chosenSeed('seen'));
    const { file, before, left } = unfinished(random);
    const image = open(file, false);
    const seen = settleJournal(file, image, opening(false))(image);
    expect(seen.size).toBe(before.length);
    for (let i = 0; i < 300; i++) {
      const at = random.below(before.length);
      const found = new Uint8Array(random.below(before.length - at));
      seen.readAt(found, at);
      expect(Buffer.compare(found, before.subarray(at, at + found.length))).toBe(0);
      const extent = seen.extentAt(at, before.length);
      expect(extent.length).toBeGreaterThan(0);
      const covered = before.subarray(at, at + extent.length);
      if (extent.kind === 'hole') expect(covered.every((byte) => byte === 0)).toBe(true);
    }
    expect(() => seen.readAt(new Uint8Array(2), before.length - 1)).toThrow(
      expect.objectContaining({ code: 'storage/short-read' }),
    );
    seen.close();
    expect(Buffer.compare(fs.readFileSync(file), left)).toBe(0);
    expect(told()).toEqual(['undo/shown']);
  });

  it('is left alone where something else has written since', () => {
    const random = new SeededRandom(chosenSeed('foreign'));
    for (const how of ['bytes', 'time'] as const) {
      const { file } = unfinished(random);
      if (how === 'bytes') {
        const bytes = fs.readFileSync(file);
        // Where the verb has made zeroes of what was there.
        bytes.fill(0x5a, 0, 300_000);
        fs.writeFileSync(file, bytes);
      } else fs.utimesSync(file, new Date(), new Date(Date.now() + 60_000));
      const now = fs.readFileSync(file);
      const reader = open(file, false);
      expect(settleJournal(file, reader, opening(false))(reader)).toBe(reader);
      reader.close();
      const image = open(file);
      settleJournal(file, image, opening(true));
      image.close();
      expect(Buffer.compare(fs.readFileSync(file), now)).toBe(0);
      expect(told()).toEqual(['undo/foreign', 'undo/set-aside']);
      expect(fs.readdirSync(path.dirname(file)).sort()).toEqual(['.image.platter-journal.set-aside', 'image']);
      notices = [];
    }
  });

  it('is forgotten where the file is another one now', () => {
    const { file, left } = unfinished(new SeededRandom(chosenSeed('another')));
    fs.copyFileSync(file, `${file}.new`);
    fs.renameSync(`${file}.new`, file);
    const image = open(file);
    settleJournal(file, image, opening(true));
    image.close();
    expect(Buffer.compare(fs.readFileSync(file), left)).toBe(0);
    expect(told()).toEqual([]);
  });

  it('with a journal that was damaged: the file is what it was, or what was left, and nothing else', () => {
    const seed = chosenSeed('damaged');
    const random = new SeededRandom(seed);
    const { file, before, left } = unfinished(random);
    const journal = fs.readFileSync(journalPath(file));
    const outcomes = { before: 0, left: 0 };
    for (let round = 0; round < 120; round++) {
      const mutant = Uint8Array.from(journal);
      // Not the last record: a journal without it is one that was cut off before the last changes were begun.
      const at = random.oneIn(4) ? random.below(400) : random.below(journal.length - 48);
      if (random.oneIn(3)) mutant.set(random.bytes(Math.min(64, journal.length - 48 - at)), at);
      else mutant[at] = (mutant[at] ?? 0) ^ (1 << random.below(8));
      fs.writeFileSync(file, left);
      fs.writeFileSync(journalPath(file), mutant);
      const image = open(file);
      try {
        settleJournal(file, image, opening(true));
      } catch (error) {
        expect(isImageError(error), `seed ${seed}, byte ${at}: ${String(error)}`).toBe(true);
      }
      image.close();
      const now = fs.readFileSync(file);
      const isBefore = Buffer.compare(now, before) === 0;
      expect(isBefore || Buffer.compare(now, left) === 0, `seed ${seed}, round ${round}, byte ${at}`).toBe(true);
      outcomes[isBefore ? 'before' : 'left']++;
      fs.rmSync(`${journalPath(file)}.set-aside`, { force: true });
    }
    expect(outcomes.left).toBeGreaterThan(0);
  });
});

describe('undo', () => {
  const finished = (): string => {
    const file = newFile(new Uint8Array(100_000).fill(1));
    const { journal, storage } = begin(file);
    storage.writeAt(new Uint8Array(5000).fill(2), 3000);
    storage.truncate(120_000);
    journal.seal();
    return file;
  };

  it('is refused where something else has written since, even under the old time', () => {
    for (const how of ['append', 'touch', 'bytes under the same time'] as const) {
      const file = finished();
      const reference = `${file}.time`;
      fs.writeFileSync(reference, '');
      execFileSync('touch', ['-r', file, reference]);
      if (how === 'append') fs.appendFileSync(file, 'x');
      else if (how === 'touch') fs.utimesSync(file, new Date(), new Date(0));
      else {
        const descriptor = fs.openSync(file, 'r+');
        fs.writeSync(descriptor, 'foreign', 4000);
        fs.closeSync(descriptor);
        // To the nanosecond, which Node cannot say.
        execFileSync('touch', ['-r', reference, file]);
      }
      const now = fs.readFileSync(file);
      expect(lastVerb(file), how).toEqual(how === 'bytes under the same time' ? expect.anything() : null);
      expect(() => takeBack(file, taking), how).toThrow(expect.objectContaining({ code: 'undo/changed' }));
      expect(Buffer.compare(fs.readFileSync(file), now)).toBe(0);
    }
  });

  it('says first what it would do', () => {
    const file = finished();
    const now = fs.readFileSync(file);
    const dry = { ...taking, dryRun: true, openImage: (name: string) => open(name, false) };
    expect(takeBack(file, dry)).toMatchObject({ verb: 'test', command: 'a test', files: [file], unfinished: false });
    expect(Buffer.compare(fs.readFileSync(file), now)).toBe(0);
    expect(takeBack(file, taking).bytes).toBeGreaterThan(0);
    expect(fs.readFileSync(file).every((byte) => byte === 1)).toBe(true);
  });

  it('goes on after it was interrupted', () => {
    const file = finished();
    const journal = fs.readFileSync(journalPath(file));
    const descriptor = fs.openSync(file, 'r+');
    // The mark that it is being taken back lasts before the first byte is put back: a failing write shows it.
    const image = open(file);
    image.writeAt = () => {
      throw Object.assign(new Error('the power went'), { code: 'EIO' });
    };
    expect(() => takeBack(file, { ...taking, openImage: () => image })).toThrow('the power went');
    fs.closeSync(descriptor);
    expect(fs.readFileSync(journalPath(file)).length).toBeGreaterThan(journal.length);
    expect(lastVerb(file)).toBeNull();
    const again = open(file);
    settleJournal(file, again, opening(true));
    again.close();
    expect(fs.readFileSync(file)).toEqual(Buffer.alloc(100_000, 1));
  });

  it('of a change inside another takes both back, or none', () => {
    for (const how of ['outer', 'inner', 'inner changed since'] as const) {
      const outerFile = newFile(new Uint8Array(10_000).fill(1));
      const innerFile = newFile(new Uint8Array(10_000).fill(2));
      const outer = begin(outerFile);
      const innerJournal = new UndoJournal(innerFile, options, outer.journal);
      const inner = innerJournal.watch(open(innerFile), 'file');
      outer.storage.writeAt(new Uint8Array(100).fill(3), 100);
      inner.writeAt(new Uint8Array(100).fill(4), 100);
      innerJournal.park();
      expect(lastVerb(innerFile)).toBeNull();
      expect(outer.journal.seal()).toBe(true);
      if (how === 'inner changed since') {
        fs.appendFileSync(innerFile, 'x');
        expect(() => takeBack(outerFile, taking)).toThrow(expect.objectContaining({ code: 'undo/changed' }));
        expect(fs.readFileSync(outerFile)[100]).toBe(3);
        continue;
      }
      expect(takeBack(how === 'outer' ? outerFile : innerFile, taking).files.length).toBe(2);
      expect(fs.readFileSync(outerFile).every((byte) => byte === 1)).toBe(true);
      expect(fs.readFileSync(innerFile).every((byte) => byte === 2)).toBe(true);
    }
  });
});
