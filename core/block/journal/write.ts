// Writing a journal: records gather in memory, go out in order, and `commit` makes them last before anything they speak of is done.
import crypto from 'node:crypto';
import path from 'node:path';
import { crc32c } from '../../bytes/checksum.ts';
import { ImageError } from '../../errors/image-error.ts';
import { openFile } from '../file.ts';
import type { Storage } from '../storage.ts';
import { alignUp } from '../units.ts';
import type { Journal } from './read.ts';
import { flushFolder, ownAs, removeJournal, type FileMark } from './place.ts';
import {
  fileStruct,
  headStruct,
  journalMagic,
  journalVersion,
  madeByVerb,
  mostRecords,
  recordAlignment,
  recordMagic,
  recordStruct,
  recordType,
  resultStruct,
  sectorSize,
} from './spec.ts';

type RecordName = keyof typeof recordType;

/** What a journal says of its verb. */
export interface About {
  readonly verb: string;
  /** The command line, or what else a person would know it by. */
  readonly command: string;
}

/** Images that one verb changed together: they are taken back together. */
export interface Group {
  readonly id: string;
  /** Absolute paths; the journal of the first one decides for all. */
  readonly members: readonly string[];
}

/** Thrown when a journal would become larger than it may; nothing that it should have protected was done yet. */
export class JournalFull extends Error {}

const gatherUpTo = 1024 * 1024;
/** While nothing needs the journal, it is touched this often: its age then tells that of the verb's last change. Milliseconds. */
const heartbeat = 2000;

export class JournalWriter {
  readonly file: string;
  readonly #storage: Storage;
  readonly #nonce: number;
  readonly #lasting: boolean;
  readonly #limit: number;
  #end = 0;
  #parts: Uint8Array[] = [];
  #gathered = 0;
  #batch = 1;
  #records = 0;
  #lastAlive = performance.now();

  private constructor(storage: Storage, file: string, nonce: number, lasting: boolean, limit: number) {
    this.#storage = storage;
    this.file = file;
    this.#nonce = nonce;
    this.#lasting = lasting;
    this.#limit = limit;
  }

  /**
   * Begins the journal `file`, in place of one that stands there, with room for `limit` bytes. Nothing of it lasts before the first
   * `commit`. `lasting` false: never wait for the disk. Throws `storage/open`, `storage/write`.
   */
  static begin(
    file: string,
    about: About,
    image: FileMark,
    options: { lasting: boolean; limit: number },
  ): JournalWriter {
    removeJournal(file, false);
    const storage = openFile(file, { writable: true, lock: 'none', create: 'new', mode: 0o600 });
    try {
      if (storage.descriptor !== null) ownAs(storage.descriptor, image);
      const nonce = crypto.randomBytes(4).readUInt32LE();
      const writer = new JournalWriter(storage, file, nonce, options.lasting, options.limit);
      const head = headStruct.serialise({ magic: journalMagic, version: journalVersion, nonce, time: Date.now() });
      headStruct.patch(head, { checksum: crc32c(head.subarray(0, 60)) });
      writer.#gather(head);
      writer.record('about', {}, Buffer.from(JSON.stringify(about)));
      return writer;
    } catch (error) {
      storage.close();
      removeJournal(file, false);
      throw error;
    }
  }

  /**
   * Goes on with a journal that was read, behind its last whole batch: it is being taken back from now on. Owns `storage`.
   * Throws `storage/write`, `storage/truncate`, `storage/flush`.
   */
  static takingBack(storage: Storage, journal: Pick<Journal, 'nonce' | 'end' | 'batch'>): JournalWriter {
    const writer = new JournalWriter(storage, storage.name, journal.nonce, true, Infinity);
    writer.#end = journal.end;
    writer.#batch = journal.batch;
    storage.truncate(journal.end);
    writer.record('undoing', {});
    writer.#send();
    writer.#batch++;
    storage.flush();
    return writer;
  }

  addFile(id: number, mark: FileMark, role: string, filePath: string, made: boolean): void {
    const roleText = Buffer.from(role);
    const pathText = Buffer.from(path.relative(path.dirname(this.file), filePath));
    const row = fileStruct.serialise({
      inode: mark.inode,
      born: mark.born,
      size: mark.size,
      modified: mark.modified,
      role_length: roleText.length,
      path_length: pathText.length,
    });
    this.record('file', { file: id, offset: made ? madeByVerb : 0 }, Buffer.concat([row, roleText, pathText]));
  }

  /** Throws `JournalFull`, `storage/write`. */
  record(type: RecordName, place: { file?: number; offset?: number; length?: number }, payload?: Uint8Array): void {
    const length = payload?.length ?? 0;
    if (this.#end + this.#gathered + recordStruct.size + length > this.#limit || this.#records >= mostRecords) {
      if (type !== 'done' && type !== 'undoing' && type !== 'group') throw new JournalFull();
    }
    this.#records++;
    const head = recordStruct.serialise({
      magic: recordMagic,
      type: recordType[type],
      file: place.file ?? 0,
      batch: this.#batch,
      offset: place.offset ?? 0,
      length: place.length ?? 0,
      payload_length: length,
      payload_checksum: payload === undefined ? this.#nonce : crc32c(payload, this.#nonce),
    });
    recordStruct.patch(head, { checksum: crc32c(head.subarray(0, 44), this.#nonce) });
    this.#gather(head);
    if (payload !== undefined) this.#gather(payload);
    const gap = alignUp(this.#end + this.#gathered, recordAlignment) - (this.#end + this.#gathered);
    if (gap > 0) this.#gather(new Uint8Array(gap));
  }

  /** Checksums of the sectors of `bytes`, which stand from `offset` (a multiple of a sector) on. */
  freshRecord(file: number, offset: number, length: number, checksums: Uint32Array): void {
    this.record(
      'fresh',
      { file, offset, length },
      new Uint8Array(checksums.buffer, checksums.byteOffset, checksums.byteLength),
    );
  }

  /** Ends the batch; it lasts when this returns. Throws `storage/write`, `storage/flush`. */
  commit(): void {
    this.record('commit', {});
    this.#send();
    this.#batch++;
    if (this.#lasting) this.#storage.flush();
    if (this.#lasting && this.#batch === 2) flushFolder(path.dirname(this.file));
    this.#lastAlive = performance.now();
  }

  /** Says now and then that the verb is still at work. Throws `storage/write`. */
  touch(): void {
    if (performance.now() - this.#lastAlive < heartbeat) return;
    this.#lastAlive = performance.now();
    this.record('alive', {});
    this.#send();
    this.#batch++;
  }

  /** All changes are made; they count when those of the first member of `group` do. Throws `storage/write`, `storage/flush`. */
  prepare(group: Group): void {
    this.record('group', {}, Buffer.from(JSON.stringify(group)));
    this.commit();
  }

  /** The verb is done and this is what it left. Throws `storage/write`, `storage/flush`. */
  done(results: readonly FileMark[]): void {
    const rows = results.map(({ size, modified, changed }) => resultStruct.serialise({ size, modified, changed }));
    this.record('done', {}, Buffer.concat(rows));
    this.#send();
    if (this.#lasting) this.#storage.flush();
  }

  close(): void {
    this.#storage.close();
  }

  /** Throws `storage/write`, `storage/flush`. */
  remove(): void {
    this.#storage.close();
    removeJournal(this.file, this.#lasting);
  }

  #gather(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#gathered += bytes.length;
    if (this.#gathered >= gatherUpTo) this.#send();
  }

  #send(): void {
    if (this.#gathered === 0) return;
    const bytes = Buffer.concat(this.#parts);
    this.#storage.writeAt(bytes, this.#end);
    this.#end += bytes.length;
    this.#parts = [];
    this.#gathered = 0;
  }
}

/** CRC-32C of each sector of `bytes`; the last may be short. */
export function sectorChecksums(bytes: Uint8Array): Uint32Array {
  const count = Math.ceil(bytes.length / sectorSize);
  const sums = new Uint32Array(count);
  for (let i = 0; i < count; i++) sums[i] = crc32c(bytes.subarray(i * sectorSize, (i + 1) * sectorSize));
  return sums;
}

/** True when a journal cannot be had here although nothing is broken: no room, no permission, a name that is too long. */
export function cannotKeep(error: unknown): error is ImageError {
  return error instanceof ImageError && noJournal.has(String(error.facts.errno));
}

const noJournal = new Set([
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOSPC',
  'EDQUOT',
  'EFBIG',
  'ENAMETOOLONG',
  'ENOTSUP',
  'EOPNOTSUPP',
]);
