// Reading a journal, bounded and distrustful: what does not pass its checksum is not there, what contradicts itself is damage.
import { crc32c } from '../../bytes/checksum.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Storage } from '../storage.ts';
import { alignUp } from '../units.ts';
import type { About, Group } from './write.ts';
import {
  fileStruct,
  headStruct,
  journalMagic,
  journalVersion,
  largestJournal,
  largestPiece,
  mostRecords,
  recordAlignment,
  recordMagic,
  recordStruct,
  recordType,
  resultStruct,
  madeByVerb,
  sectorSize,
  type RecordHead,
} from './spec.ts';

/** Bytes of a file before the verb; `at`: where they stand in the journal, null: they were zeroes. */
export interface OldPiece {
  readonly offset: number;
  readonly length: number;
  readonly at: number | null;
}

/** Sectors that the verb has (or may have) written; `at`: where their checksums stand, null: zeroes. */
export interface FreshPiece {
  readonly offset: number;
  readonly length: number;
  readonly at: number | null;
}

export interface JournalFile {
  readonly id: number;
  readonly role: string;
  /** As it starts at the folder of the journal. */
  readonly path: string;
  readonly inode: bigint;
  readonly born: bigint;
  /** Bytes before the verb. */
  readonly size: number;
  /** The verb made the file: putting back removes it. */
  readonly made: boolean;
  /** By offset, without overlap. */
  readonly old: readonly OldPiece[];
  /** In the order of the changes. */
  readonly fresh: readonly FreshPiece[];
  /** What the verb left; null: it did not finish. */
  readonly result: { readonly size: number; readonly modified: bigint } | null;
}

export interface Journal extends About {
  /** Milliseconds since 1970. */
  readonly time: number;
  /** `running`: the verb ended early, or is being taken back; `done`: it finished. */
  readonly state: 'running' | 'done';
  /** Somebody has begun to take it back. */
  readonly undoing: boolean;
  readonly files: readonly JournalFile[];
  /** Null: the verb changed this image alone. */
  readonly group: Group | null;
  readonly nonce: number;
  /** Where the next record belongs, and the number of its batch. */
  readonly end: number;
  readonly batch: number;
}

const ending: readonly number[] = [recordType.commit, recordType.alive, recordType.done, recordType.undoing];

/**
 * What `storage` says. Null: no journal, or one that was torn before anything was done under it. `quick`: the bytes themselves are not
 * checked. Throws `undo/damaged`, `undo/version`, `storage/*`.
 */
export function readJournal(storage: Storage, quick = false): Journal | null {
  if (storage.size > largestJournal) throw damaged(storage, 0, `it has ${storage.size} bytes`);
  if (storage.size < headStruct.size) return null;
  const head = new Uint8Array(headStruct.size);
  storage.readAt(head, 0);
  if (head.every((byte) => byte === 0)) return null;
  const { magic, version, nonce, time, checksum } = headStruct.parse(head, { file: storage.name });
  if (magic !== journalMagic || checksum !== crc32c(head.subarray(0, 60)))
    throw damaged(storage, 0, 'its head cannot be read');
  if (version !== journalVersion) {
    throw new ImageError(
      'undo/version',
      { found: version, allowed: journalVersion },
      { file: storage.name, offset: 8 },
    );
  }
  const parts = new Parts(storage);
  let at = headStruct.size;
  let batch = 1;
  let records = 0;
  let pending: { head: RecordHead; payloadAt: number }[] = [];
  let end = at;
  for (;;) {
    const record = recordAt(storage, at, nonce, quick);
    if (record === null || record.batch !== batch) break;
    if (++records > 2 * mostRecords) throw damaged(storage, at, 'it has too many records');
    pending.push({ head: record, payloadAt: at + recordStruct.size });
    at = alignUp(at + recordStruct.size + record.payload_length, recordAlignment);
    if (!ending.includes(record.type)) continue;
    for (const one of pending) parts.take(one.head, one.payloadAt);
    pending = [];
    end = at;
    batch++;
  }
  // What follows is a batch that was never begun to be done, unless its own end or a later batch stands behind it.
  if (laterBatch(storage, end, nonce, batch)) throw damaged(storage, at, 'a record in its middle cannot be read');
  return batch === 1 ? null : parts.finish({ time, nonce, end, batch });
}

/** The head of the record at `at`, if it and its payload pass their checksums. */
function recordAt(storage: Storage, at: number, nonce: number, quick: boolean): RecordHead | null {
  if (at + recordStruct.size > storage.size) return null;
  const bytes = new Uint8Array(recordStruct.size);
  storage.readAt(bytes, at);
  const head = headOf(bytes, nonce);
  if (head === null || at + recordStruct.size + head.payload_length > storage.size) return null;
  const bulk = head.type === recordType.old || head.type === recordType.fresh;
  if (!(quick && bulk) && head.payload_length > 0) {
    const payload = new Uint8Array(head.payload_length);
    storage.readAt(payload, at + recordStruct.size);
    if (crc32c(payload, nonce) !== head.payload_checksum) return null;
  }
  return head;
}

function headOf(bytes: Uint8Array, nonce: number): RecordHead | null {
  try {
    const head = recordStruct.parse(bytes);
    return head.magic === recordMagic && head.checksum === crc32c(bytes.subarray(0, 44), nonce) ? head : null;
  } catch (error) {
    if (error instanceof ImageError) return null; // numbers out of their limits: not a record
    throw error;
  }
}

/** True when the end of `batch`, or a record of a later one, stands anywhere behind `from`. */
function laterBatch(storage: Storage, from: number, nonce: number, batch: number): boolean {
  const window = new Uint8Array(largestPiece);
  for (let at = from; at + recordStruct.size <= storage.size; at += window.length - recordStruct.size) {
    const here = window.subarray(0, Math.min(window.length, storage.size - at));
    storage.readAt(here, at);
    for (let i = 0; i + recordStruct.size <= here.length; i += recordAlignment) {
      if (here[i] !== 0x50 || here[i + 1] !== 0x4c || here[i + 2] !== 0x4a || here[i + 3] !== 0x52) continue;
      const head = headOf(here.subarray(i, i + recordStruct.size), nonce);
      if (head === null || head.batch < batch) continue;
      if (head.batch > batch || ending.includes(head.type)) return true;
    }
  }
  return false;
}

interface OpenFile {
  row: Omit<JournalFile, 'old' | 'fresh' | 'result'>;
  old: OldPiece[];
  fresh: FreshPiece[];
  result: JournalFile['result'];
}

/** The records of whole batches, sorted into what they say. */
class Parts {
  readonly #storage: Storage;
  #about: About = { verb: '', command: '' };
  #state: Journal['state'] = 'running';
  #undoing = false;
  #group: Group | null = null;
  readonly #files: OpenFile[] = [];

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  take(head: RecordHead, payloadAt: number): void {
    const { offset, length } = head;
    const wrong = (what: string): ImageError => damaged(this.#storage, payloadAt - recordStruct.size, what);
    switch (head.type) {
      case recordType.about:
        this.#about = aboutOf(this.#payload(head, payloadAt));
        return;
      case recordType.file:
        if (head.file !== this.#files.length || head.file > 100_000) throw wrong('files out of order');
        this.#files.push({ row: this.#fileRow(head, payloadAt), old: [], fresh: [], result: null });
        return;
      case recordType.old:
      case recordType.hole: {
        const file = this.#fileAt(head, wrong);
        const isHole = head.type === recordType.hole;
        if (length === 0 || offset + length > file.row.size) throw wrong('old bytes beyond the old end');
        if (!isHole && head.payload_length !== length) throw wrong('old bytes of another length');
        file.old.push({ offset, length, at: isHole ? null : payloadAt });
        return;
      }
      case recordType.fresh:
      case recordType.zeroed: {
        const file = this.#fileAt(head, wrong);
        const isZero = head.type === recordType.zeroed;
        if (length === 0 || offset + length > file.row.size) throw wrong('new bytes beyond the old end');
        if (!isZero && (offset % sectorSize !== 0 || head.payload_length !== 4 * Math.ceil(length / sectorSize))) {
          throw wrong('checksums that do not fit their sectors');
        }
        file.fresh.push({ offset, length, at: isZero ? null : payloadAt });
        return;
      }
      case recordType.done:
        this.#takeResults(this.#payload(head, payloadAt), wrong);
        this.#state = 'done';
        return;
      case recordType.group:
        this.#group = groupOf(this.#payload(head, payloadAt));
        if (this.#group === null) throw wrong('a group that cannot be read');
        return;
      case recordType.undoing:
        this.#state = 'running';
        this.#undoing = true;
        return;
    }
  }

  finish(rest: Pick<Journal, 'time' | 'nonce' | 'end' | 'batch'>): Journal {
    const files = this.#files.map(({ row, old, fresh, result }): JournalFile => {
      old.sort((a, b) => a.offset - b.offset);
      for (const [i, piece] of old.entries()) {
        const next = old[i + 1];
        if (next !== undefined && piece.offset + piece.length > next.offset) {
          throw damaged(this.#storage, piece.at ?? 0, 'the same old bytes twice');
        }
      }
      return { ...row, old, fresh, result };
    });
    return { ...rest, ...this.#about, state: this.#state, undoing: this.#undoing, group: this.#group, files };
  }

  #fileAt(head: RecordHead, wrong: (what: string) => ImageError): OpenFile {
    const file = this.#files[head.file];
    if (file === undefined) throw wrong('bytes of a file that it does not name');
    return file;
  }

  #fileRow(head: RecordHead, payloadAt: number): OpenFile['row'] {
    const bytes = this.#payload(head, payloadAt);
    const where = { file: this.#storage.name, offset: payloadAt };
    const { inode, born, size, role_length, path_length } = fileStruct.parse(bytes, where);
    const text = (start: number, length: number): string =>
      Buffer.from(bytes.subarray(start, start + length)).toString('utf8');
    const role = text(fileStruct.size, role_length);
    const made = head.offset === madeByVerb;
    return { id: head.file, role, path: text(fileStruct.size + role_length, path_length), inode, born, size, made };
  }

  #takeResults(bytes: Uint8Array, wrong: (what: string) => ImageError): void {
    if (bytes.length !== this.#files.length * resultStruct.size) throw wrong('results that do not fit its files');
    for (const [i, file] of this.#files.entries()) {
      const { size, modified } = resultStruct.parse(bytes.subarray(i * resultStruct.size));
      file.result = { size, modified };
    }
  }

  #payload(head: RecordHead, at: number): Uint8Array {
    const bytes = new Uint8Array(head.payload_length);
    this.#storage.readAt(bytes, at);
    return bytes;
  }
}

/** Verb and command for messages; text that is not what we write says nothing. */
function aboutOf(bytes: Uint8Array): About {
  const { verb, command } = fieldsOf(bytes);
  const text = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 4096) : '');
  return { verb: text(verb), command: text(command) };
}

const mostMembers = 256;

function groupOf(bytes: Uint8Array): Group | null {
  const { id, members } = fieldsOf(bytes);
  if (typeof id !== 'string' || !Array.isArray(members) || members.length > mostMembers) return null;
  return members.every((member) => typeof member === 'string') ? { id, members } : null;
}

/** The fields of a JSON object; none where it is something else. */
function fieldsOf(bytes: Uint8Array): Record<string, unknown> {
  try {
    const read: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return typeof read === 'object' && read !== null ? (read as Record<string, unknown>) : {};
  } catch {
    return {}; // not JSON
  }
}

function damaged(storage: Storage, offset: number, what: string): ImageError {
  return new ImageError('undo/damaged', { what }, { file: storage.name, offset });
}
