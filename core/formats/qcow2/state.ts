// What is known of an open qcow2 image: its files, header, layout, active L1 table.
import type { BackingReference, Cipher, ImageFile } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignDown } from '../../block/units.ts';
import type { LuksInside } from './encryption.ts';
import { L2Tables } from './l2.ts';
import { findExtension, readHeader, textOf, type HeaderOptions, type Qcow2Header } from './header.ts';
import type { Layout } from './layout.ts';
import { autoclear, compatible, extensionType, incompatible } from './spec.ts';
import { loadTable } from './tables.ts';

/** An open image. The tables here are what the nodes over it share; a writer changes them in place. */
export class Qcow2State {
  readonly storage: Storage;
  readonly header: Qcow2Header;
  /** Another one only when the width of the refcounts is amended. */
  layout: Layout;
  readonly forRepair: boolean;
  /** Opened to look at what may be damaged: a table that reaches beyond the end of the file is read as far as it goes. */
  readonly lenient: boolean;
  /** The external data file; null until it is opened, and where guest clusters lie in the image itself. */
  dataFile: Storage | null = null;
  /** Opens the external data file when guest data is first asked for: who only asks for facts does not need it. */
  openDataFile: (() => Storage) | null = null;
  /** Set once the keys of an encrypted image are there; without it guest data is refused (`qcow2/encrypted`). */
  cipher: Cipher | null = null;
  /** The LUKS header of an image encrypted with LUKS; its key slots are changed in place. */
  luks: LuksInside | null = null;
  /** The L2 tables of the active disk and of all snapshots. */
  readonly tables: L2Tables;
  /** Goes up with every change of a table: what was found out before may not be true any more. */
  changes = 0;
  /** The active L1 table in halves. `fields.l1_size` entries. */
  l1: Uint32Array;

  /** Throws what `readHeader` throws, and `qcow2/table-beyond-file`. */
  constructor(storage: Storage, options: HeaderOptions) {
    const { header, layout } = readHeader(storage, options);
    this.storage = storage;
    this.header = header;
    this.layout = layout;
    this.forRepair = options.forRepair;
    this.lenient = options.lenient !== undefined;
    this.tables = new L2Tables(this);
    const { l1_table_offset, l1_size } = header.fields;
    const beyond = options.forRepair ? 'zero' : 'refuse';
    this.l1 = loadTable(storage, l1_table_offset, l1_size, 'Active L1 table', beyond);
  }

  /** Virtual size in bytes: whole sectors, as QEMU counts. */
  get size(): number {
    return alignDown(this.header.fields.size, 512);
  }

  get version(): number {
    return this.header.fields.version;
  }

  /** Where guest clusters lie. */
  get data(): Storage {
    if (this.dataFile === null && this.openDataFile !== null) this.dataFile = this.openDataFile();
    return this.dataFile ?? this.storage;
  }

  get files(): readonly ImageFile[] {
    const files: ImageFile[] = [{ role: 'file', format: 'file', storage: this.storage }];
    if (this.dataFile !== null) files.push({ role: 'data-file', format: 'file', storage: this.dataFile });
    return files;
  }

  get dirty(): boolean {
    return (this.header.fields.incompatible_features & incompatible.dirty) !== 0n;
  }

  get corrupt(): boolean {
    return (this.header.fields.incompatible_features & incompatible.corrupt) !== 0n;
  }

  /** Guest clusters lie in an external data file. */
  get external(): boolean {
    return (this.header.fields.incompatible_features & incompatible.dataFile) !== 0n;
  }

  /** The external data file is the guest's disk as raw. */
  get externalRaw(): boolean {
    return (this.header.fields.autoclear_features & autoclear.dataFileRaw) !== 0n;
  }

  get lazyRefcounts(): boolean {
    return (this.header.fields.compatible_features & compatible.lazyRefcounts) !== 0n;
  }

  /** The bitmaps extension may be believed. */
  get bitmapsValid(): boolean {
    return (this.header.fields.autoclear_features & autoclear.bitmaps) !== 0n;
  }

  get encrypted(): boolean {
    return this.header.fields.crypt_method !== 0;
  }

  /** Name of the encryption method. */
  get cryptName(): string {
    return ['none', 'aes', 'luks'][this.header.fields.crypt_method] ?? String(this.header.fields.crypt_method);
  }

  /** Name of the data file as the header records it; null: it does not. */
  get dataFileName(): string | null {
    const extension = findExtension(this.header, extensionType.dataFile);
    return extension === null ? null : textOf(extension.data);
  }

  /** The layer below as the header records it. */
  get backingReference(): BackingReference | null {
    const path = this.header.backingName;
    if (path === null || path === '') return null;
    const extension = findExtension(this.header, extensionType.backingFormat);
    const format = extension === null ? '' : textOf(extension.data);
    return { path, format: format === '' ? null : format };
  }
}
