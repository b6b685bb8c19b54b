// The journal of one verb while it works: changes are held back in their order, what they overwrite is written down first, then they are made.
import crypto from 'node:crypto';
import path from 'node:path';
import { ImageError } from '../../errors/image-error.ts';
import type { Storage } from '../storage.ts';
import { alignDown, alignUp, GiB, KiB, MiB } from '../units.ts';
import { openFile } from '../file.ts';
import { JournaledStorage, type HeldChange } from './journaled-storage.ts';
import { notice } from './notices.ts';
import { Coverage } from './coverage.ts';
import { freeSpace, journalPath, markOf, realPath, type FileMark } from './place.ts';
import { readJournal } from './read.ts';
import { removeMade, rollBack } from './roll-back.ts';
import { largestPiece, sectorSize } from './spec.ts';
import { cannotKeep, JournalFull, JournalWriter, type About } from './write.ts';

export interface UndoOptions extends About {
  /** Keep the journal when the verb has finished, so that it can be taken back. Otherwise it only serves a verb that ends early. */
  readonly keep: boolean;
  /** False: never wait for the disk (cache mode `unsafe`). */
  readonly lasting: boolean;
  /** Bytes that the journal may take; default: 1 GiB, or a quarter of the free space if that is less. */
  readonly limit?: number | undefined;
}

/** Changes held back at most, in bytes and in number. */
const holdUpTo = 8 * MiB;
const mostHeld = 16 * 1024;
const usualLimit = GiB;

/**
 * Stands between the files of one image and the host. Ends with `seal` (the verb is done) or `rollBack` (as if it had never begun), which
 * close the files.
 *
 * States: `idle` nothing was changed yet · `running` the journal lasts on the disk · `off` there is none (it grew too large, or could not
 * be written): changes go straight through · `ended`.
 */
export class UndoJournal {
  readonly #name: string;
  readonly #options: UndoOptions;
  readonly #outer: UndoJournal | null;
  /** Another image is changed together with this one: the order between them rests on what was flushed. */
  #oneOfSeveral: boolean;
  readonly #parked: UndoJournal[] = [];
  readonly #files: JournaledStorage[] = [];
  readonly #marks: FileMark[] = [];
  /** Files that the verb made: there are none of them when it is put back. */
  readonly #made = new Set<JournaledStorage>();
  #state: 'idle' | 'running' | 'off' | 'ended' = 'idle';
  #writer: JournalWriter | null = null;
  #named = 0;
  #held: { file: JournaledStorage; change: HeldChange }[] = [];
  #heldBytes = 0;
  /** What making changes threw: the verb cannot go on. */
  #broken: { error: unknown } | null = null;

  /** `name`: the image. `outer`: the journal of the change that this one happens in; null: of none. */
  constructor(name: string, options: UndoOptions, outer: UndoJournal | null = null) {
    this.#name = name;
    this.#options = options;
    this.#outer = outer;
    this.#oneOfSeveral = outer !== null;
    if (outer !== null) outer.#oneOfSeveral = true;
  }

  /** The file of the image that plays `role` (`made`: the verb has just created it), seen through the journal. A block device, or what is no file, is left as it is. */
  watch(storage: Storage, role: string, made = false): Storage {
    if (!storage.writable || this.#state === 'off') return storage;
    if (storage.descriptor === null || storage.identity?.startsWith('device:') === true) {
      // Of an image, all files are put back or none.
      this.giveUp(`'${storage.name}' is not a file beside which a journal can lie`);
      return storage;
    }
    const mark = { ...markOf(storage.descriptor, storage.name), size: storage.size };
    const file = new JournaledStorage(storage, this, this.#files.length, role);
    this.#files.push(file);
    this.#marks.push(mark);
    if (made) this.#made.add(file);
    return file;
  }

  /** True while changes are written down before they are made. */
  get watching(): boolean {
    return this.#state === 'idle' || this.#state === 'running';
  }

  /** Changes of `file` may go to the host at once: none is held back that must come first, and the journal knows its old size. */
  isClear(file: JournaledStorage): boolean {
    if (this.#state === 'off') return true;
    return this.#state === 'running' && this.#held.length === 0 && file.id < this.#named;
  }

  /** Throws what an earlier change threw. */
  checkUsable(): void {
    if (this.#state === 'ended') throw new Error(`a change of '${this.#name}' after its end`);
    if (this.#broken !== null) throw this.#broken.error;
  }

  hold(file: JournaledStorage, change: HeldChange): void {
    this.#held.push({ file, change });
    this.#heldBytes += change.kind === 'flush' ? 0 : change.kind === 'write' ? change.bytes.length : change.length;
    const cannotWait = this.#oneOfSeveral && change.kind === 'flush';
    if (cannotWait || this.#heldBytes >= holdUpTo || this.#held.length >= mostHeld) this.drain();
  }

  /** The last held change is a flush of this file. */
  endsWithFlush(file: JournaledStorage): boolean {
    const last = this.#held.at(-1);
    return last !== undefined && last.file === file && last.change.kind === 'flush';
  }

  /** Makes all changes held back. Throws `storage/*`. */
  drain(): void {
    if (this.#held.length === 0) return;
    if (this.watching) {
      this.#writeDown((writer) => {
        const touched = this.#files.map(() => new Coverage());
        for (const { file, change } of this.#held) {
          if (change.kind === 'flush') continue;
          const length = change.kind === 'write' ? change.bytes.length : change.length;
          touched[file.id]?.add(alignDown(change.offset, sectorSize), alignUp(change.offset + length, sectorSize));
        }
        for (const [id, coverage] of touched.entries()) {
          const file = this.#files[id] as JournaledStorage;
          for (const { start, end } of coverage.stretches()) this.#keepOld(writer, file, start, end);
        }
        for (const { file, change } of this.#held) {
          if (change.kind === 'flush' || change.sums === null) continue;
          writer.freshRecord(file.id, change.sums.offset, change.sums.length, change.sums.checksums);
        }
      });
    }
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    this.#attempt(() => {
      for (const { file, change } of held) {
        if (change.kind === 'flush') file.inner.flush();
        else if (change.kind === 'write') file.inner.writeAt(change.bytes, change.offset);
        else file.inner.zeroAt(change.offset, change.length);
      }
    });
    for (const file of this.#files) file.forgetHeld();
  }

  /**
   * Makes one change at once, after those held back: `work` zeroes (or cuts off) `start`…`end`, or touches nothing that was there before
   * (`start` = `end`). The ends are on sectors, or at the old end.
   */
  direct(file: JournaledStorage, start: number, end: number, work: () => void): void {
    this.checkUsable();
    this.drain();
    if (this.watching) {
      const before = Math.min(end, this.sizeBefore(file));
      if (start < before || this.#state === 'idle' || file.id >= this.#named) {
        this.#writeDown((writer) => {
          if (start >= before) return;
          this.#keepOld(writer, file, start, before);
          writer.record('zeroed', { file: file.id, offset: start, length: before - start });
        });
      } else this.#touch();
    }
    this.#attempt(work);
  }

  /** A change beyond the old end: nothing is lost by it. */
  #touch(): void {
    try {
      this.#writer?.touch();
    } catch (error) {
      this.#giveUpOr(error);
    }
  }

  /** A change beyond the old end, made at once. Needs `isClear`. */
  beyond(work: () => void): void {
    if (this.#state === 'running') this.#touch();
    this.#attempt(work);
  }

  /** Bytes of the file before the verb. */
  sizeBefore(file: JournaledStorage): number {
    return this.#marks[file.id]?.size ?? 0;
  }

  /**
   * This image was changed inside the change of another one (commit: the image inside that of its base). It is finished, or put back,
   * together with that one, and after it: what this image gave up because the other one holds it now is given up last.
   */
  park(): void {
    if (this.#outer === null) throw new Error('there is nothing to wait for');
    this.#outer.#parked.push(this);
  }

  /** The verb has finished: all changes, those of parked journals too, are made and last. True when it can be taken back. Throws `storage/*`. */
  seal(): boolean {
    const all = [this, ...this.#parkedWithin()];
    for (const journal of all) journal.#finishChanges();
    const changed = all.filter((journal) => journal.#state === 'running');
    const members = changed.map((journal) => realPath(journal.#name));
    const group = members.length > 1 ? { id: crypto.randomUUID(), members } : null;
    // Each can be put back until the first one is done; from then on all are done, also those that do not say so yet.
    if (group !== null) for (const journal of changed) journal.#writer?.prepare(group);
    let kept = changed.length > 0;
    for (const journal of all)
      kept = (journal === changed[0] || group === null ? journal.#finish() : journal.#follow()) && kept;
    return kept;
  }

  *#parkedWithin(): Generator<UndoJournal, void, void> {
    for (const journal of this.#parked) {
      yield journal;
      yield* journal.#parkedWithin();
    }
  }

  #finishChanges(): void {
    this.checkUsable();
    this.drain();
    if (this.#state === 'running' && this.#options.lasting) for (const file of this.#files) file.flushIfChanged();
  }

  /** Finishes after the first of a group, which decides: from there on there is no way back, and no failure. */
  #follow(): boolean {
    try {
      return this.#finish();
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      this.#writer?.close();
      this.#end();
      return false;
    }
  }

  #finish(): boolean {
    const writer = this.#writer;
    const kept = this.#state === 'running' && writer !== null && this.#options.keep;
    if (this.#state === 'running' && writer !== null) {
      if (kept) {
        const files = this.#files.slice(0, this.#named);
        const results = files.map(({ inner, touched }, i) => {
          const before = this.#marks[i] as FileMark;
          return touched && inner.descriptor !== null ? markOf(inner.descriptor, inner.name) : before;
        });
        writer.done(results);
        writer.close();
      } else writer.remove();
    }
    if (!kept) for (const file of this.#files) file.giveSpaceBack();
    this.#end();
    return kept;
  }

  /**
   * The verb has failed: everything is as it was before it. Where that is not possible the journal stays, and the next opening tries
   * again (`undo/left`). Never throws for faults of the host.
   */
  rollBack(): void {
    for (const journal of [...this.#parked].reverse()) journal.rollBack();
    if (this.#state === 'ended') return;
    const writer = this.#writer;
    this.#held = [];
    for (const file of this.#files) file.forgetHeld();
    const wasRunning = this.#state === 'running';
    const isBack = this.#orLeft(() => {
      if (writer !== null && wasRunning) this.#putBack(writer);
      else writer?.remove(); // it was begun, and nothing was done under it
    });
    // Also those that the journal does not know yet. Without a journal what was changed may need them.
    if (this.#state === 'idle' || (wasRunning && isBack)) {
      for (const file of this.#made) this.#orLeft(() => removeMade(file.inner));
    }
    this.#end();
  }

  /** A fault of the host is told (`undo/left`): false then. */
  #orLeft(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      const detail = { name: this.#name, verb: this.#options.verb, reason: error.message };
      notice(new ImageError('undo/left', detail, { file: this.#writer?.file ?? this.#name }, error));
      return false;
    }
  }

  #putBack(writer: JournalWriter): void {
    writer.close();
    const storage = openFile(writer.file, { writable: true, lock: 'none' });
    try {
      const journal = readJournal(storage);
      // Null: nothing of it had reached the disk, and so nothing of the verb.
      if (journal === null) return;
      const files = journal.files.map((file) => ({ file, ours: this.#files[file.id] as JournaledStorage }));
      const touched = files.filter(({ file, ours }) => ours.touched || file.made);
      const targets = touched.map(({ file, ours }) => ({ file, storage: ours.inner }));
      rollBack(JournalWriter.takingBack(storage, journal), storage, targets);
    } finally {
      storage.close();
    }
  }

  #end(): void {
    this.#state = 'ended';
    this.#writer = null;
    for (const { inner } of this.#files) inner.close();
  }

  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#broken = { error };
      throw error;
    }
  }

  /** Lets `write` write records, and makes them last; gives the journal up where it cannot be kept. */
  #writeDown(write: (writer: JournalWriter) => void): void {
    try {
      const writer = this.#begun();
      for (; this.#named < this.#files.length; this.#named++) {
        const file = this.#files[this.#named] as JournaledStorage;
        const mark = this.#marks[this.#named] as FileMark;
        writer.addFile(file.id, mark, file.role, realPath(file.name), this.#made.has(file));
      }
      write(writer);
      writer.commit();
      this.#state = 'running';
    } catch (error) {
      this.#giveUpOr(error);
    }
  }

  #begun(): JournalWriter {
    if (this.#writer !== null) return this.#writer;
    const file = journalPath(this.#name);
    const { verb, command, lasting, limit } = this.#options;
    const free = freeSpace(path.dirname(file));
    const allowed = limit ?? Math.min(usualLimit, free === null ? usualLimit : Math.floor(free / 4));
    this.#writer = JournalWriter.begin(file, { verb, command }, this.#marks[0] as FileMark, {
      lasting,
      limit: allowed,
    });
    return this.#writer;
  }

  #giveUpOr(error: unknown): void {
    if (error instanceof JournalFull) this.#giveUp('the journal would become too large');
    else if (cannotKeep(error)) this.#giveUp(error.message);
    else {
      this.#broken = { error };
      throw error;
    }
  }

  /**
   * Goes on without a journal: a verb that ends early now leaves what the format's order of writes makes of it. The change around this
   * one does so too: what it has must last before this image gives anything up for it.
   */
  #giveUp(reason: string): void {
    this.#outer?.giveUp(reason);
    this.#state = 'off';
    const writer = this.#writer;
    this.#writer = null;
    writer?.remove();
    if (!this.#options.keep) return;
    notice(
      new ImageError('undo/not-kept', { name: this.#name, verb: this.#options.verb, reason }, { file: this.#name }),
    );
  }

  /** From now on changes go straight to the host, and a flush is one. Throws `storage/*`. */
  giveUp(reason: string): void {
    if (!this.watching) return;
    this.drain();
    if (this.watching) this.#giveUp(reason);
  }

  /** Writes down what stands in `start`…`end` of the old file, as far as that was not done before. */
  #keepOld(writer: JournalWriter, file: JournaledStorage, start: number, end: number): void {
    const size = this.sizeBefore(file);
    const from = alignDown(start, sectorSize);
    const to = Math.min(size, alignUp(end, sectorSize));
    for (const stretch of file.kept.missing(from, to)) {
      for (let at = stretch.start; at < stretch.end;) {
        const extent = file.inner.extentAt(at, stretch.end - at);
        const length = Math.max(1, Math.min(extent.length, stretch.end - at));
        if (extent.kind === 'hole') writer.record('hole', { file: file.id, offset: at, length });
        else
          for (let done = 0; done < length; done += largestPiece)
            keepPiece(writer, file, at + done, Math.min(largestPiece, length - done));
        at += length;
      }
      file.kept.add(stretch.start, stretch.end);
    }
  }
}

function keepPiece(writer: JournalWriter, file: JournaledStorage, offset: number, length: number): void {
  const bytes = new Uint8Array(length);
  file.inner.readAt(bytes, offset);
  if (length >= 4 * KiB && isZero(bytes)) writer.record('hole', { file: file.id, offset, length });
  else writer.record('old', { file: file.id, offset, length }, bytes);
}

function isZero(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0) return false;
  return Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}
