// What a format is to the rest of the engine: a table of functions and facts.
import type { Annotation } from '../bytes/struct.ts';
import type { SecretSource } from '../block/crypto/secret.ts';
import type { BackingReference, BlockNode, Preallocation, WritableNode } from '../block/node.ts';
import type { Storage } from '../block/storage.ts';
import type { GuestOffset, HostOffset, HostRange } from '../block/units.ts';
import type { Where } from '../errors/image-error.ts';
import type { Job } from '../job.ts';
import type { CompactDriver } from './compact-driver.ts';
import type { BitmapDriver } from './bitmap-driver.ts';
import type { FormatId } from './format-id.ts';
import type { Head } from './heads.ts';
import type { TableEntries } from './table-entries.ts';

/** How an image may reach other files. The policy is the caller's (`gate.ts`); a driver only asks. */
export interface OpenGate {
  /** Opens the layer below, read-only. `format` null: probe. Throws `gate/*`. */
  openImage(reference: { from: string; path: string; format: string | null }): BlockNode;
  /** Opens another file of the same image (data file, extent), with the same access as the image itself. */
  openFile(reference: { from: string; path: string; role: string }): Storage;
  /** Tells of all that an image is about to open, before the first is opened. Absent: nobody wants to know. */
  announce?(references: readonly { from: string; path: string; role: string; format?: string | null }[]): void;
  /** A new file of the same image; one of that name must not be there. Absent: nothing can be made here. */
  createFile?(reference: { from: string; path: string; role: string }): Storage;
  /**
   * The first bytes (up to `length`) of the files in `folder` (seen from the image's) whose names end in `ending`, for formats that know
   * the layer below by its identity only. What may not be followed, or cannot be read, is left out. Absent: there is nothing to look into.
   */
  headsBeside?(request: {
    from: string;
    folder: string;
    ending: string;
    length: number;
  }): Iterable<{ readonly path: string; readonly head: Uint8Array }>;
}

export interface OpenRequest {
  readonly writable: boolean;
  readonly gate: OpenGate;
  /** False: do not open the layer below (info, check, unsafe rebase); `backing` is then null and unallocated reads as zero. */
  readonly withBacking: boolean;
  /** Settings of the one who opens, not of the image (`offset`/`size` of raw, `lazy-refcounts` of qcow2, …); unknown names are refused. */
  readonly runtime: Readonly<Record<string, string>>;
  /** The image was created a moment ago and no name points to it yet: its ids are right as they are. */
  readonly fresh?: boolean;
  /** Open even if the image is marked corrupt or needs repair: check does. */
  readonly forRepair: boolean;
  /**
   * For looking at what may be damaged, read-only: what a table hides that cannot be read is answered as `unreadable` in `map`, for as far as
   * that table reaches, in place of a throw. `open`: tables that do not lie within the file do not keep the image from opening either.
   */
  readonly lenient?: 'map' | 'open' | undefined;
  /**
   * Hands out the passphrase of an encrypted image; the setting `key-secret` (luks) or `encrypt.key-secret` (qcow, qcow2) of
   * `runtime` says which. Absent: there are none.
   */
  readonly secret?: SecretSource | undefined;
  /** Hears what was found and mended in an image that had to be repaired before it could be opened for writing. */
  readonly tell?: ((finding: Finding) => void) | undefined;
  /** False: no guest byte will be asked for (info, check): an encrypted image opens without its passphrase. Absent: true. */
  readonly guestData?: boolean | undefined;
}

export type OptionValue = string | number | boolean;

/** One creation option: draws the form, the help and the check of `-o`. */
export interface OptionRow {
  readonly name: string;
  readonly type: 'string' | 'size' | 'number' | 'bool';
  /** The line of `-o help`. */
  readonly meaning: string;
  /** The values allowed, where they are few. */
  readonly values?: readonly string[];
  /** What is used when it is not given, if that is a fixed value. */
  readonly default?: OptionValue;
  /** In the line that create prints: always, or only when it was given. Rows stand in the order of that line. */
  readonly shown: 'always' | 'given';
  /** It can be amended later. */
  readonly amendable?: boolean;
  /** Taken, but in no list: for ourselves (`--keep-identity`) and for tests. */
  readonly hidden?: boolean;
}

export interface CreateRequest {
  /** Empty and writable: the file of the image. */
  readonly storage: Storage;
  /** The name it will have (it may carry another while it is written). */
  readonly name: string;
  /** Virtual size in bytes. */
  readonly size: number;
  /** Values by option name, of the types that the rows say; defaults are not filled in. */
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly backing: BackingReference | null;
  /** Opens the layer below for formats that record its identity (VMDK, VHD, VHDX, VDI). Whoever called `create` closes it. */
  readonly openBacking?: () => BlockNode;
  /** A further empty file of the same image beside it (`path` as the image will record it). */
  createFile(path: string, role: string): Storage;
  /** Hands out the passphrase that the option `key-secret` or `encrypt.key-secret` names. Absent: there are none. */
  readonly secret?: SecretSource | undefined;
  readonly job: Job;
}

/** A tree of facts in qemu-img's spelling and order (`Format specific information`). */
export type FactValue = string | number | boolean | FactTree | readonly FactValue[];
export interface FactTree {
  readonly [key: string]: FactValue;
}

export interface SnapshotFacts {
  readonly id: string;
  readonly name: string;
  /** Bytes of saved machine state. */
  readonly vmStateSize: number;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly vmClockNanoseconds: number;
  /** Instruction count of record/replay; null where the snapshot has none. */
  readonly icount: number | null;
  /** Virtual size when it was taken. */
  readonly diskSize: number;
}

/** What an image says of itself. Sizes in bytes. */
export interface ImageFacts {
  readonly clusterSize: number | null;
  readonly encrypted: boolean;
  /** Not closed cleanly by its last writer; null: the format has no such mark and qemu-img prints no `dirty-flag`. */
  readonly dirty: boolean;
  readonly backing: BackingReference | null;
  readonly specific: { readonly type: string; readonly data: FactTree } | null;
  readonly snapshots: readonly SnapshotFacts[];
  /** Facts that qemu-img does not print (under `platter` in the JSON). */
  readonly further: FactTree | null;
}

/** A stretch of the file and what it is for. */
export interface Region {
  readonly start: HostOffset;
  readonly length: number;
  readonly label: string;
  readonly kind: 'header' | 'table' | 'log' | 'data' | 'lost';
  annotate(window: HostRange): Annotation[];
}

/** An entry of a table of the image: where it stands, and what it says. */
export interface TableEntry {
  /** The table's name in the specification, and the entry in it: `L2[5]`. */
  readonly structure: string;
  readonly field: string;
  /** The file it stands in. */
  readonly role: string;
  readonly offset: HostOffset;
  readonly length: number;
  readonly value: string;
}

/** A byte of the guest's disk, or of a file of the image. */
export type EntryQuestion = { readonly guest: GuestOffset } | { readonly role: string; readonly host: HostOffset };

/** How often the clusters of a file are referred to, as the image itself counts it. Offsets and lengths in bytes. */
export interface StoredCounts {
  /** The count of the cluster at `start` (null: it cannot be read), and how far from there, at most to `end`, it is the same. */
  run(start: HostOffset, end: HostOffset): { readonly count: number | null; readonly length: number };
}

/** One thing that a check found. `text` is the line that qemu-img prints for it, or one in its style. */
export interface Finding {
  readonly code: string;
  readonly severity: 'corruption' | 'leak' | 'error';
  readonly text: string;
  readonly where: Where;
  /** Clusters (or blocks) it counts for. */
  readonly count: number;
  /** What a repair would do; null: nothing is known. */
  readonly repair: string | null;
  /** A repair has put it right. */
  readonly fixed?: boolean;
}

/** `Finding.repair` of a parent that is not the one that the image remembers. */
export const relinkRepair = 'with relink, the image takes the parent as it is now';

/** The figures at the end of a check. Counts are in clusters (blocks, grains); null: the format has no such figure. */
export interface CheckSummary {
  readonly imageEndOffset: number | null;
  readonly totalClusters: number | null;
  readonly allocatedClusters: number | null;
  readonly fragmentedClusters: number | null;
  readonly compressedClusters: number | null;
}

/** What a repair put right. */
export interface RepairCounts {
  readonly corruptions: number;
  readonly leaks: number;
}

/** A persistent bitmap of an image: bytes of the disk per bit. */
export interface BitmapFacts {
  readonly name: string;
  readonly granularity: number;
}

export interface MeasureRequest {
  readonly size: number;
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly backing: BackingReference | null;
  /** The runs that will be stored, as what a convert would write; null: an empty disk. Called once. */
  readonly data: (() => Iterable<{ start: number; length: number }>) | null;
  /** The source's bitmaps that could be taken along; null or absent: it cannot have any. */
  readonly bitmaps?: readonly BitmapFacts[] | null;
  /** As in `CreateRequest`: the options are held against what create would say of them. */
  readonly secret?: SecretSource | undefined;
}

export interface Measurement {
  /** Bytes the new file needs for this content, and if every byte of the disk were stored. */
  readonly required: number;
  readonly fullyAllocated: number;
  /** Bytes that the source's bitmaps would take besides; absent: the source or the new image cannot have any. */
  readonly bitmaps?: number;
}

/** A size that an image can get only as a new file. */
export interface SizeByRewrite {
  /** Why, as the rest of a sentence. */
  readonly reason: string;
  /** Creation options that make the new image like the old one. */
  readonly options: Readonly<Record<string, OptionValue>>;
}

/** Ids of an image, as far as a new image can be given them. */
export interface ImageIdentity {
  /** The id of the disk (a UUID), whatever the format; null: it has none. */
  readonly disk: string | null;
  /** Creation options that give a new image of the same format the same identity. */
  readonly options: Readonly<Record<string, OptionValue>>;
}

/** What tells one state of a disk from another in the eyes of the images above it. */
export interface ContentIdentity {
  readonly id: string;
  /** Changes when the content does, while `id` stays; null: `id` itself changes, or nothing tells. */
  readonly version: string | null;
}

/** How images of a format know each other. Ids are text in lower case, comparable within one format. */
export interface Kinship {
  /** What a new child would record of this image now; null: nothing. */
  readonly own: ContentIdentity | null;
  /** What this image recorded of the layer below: any of these is right. Empty: it has none, or records only a name. */
  readonly expected: readonly ContentIdentity[];
  /** Names under which the layer below is looked for, best first, as they stand in the image. */
  readonly names: readonly string[];
}

/** What a snapshot alone takes. */
export interface SnapshotSize {
  readonly id: string;
  readonly freed: number | null;
}

/** Internal snapshots. Ids and names are looked up as qemu-img does: id first, then name. */
export interface SnapshotDriver {
  list(node: BlockNode): readonly SnapshotFacts[];
  /** The snapshot as a read-only node over the same storage (closing it leaves `node` open). Throws `snapshot/not-found`. */
  open(node: BlockNode, idOrName: string): BlockNode;
  /**
   * For the first `limit` snapshots what would become free in the file if that one were deleted, in bytes; null: not known by `until`
   * (as `performance.now()` counts). Absent: it never is.
   */
  sizes?(node: BlockNode, limit: number, until: number): readonly SnapshotSize[];
  /** Takes a snapshot of the disk as it is. One step: a power cut leaves the image before or after it. Throws `snapshot/*`. */
  create?(node: WritableNode, asked: NewSnapshot, job: Job): SnapshotFacts;
  /** Makes the disk what the snapshot holds, its size too. Throws `snapshot/*`. */
  apply?(node: WritableNode, idOrName: string, job: Job): void;
  /** Deletes the snapshot with this id (not: name). Throws `snapshot/*`. */
  delete?(node: WritableNode, id: string, job: Job): void;
}

/** A snapshot to be taken. Names need not be unique. */
export interface NewSnapshot {
  readonly name: string;
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
}

/** What is to become another in an image that is there. */
export interface AmendRequest {
  /** Values by the names of `amendOptions`, of the types that the rows say; what is not named stays as it is. */
  readonly options: Readonly<Record<string, OptionValue>>;
  /** Also what may lose data for good (key slots overwritten, the last one erased). */
  readonly force: boolean;
  /** Do what comes before a lower version even if that is refused then, as qemu-img does. Absent: check it before anything is done. */
  readonly inOrder?: boolean | undefined;
  /** The setting that named the secret which opened the image; null: none did. */
  readonly openedWith: string | null;
  readonly secret?: SecretSource | undefined;
}

export interface FormatDriver {
  readonly id: FormatId;
  /** Name for people. */
  readonly label: string;
  /** Usual file name endings, without the dot. A hint for dialogs, never for detection. */
  readonly extensions: readonly string[];
  readonly options: readonly OptionRow[];
  /** Space in the file of `node` was provided for without being written: `map` asks the host for holes in its data. Absent: never. */
  holesInData?(node: BlockNode): boolean;
  /** It can have a layer below. */
  readonly hasBacking: boolean;
  /** Do these first (up to 64 KiB) and last (up to 1 KiB) bytes of a file of `size` bytes belong to this format? Must not throw. */
  probe(head: Uint8Array, tail: Uint8Array, size?: number): boolean;
  /** Opens; owns `storage` from then on (closes it, also when it throws). A writable request gives a `WritableNode`. */
  open(storage: Storage, request: OpenRequest): BlockNode;
  /** Absent: read-only here. Leaves a complete, empty image in `request.storage`; does not close it. */
  create?(request: CreateRequest): void;
  /** Subformats into which a conversion can compress; true: into every image of it. Absent: into none. */
  readonly compresses?: true | readonly string[];
  /** Subformats that can have no layer below although others can. Absent: there are none. */
  readonly wholeSubformats?: readonly string[];
  /** A new image of it is written in one go together with its content: convert makes it, create does not. */
  readonly onlyConverted?: boolean;
  /** False: what was never written to a new image with these options reads as noise (encrypted in place). Absent: as zeroes. */
  startsAsZeroes?(options: Readonly<Record<string, OptionValue>>): boolean;
  /** The ids by which others know this image. Absent: the format has none. */
  identity?(node: BlockNode): ImageIdentity;
  /** How it and its relatives know each other. Absent: by file names only. */
  kinship?(node: BlockNode): Kinship;
  /** The creation option that takes another image's `disk` id. */
  readonly diskIdOption?: string;
  /** Virtual size that `create` will give for the size asked (VHD rounds to its geometry). Absent: whole sectors. */
  sizeFor?(size: number, options: Readonly<Record<string, OptionValue>>): number;
  /** How `resize` can provide for what this image grows by, besides not at all. Absent: in no way. */
  provisions?(node: BlockNode): readonly Preallocation[];
  /** What a new `size` takes where the image cannot be resized in place; null: it can. Absent: it always can. */
  sizeByRewrite?(node: BlockNode, size: number): SizeByRewrite | null;
  facts(node: BlockNode): ImageFacts;
  /** In order, without gap or overlap, the whole file `role` (`file` unless said). */
  regions(node: BlockNode, role?: string): Iterable<Region>;
  /**
   * The same with pauses (`null`), where a long search comes before a region: what asks may stop there and go on later. Absent: nothing
   * long comes before any region.
   */
  regionSteps?(node: BlockNode, role?: string): Iterable<Region | null>;
  /** Structures at fixed places, for a file that cannot be opened. Absent: there are none. */
  readonly heads?: readonly Head[];
  /** Entries of its tables by name. Absent: it has no tables. */
  readonly entries?: TableEntries;
  /**
   * The entries of tables that decide over a byte of the disk, outermost first, or that count a byte of a file. Empty: there are none.
   * Absent: the format has no tables. Throws the format's codes for damaged tables.
   */
  entriesOf?(node: BlockNode, at: EntryQuestion): readonly TableEntry[];
  /** The counts that the image keeps of the clusters of its file `role`; null: of that file there are none. Absent: of no file. */
  counts?(node: BlockNode, role: string): StoredCounts | null;
  check?(node: BlockNode, job: Job): Generator<Finding, CheckSummary, void>;
  /**
   * Holds what a convert will read against the checksums that come with the image; throws where they do not agree. May be left alone
   * between its steps. Absent: the format has no such checksums.
   */
  verify?(node: BlockNode, job: Job): Generator<void, void, void>;
  /**
   * Repairs what `check` finds, in place; what was put right is counted as `check` counts it. Absent: repair is not possible here.
   * `leaks`: only what cannot do harm. `tell` hears of every finding as it is met, `fixed` or not, where the repair is also a look.
   */
  repair?(node: BlockNode, what: 'leaks' | 'all', job: Job, tell?: (finding: Finding) => void): RepairCounts;
  measure?(request: MeasureRequest): Measurement;
  /** Giving space back. Absent: not possible. */
  readonly compact?: CompactDriver;
  /** Persistent dirty bitmaps and their changes. Absent: the format has none. */
  readonly dirtyBitmaps?: BitmapDriver;
  /** Bitmaps that are whole; null: this image cannot have any. Absent: the format has none. */
  bitmaps?(node: BlockNode): readonly BitmapFacts[] | null;
  readonly snapshots?: SnapshotDriver;
  /** What `amend` takes, in any order; absent: nothing can be amended. */
  readonly amendOptions?: readonly OptionRow[];
  /** Changes options of the image in place. Throws `amend/*`, `luks/amend-*`, the format's codes. */
  amend?(node: WritableNode, request: AmendRequest, job: Job): void;
}
