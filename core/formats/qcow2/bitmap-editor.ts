// Changing the bitmaps of a qcow2 image: everything new beside the old, the header switched to it, the old given back.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { BitmapEditor, BitmapSource, BitmapState } from '../bitmap-driver.ts';
import {
  bitmapShape,
  clusterAt,
  loadBitmapTable,
  mergeInto,
  storedStretches,
  type BitmapShape,
} from './bitmap-bits.ts';
import { readBitmapDirectory } from './bitmap-references.ts';
import { bitmapDirectory, readBitmaps, type BitmapEntry } from './bitmaps.ts';
import { findExtension } from './header.ts';
import { withExtension } from './header-write.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { autoclear, bitmapDirectoryEntry, bitmapFlag, bitmapsExtension, extensionType, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';
import { tableBytes } from './tables.ts';

/** Bytes of data that QEMU keeps for one bitmap, and the longest name. */
const mostBytes = 0x2000_0000;
const longestName = 1023;

/** One bitmap while it is changed. */
interface Draft {
  readonly name: string;
  readonly granularity: number;
  readonly shape: BitmapShape;
  enabled: boolean;
  readonly inconsistent: boolean;
  /** Where its table stands; null: it has none yet, or a changed one. */
  stored: BitmapEntry | null;
  /** Its table; null: not read. */
  table: Uint32Array | null;
}

/**
 * The bitmaps as they are. Throws `qcow2/bitmaps-damaged` for a directory that QEMU would not open, `qcow2/bitmap-directory`,
 * `storage/*`.
 */
export function soundBitmaps(state: Qcow2State): BitmapEntry[] {
  const directory = readBitmapDirectory(state);
  if (directory !== null && directory.fault !== null) {
    const where = { file: state.storage.name, offset: directory.offset, field: 'bitmap directory' };
    throw new ImageError('qcow2/bitmaps-damaged', { reason: directory.fault }, where);
  }
  return readBitmaps(state);
}

export class Qcow2BitmapEditor implements BitmapEditor {
  readonly #metadata: Qcow2Metadata;
  readonly #state: Qcow2State;
  #drafts: Draft[];
  /** Clusters with data that were written since the last commit: nobody else refers to them. */
  readonly #fresh = new Set<number>();
  /** Clusters that only the bitmaps on disk refer to; given back after the commit. */
  #old: { readonly offset: number; readonly length: number }[] = [];
  #changed = false;

  /** Throws `bitmap/version`, and what `soundBitmaps` throws. */
  constructor(metadata: Qcow2Metadata) {
    this.#metadata = metadata;
    this.#state = metadata.state;
    this.#drafts = soundBitmaps(this.#state).map((stored) => ({
      name: stored.name,
      granularity: stored.granularity,
      shape: bitmapShape(this.#state.layout, this.#state.size, stored.granularity),
      enabled: stored.auto,
      inconsistent: stored.inUse,
      stored,
      table: null,
    }));
  }

  list(): readonly BitmapState[] {
    return this.#drafts.map(({ name, granularity, enabled, inconsistent }) => ({
      name,
      granularity,
      enabled,
      inconsistent,
    }));
  }

  add(name: string, granularity: number | null, enabled: boolean): void {
    const { layout, size, storage, version } = this.#state;
    const chosen = granularity ?? Math.min(65536, Math.max(4096, layout.clusterSize));
    const refuse = (code: RefusalCode, allowed = 0): never => {
      throw new ImageError(code, { name, image: storage.name, allowed }, { file: storage.name });
    };
    if (name === '') refuse('bitmap/empty-name');
    if (chosen < 512 || chosen > 2 ** 31 || !Number.isInteger(Math.log2(chosen))) refuse('bitmap/granularity');
    if (this.#drafts.some((draft) => draft.name === name)) refuse('bitmap/exists');
    if (version < 3) refuse('bitmap/version');
    const shape = bitmapShape(layout, size, chosen);
    if (shape.bits / 8 > mostBytes || shape.entries > limit.bitmapTableEntries) refuse('bitmap/space');
    if (shape.entries * layout.clusterSize > mostBytes) refuse('bitmap/space');
    if (Buffer.byteLength(name) > longestName) refuse('bitmap/name-long', longestName);
    if (shape.bits === 0) refuse('bitmap/no-bytes');
    if (this.#drafts.length >= limit.bitmaps) refuse('bitmap/too-many');
    const draft = { name, granularity: chosen, shape, enabled, inconsistent: false, stored: null };
    const drafts = [...this.#drafts, { ...draft, table: new Uint32Array(2 * shape.entries) }];
    if (directoryLength(drafts) > limit.bitmapDirectoryBytes) refuse('bitmap/directory-full');
    this.#drafts = drafts;
    this.#changed = true;
  }

  remove(name: string): void {
    const draft = this.#find(name);
    const table = draft.inconsistent ? this.#tableIfSound(draft) : this.#tableOf(draft);
    for (let index = 0; table !== null && index < draft.shape.entries; index++) this.#drop(clusterAt(table, index));
    this.#dropTable(draft);
    this.#drafts = this.#drafts.filter((other) => other !== draft);
    this.#changed = true;
  }

  clear(name: string): void {
    const draft = this.#usable(name);
    const table = this.#tableForChange(draft);
    for (let index = 0; index < draft.shape.entries; index++) this.#drop(clusterAt(table, index));
    table.fill(0);
  }

  setEnabled(name: string, enabled: boolean): void {
    const draft = this.#usable(name);
    if (draft.enabled === enabled) return;
    draft.enabled = enabled;
    this.#changed = true;
  }

  source(name: string): BitmapSource {
    const draft = this.#usable(name);
    const { granularity, shape } = draft;
    const table = this.#tableOf(draft);
    const stretches = (): ReturnType<typeof storedStretches> => storedStretches(this.#state, table, shape);
    return { name, granularity, diskSize: this.#state.size, stretches };
  }

  merge(name: string, source: BitmapSource): void {
    const draft = this.#usable(name);
    const { size } = this.#state;
    if (source.diskSize !== size) {
      const detail = { destination: size, source: source.diskSize };
      throw new ImageError('bitmap/sizes', detail, { file: this.#state.storage.name });
    }
    const { clusterSize } = this.#state.layout;
    const table = this.#tableForChange(draft);
    mergeInto(
      {
        granularity: draft.granularity,
        shape: draft.shape,
        load: (index) => {
          const place = clusterAt(table, index);
          if (place === 'ones') return null;
          const bits = new Uint8Array(clusterSize);
          if (place !== 'zeroes') readPadded(this.#state.storage, bits, place);
          return bits;
        },
        store: (index, bits) => this.#store(table, index, bits),
      },
      source,
    );
  }

  /**
   * Makes the bitmaps fit a disk of `size` bytes: bits of what is added are clear. To be called before the disk has the size, while the
   * bitmaps are valid, with `commit` after it. Throws `bitmap/inconsistent`, `bitmap/space`.
   */
  fitTo(size: number): void {
    const { layout, storage } = this.#state;
    const before = bitmapDirectory(this.#state);
    if (before === null) return;
    this.#drafts = this.#drafts.map(({ name }) => {
      const draft = this.#usable(name);
      const shape = bitmapShape(layout, size, draft.granularity);
      if (shape.entries > limit.bitmapTableEntries || shape.entries * layout.clusterSize > mostBytes) {
        throw new ImageError('bitmap/space', { name, image: storage.name, allowed: 0 }, { file: storage.name });
      }
      const old = this.#tableForChange(draft);
      for (let index = shape.entries; index < draft.shape.entries; index++) this.#drop(clusterAt(old, index));
      const table = new Uint32Array(2 * shape.entries);
      table.set(old.subarray(0, table.length));
      this.#clearBehind(table, shape, Math.min(shape.bits, draft.shape.bits));
      return { ...draft, shape, table };
    });
    this.#old.push({ offset: before.offset, length: before.length });
  }

  /** Bits from `valid` on, in the cluster of data that has that bit. */
  #clearBehind(table: Uint32Array, shape: BitmapShape, valid: number): void {
    const index = Math.floor(valid / shape.clusterBits);
    const within = valid % shape.clusterBits;
    const place = index < shape.entries ? clusterAt(table, index) : 'zeroes';
    if (within === 0 || place === 'zeroes') return;
    const bits = new Uint8Array(shape.clusterBits / 8).fill(0xff);
    if (place !== 'ones') readPadded(this.#state.storage, bits, place);
    const byte = Math.floor(within / 8);
    bits[byte] = (bits[byte] ?? 0) & ((1 << (within % 8)) - 1);
    bits.fill(0, byte + 1);
    this.#store(table, index, bits);
  }

  commit(): void {
    if (!this.#changed) return;
    const { header } = this.#state;
    this.#metadata.beforeChange();
    const before = bitmapDirectory(this.#state);
    if (before !== null) this.#old.push({ offset: before.offset, length: before.length });
    for (const draft of this.#drafts) {
      if (draft.stored === null && draft.table !== null) this.#writeTable(draft, draft.table);
    }
    const directory = directoryBytes(this.#drafts);
    const offset = directory.length === 0 ? 0 : this.#write(directory);
    // All of it is on disk, and counted, before anything says where it is.
    this.#metadata.flush();
    const fields = (bits: bigint): void => {
      header.fields = { ...header.fields, autoclear_features: bits };
    };
    const others = header.fields.autoclear_features & ~autoclear.bitmaps;
    if (directory.length === 0) {
      fields(others);
      this.#rewriteHeader(null);
    } else {
      const data = new Uint8Array(bitmapsExtension.size);
      bitmapsExtension.patch(data, {
        nb_bitmaps: this.#drafts.length,
        bitmap_directory_size: directory.length,
        bitmap_directory_offset: offset,
      });
      // An extension that was not valid must not be taken for the new one.
      if (before === null && findExtension(header, extensionType.bitmaps) !== null) this.#rewriteHeader(null);
      fields(others | autoclear.bitmaps);
      this.#rewriteHeader(data);
    }
    const { clusterSize } = this.#state.layout;
    for (const old of this.#old) {
      const first = Math.floor(old.offset / clusterSize);
      this.#metadata.free(first, Math.ceil((old.offset + old.length) / clusterSize) - first);
    }
    this.#old = [];
    this.#fresh.clear();
    this.#metadata.flush();
    this.#changed = false;
  }

  #rewriteHeader(extension: Uint8Array | null): void {
    const { header } = this.#state;
    const before = header.extensions;
    header.extensions = withExtension(before, extensionType.bitmaps, extension);
    try {
      this.#metadata.rewriteHeader();
    } catch (error) {
      header.extensions = before;
      throw error;
    }
    this.#metadata.flush();
  }

  #find(name: string): Draft {
    const draft = this.#drafts.find((one) => one.name === name);
    if (draft === undefined) throw new ImageError('bitmap/not-found', { name }, { file: this.#state.storage.name });
    return draft;
  }

  #usable(name: string): Draft {
    const draft = this.#find(name);
    if (draft.inconsistent) throw new ImageError('bitmap/inconsistent', { name }, { file: this.#state.storage.name });
    return draft;
  }

  #tableOf(draft: Draft): Uint32Array {
    const { stored } = draft;
    if (draft.table === null) {
      if (stored === null) throw new Error(`bitmap ${draft.name} has no table`);
      draft.table = loadBitmapTable(this.#state, stored, draft.shape);
    }
    return draft.table;
  }

  /** The table of a bitmap that nobody may believe: where it is damaged, its clusters are left to the check. */
  #tableIfSound(draft: Draft): Uint32Array | null {
    try {
      return this.#tableOf(draft);
    } catch (error) {
      if (error instanceof ImageError) return null;
      throw error;
    }
  }

  #tableForChange(draft: Draft): Uint32Array {
    const table = this.#tableOf(draft);
    this.#dropTable(draft);
    this.#changed = true;
    return table;
  }

  #dropTable(draft: Draft): void {
    if (draft.stored !== null) this.#old.push({ offset: draft.stored.tableOffset, length: draft.stored.tableSize * 8 });
    draft.stored = null;
  }

  #drop(place: ReturnType<typeof clusterAt>): void {
    if (typeof place !== 'number') return;
    const { clusterSize } = this.#state.layout;
    if (this.#fresh.delete(place)) this.#metadata.free(place / clusterSize, 1);
    else this.#old.push({ offset: place, length: clusterSize });
  }

  /** New data of a cluster of bits: where it stood if nothing on disk refers to that, otherwise in a new place. */
  #store(table: Uint32Array, index: number, bits: Uint8Array): void {
    const place = clusterAt(table, index);
    if (typeof place === 'number' && this.#fresh.has(place)) {
      this.#state.storage.writeAt(bits, place);
      return;
    }
    this.#drop(place);
    const offset = this.#write(bits);
    this.#fresh.add(offset);
    table[2 * index] = Math.floor(offset / 0x1_0000_0000);
    table[2 * index + 1] = offset % 0x1_0000_0000;
  }

  /** Writes `bytes` into new clusters, to their end; gives the offset. */
  #write(bytes: Uint8Array): number {
    const { clusterSize } = this.#state.layout;
    const clusters = Math.ceil(bytes.length / clusterSize);
    const offset = this.#metadata.allocateMetadata(clusters);
    const whole = new Uint8Array(clusters * clusterSize);
    whole.set(bytes);
    this.#state.storage.writeAt(whole, offset);
    return offset;
  }

  #writeTable(draft: Draft, table: Uint32Array): void {
    const tableOffset = this.#write(tableBytes(table));
    const { name, granularity, enabled: auto } = draft;
    draft.stored = { name, inUse: false, auto, granularity, tableOffset, tableSize: draft.shape.entries };
  }
}

type RefusalCode =
  | 'bitmap/empty-name'
  | 'bitmap/granularity'
  | 'bitmap/exists'
  | 'bitmap/version'
  | 'bitmap/space'
  | 'bitmap/name-long'
  | 'bitmap/no-bytes'
  | 'bitmap/too-many'
  | 'bitmap/directory-full';

function directoryLength(drafts: readonly Draft[]): number {
  return drafts.reduce(
    (length, { name }) => length + alignUp(bitmapDirectoryEntry.size + Buffer.byteLength(name), 8),
    0,
  );
}

/** The directory (specification: "Bitmap directory"). */
function directoryBytes(drafts: readonly Draft[]): Uint8Array {
  const bytes = new Uint8Array(directoryLength(drafts));
  let at = 0;
  for (const { name, granularity, enabled, inconsistent, stored } of drafts) {
    if (stored === null) throw new Error(`bitmap ${name} was not written`);
    const text = Buffer.from(name, 'utf8');
    bitmapDirectoryEntry.patch(bytes.subarray(at), {
      bitmap_table_offset: stored.tableOffset,
      bitmap_table_size: stored.tableSize,
      flags: (inconsistent ? bitmapFlag.inUse : 0) | (enabled ? bitmapFlag.auto : 0),
      type: 1,
      granularity_bits: Math.log2(granularity),
      name_size: text.length,
      extra_data_size: 0,
    });
    bytes.set(text, at + bitmapDirectoryEntry.size);
    at += alignUp(bitmapDirectoryEntry.size + text.length, 8);
  }
  return bytes;
}
