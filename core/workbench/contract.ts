// Everything that crosses to a window, once: each call with the shape of what it takes and the type of what it gives.
import { eventIterator, oc, type as output } from '@orpc/contract';
import * as v from 'valibot';
import type { LastVerb } from '../block/journal/take-back.ts';
import type { Annotation } from '../bytes/struct.ts';
import type { Datastore } from '../catalogue/datastores.ts';
import type { KeptFinding } from '../catalogue/findings.ts';
import type { GraphEdge, GraphNode, ImageGraph } from '../catalogue/graph.ts';
import type { BrokenBelow, ImageEntry, ImagePlace, ImageRecord } from '../catalogue/images.ts';
import type { Candidate, Edge } from '../catalogue/lineage.ts';
import type { Problem } from '../catalogue/problems.ts';
import type { WireError } from '../errors/image-error.ts';
import type { FactTree, OptionRow, Region, SnapshotSize } from '../formats/driver.ts';
import type { TakenBack } from '../block/journal/take-back.ts';
import type { ContentsPart, ContentsRemark, DiskContents } from '../guest/contents.ts';
import type { CheckResult } from '../operations/check.ts';
import type { CompactResult } from '../operations/compact.ts';
import { patternKinds, type Match, type PatternKind } from '../operations/find-pattern.ts';
import type { Found } from '../operations/search.ts';
import type { CompareResult } from '../operations/compare.ts';
import type { MeasureResult } from '../operations/measure.ts';
import type { DigestResult } from '../operations/digest.ts';
import type { ImageInfo } from '../operations/info.ts';
import type { ListedReference } from '../formats/references.ts';
import type { CatalogueNews } from './catalogue-news.ts';
import type { Verb } from './format-facts.ts';
import { gateRules, mostDecisions, type KeptGate } from './kept-gate.ts';
import type { DiskFacts } from '../profiles/disk-facts.ts';
import type { ProfilePlan } from '../profiles/plan.ts';
import type { Profile } from '../profiles/profile.ts';
import type { ProfileFinding, ProfileVerdict } from '../profiles/verdict.ts';
import { filePath, imageArgument } from './jobs/image-argument.ts';
import type { JobNews } from './jobs/job-host.ts';
import type { JobLine, JobRecord, MadeImage } from './jobs/job-store.ts';
import type { WorkFacts, WorkName, WorkParams } from './jobs/works.ts';
import { fileLayers, guestLayers, type MapLayer } from './map/classes.ts';
import type { GuestPlaces } from './images/guest-places.ts';
import type { MapPlace } from './map/image-map.ts';
import type { AddedSamples } from './samples/add-samples.ts';
import type { ShellCallInput, ShellCallName, ShellCallOutput, ShellInPage, ShellRequest } from './shell.ts';

export type {
  AddedSamples,
  BrokenBelow,
  CatalogueNews,
  CheckResult,
  ContentsPart,
  ContentsRemark,
  DiskContents,
  CompactResult,
  CompareResult,
  Datastore,
  DigestResult,
  Edge,
  FactTree,
  Found,
  GraphEdge,
  GraphNode,
  ImageEntry,
  ImageGraph,
  ImageInfo,
  ImagePlace,
  ImageRecord,
  JobLine,
  JobNews,
  KeptFinding,
  KeptGate,
  LastVerb,
  ListedReference,
  MadeImage,
  MapLayer,
  MapPlace,
  Match,
  MeasureResult,
  OptionRow,
  PatternKind,
  Problem,
  Profile,
  ProfileFinding,
  ProfilePlan,
  ProfileVerdict,
  SnapshotSize,
  TakenBack,
  Verb,
  WireError,
  WorkFacts,
};

/** A job with the sentence of its error. */
export interface JobEntry extends JobRecord {
  /** Null: it has no error. */
  readonly errorText: string | null;
}

/** What lists of images can be put in order by. */
export const imageOrders = ['path', 'format', 'virtualSize', 'allocated', 'changed'] as const;

/** What lists of images can be narrowed to: nothing is wrong, something is, changed without being closed, not there any more. */
export const imageHealths = ['ok', 'problem', 'dirty', 'gone'] as const;

/** The program behind the window. */
export interface About {
  readonly version: string;
  readonly platform: NodeJS.Platform;
  readonly catalogue: string;
  /** A catalogue that could not be used was put here, and why. */
  readonly setAside: { readonly path: string; readonly reason: string } | null;
  readonly readOnly: boolean;
  /** Folders that may be reached; null: all. */
  readonly roots: readonly string[] | null;
  readonly home: string;
}

/** A page of a folder. */
export interface FolderPage {
  readonly path: string;
  /** Null: there is nothing above that may be reached. */
  readonly parent: string | null;
  readonly entries: readonly {
    readonly name: string;
    readonly kind: 'folder' | 'file' | 'other';
    readonly size: number | null;
    readonly changedAt: number | null;
  }[];
  readonly total: number;
}

/** Where a file is or would be made: what is free there, and what it lies in. Bytes. */
export interface Room {
  /** The folder that was asked, or the nearest above that is there. */
  readonly folder: string;
  readonly free: number;
  readonly total: number;
  readonly datastore: { readonly id: string; readonly name: string } | null;
  /** Null: not known, or no limit that anybody meets. */
  readonly largestFile: number | null;
}

/** What a form for a format is drawn from. */
export interface FormatFacts {
  readonly id: string;
  readonly label: string;
  readonly extensions: readonly string[];
  readonly canCreate: boolean;
  readonly hasBacking: boolean;
  readonly hasSnapshots: boolean;
  readonly canCheck: boolean;
  readonly canRepair: boolean;
  /** It keeps dirty bitmaps. */
  readonly hasBitmaps: boolean;
  /** A conversion can compress into it: always, or in one of its subformats. */
  readonly canCompress: boolean;
  /** It is made by a conversion only: there is no empty one, and none is changed in place. */
  readonly onlyConverted: boolean;
  /** Values of its option `subformat`, the default first; none where it has no such option. */
  readonly subformats: readonly {
    readonly name: string;
    readonly canCompress: boolean;
    readonly hasBacking: boolean;
  }[];
  /** What can be done to its images. */
  readonly verbs: readonly Verb[];
  readonly options: readonly OptionRow[];
  /** What can be changed of an image that is there. */
  readonly amendOptions: readonly OptionRow[];
}

/** An image opened for looking at. */
export interface ImageSession {
  readonly id: string;
  /** Null: it could not be opened whole (`reduced`). */
  readonly info: ImageInfo | null;
  /** Bytes of the guest's disk, and of each file by its role. */
  readonly guestSize: number;
  readonly files: readonly {
    readonly role: string;
    readonly path: string;
    readonly length: number;
    /** Layers of its map. */
    readonly layers: readonly MapLayer[];
  }[];
  readonly depth: number;
  /** Bytes of the smallest cell of the map: of the guest's disk, of its files. */
  readonly mapUnits: { readonly guest: number; readonly file: number };
  /** The images that it reads through, itself first; of a long chain the first ones. */
  readonly layers: readonly string[];
  /** Layers of the map of the disk that say something of it. */
  readonly mapLayers: readonly MapLayer[];
  /** Null: it was opened whole. */
  readonly reduced: Reduced | null;
}

/**
 * An image that could not be opened whole, and why. `alone`: a layer under `file` cannot be read; `damaged`: `file` itself can in part only;
 * `bytes`: it is shown as its plain bytes. `depth`: how many layers below the top `file` is.
 */
export interface Reduced {
  readonly how: 'alone' | 'damaged' | 'bytes';
  readonly file: string;
  readonly depth: number;
  readonly reason: WireError;
  /** The reason in English. */
  readonly text: string;
  /** Further faults of the chain. */
  readonly more: number;
  /** The file of the chain that no passphrase, or a wrong one, was given for; null: none. */
  readonly locked: string | null;
}

/** What an image would pull in, as far as that can be seen without opening what is not allowed; `more` are left out. */
export interface ImageReferences {
  readonly references: readonly ListedReference[];
  readonly more: number;
  /** Why the list ends early besides what is not allowed; null: it does not. */
  readonly fault: WireError | null;
}

export type RegionFacts = Pick<Region, 'start' | 'length' | 'label' | 'kind'>;

/** A coloured stretch with the path that names it. */
export type FieldFacts = Annotation & { readonly path: string };

/** What the bytes of a window mean. `pending`: not known yet, ask again. */
export interface AnnotatedWindow {
  readonly annotations: readonly FieldFacts[];
  readonly regions: readonly RegionFacts[];
  readonly pending: boolean;
}

/** Where a byte of the guest's disk comes from, and for how many bytes from there on that holds. */
export interface PlaceFacts {
  readonly kind: 'data' | 'encrypted' | 'packed' | 'zero' | 'unallocated' | 'unreadable';
  readonly length: number;
  /** The image that answered, and how many layers below the top it is. */
  readonly layer: string;
  readonly depth: number;
  /** Where it is stored; null: nowhere. */
  readonly file: string | null;
  /** The role of that file, if it is one of the image's own. */
  readonly role: string | null;
  readonly offset: number | null;
  /** How it is packed, in how many bytes, and where in the unpacked unit it is; null: it is not. */
  readonly packed: {
    readonly codec: 'deflate-raw' | 'zlib' | 'zstd';
    readonly length: number;
    readonly unpackedLength: number;
    readonly skip: number;
  } | null;
  /** Why it cannot be read; null: nothing speaks against it. */
  readonly fault: SaidFault | null;
}

/** A fault as data, and its sentence in English. */
export interface SaidFault {
  readonly error: WireError;
  readonly text: string;
}

/** Stretches of a window that cannot be read, in order; of many the first ones. */
export interface UnreadWindow {
  readonly unread: readonly (SaidFault & { readonly start: number; readonly length: number })[];
  readonly more: number;
}

/** Cells of the cluster map: for each class a byte per cell. */
export interface MapTile {
  /** Bytes of the view, and of a cell of level 0; one of level n is 2^n as large. */
  readonly size: number;
  readonly unit: number;
  readonly classes: readonly string[];
  /** Class by class, cell by cell: how much of the cell is of the class (0 to 255); at least 1 where there is any. */
  readonly shares: Blob;
  /** False: ask again, some of it is estimated or missing. */
  readonly refined: boolean;
  /** Bytes from the start of the view that `totals` (bytes per class) count. */
  readonly surveyed: number;
  readonly totals: readonly number[];
  /** The first thing that could not be read. */
  readonly fault: SaidFault | null;
}

/** What platforms would say of an image. */
export interface ProfileReport {
  readonly facts: DiskFacts;
  readonly verdicts: readonly ProfileVerdict[];
}

/** How far a search or a comparison got. `next` null: to the end. `unread`: bytes passed over on the way that cannot be read. */
export interface Searched {
  readonly found: number | null;
  readonly next: number | null;
  readonly unread: number;
}

export interface ComparedStep {
  readonly differing: readonly { readonly start: number; readonly length: number }[];
  readonly next: number | null;
  readonly unread: number;
}

/** Cells of the map that one call hands over at most. */
export const mostCells = 16_384;

/** Places of a file that are looked for on the disk at once. */
export const mostPlaces = 1000;

/** Images that one graph shows at most. */
export const mostInGraph = 5000;

/** Bytes that one call hands over at most. */
export const mostBytes = 1024 * 1024;

/** Bytes that a packed unit takes at most. */
const mostPacked = 4 * 1024 * 1024;

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(1000));
const limit = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000));
const offset = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const decisions = v.pipe(v.array(filePath), v.maxLength(mostDecisions));
const secrets = v.optional(v.record(v.string(), v.string()), {});
const session = v.pipe(v.string(), v.uuid());
/** Which images a list has, and in which order. */
const listed = {
  datastore: v.nullable(name),
  format: v.nullable(name),
  tag: v.nullable(name),
  text: v.nullable(v.string()),
  problems: v.boolean(),
  /** Only those that others stand on. */
  hasChildren: v.optional(v.boolean(), false),
  health: v.optional(v.nullable(v.picklist(imageHealths)), null),
  /** By datastore and path unless another is asked for. */
  order: v.optional(v.picklist(imageOrders), 'path'),
  descending: v.optional(v.boolean(), false),
};
/** What is searched for, as a person writes it. */
const pattern = v.strictObject({
  kind: v.picklist(patternKinds),
  text: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)),
  ignoreCase: v.optional(v.boolean(), false),
});
/** `guest`, `snapshot:` with an id behind it, or the role of a file. */
const view = v.pipe(v.string(), v.minLength(1), v.maxLength(100));
/** Some bytes of a view. */
const windowOfBytes = v.strictObject({
  session,
  view,
  start: offset,
  length: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(mostBytes)),
});

export const contract = {
  program: {
    about: oc.output(output<About>()),
    formats: oc.output(output<readonly FormatFacts[]>()),
    folder: oc.input(v.strictObject({ path: v.nullable(filePath), offset, limit })).output(output<FolderPage>()),
    /** `path` need not be there yet. */
    space: oc.input(v.strictObject({ path: filePath })).output(output<Room>()),
    /** What a job can be, and what it is asked with: for doing one thing to many images. */
    works: oc.output(output<readonly WorkFacts[]>()),
  },
  gate: {
    get: oc.output(output<KeptGate>()),
    set: oc
      .input(v.strictObject({ rule: v.picklist(gateRules), allowed: decisions, denied: decisions }))
      .output(output<KeptGate>()),
    /** `folder`: whatever lies where this file lies, or below, may be pulled in; `never`: this file never. */
    decide: oc
      .input(v.strictObject({ path: filePath, decision: v.picklist(['folder', 'never']) }))
      .output(output<KeptGate>()),
  },
  catalogue: {
    /** That something of images or datastores has changed, by whichever program; many changes are one piece of news. */
    news: oc.output(eventIterator(output<CatalogueNews>())),
  },
  datastores: {
    list: oc.output(output<readonly Datastore[]>()),
    add: oc.input(v.strictObject({ path: filePath, name: v.nullable(name) })).output(output<Datastore>()),
    probe: oc.input(v.strictObject({ id: name })).output(output<Datastore>()),
    rename: oc.input(v.strictObject({ id: name, name })).output(output<Datastore>()),
    /** Above this over-commitment (1: all that is promised fits) it is a problem. */
    alert: oc
      .input(v.strictObject({ id: name, ratio: v.pipe(v.number(), v.minValue(0.01), v.maxValue(1000)) }))
      .output(output<Datastore>()),
    remove: oc.input(v.strictObject({ id: name })).output(output<null>()),
    problems: oc
      .input(v.strictObject({ offset, limit }))
      .output(output<{ readonly problems: readonly Problem[]; readonly total: number }>()),
  },
  images: {
    list: oc
      .input(
        v.strictObject({
          ...listed,
          offset,
          limit,
        }),
      )
      .output(output<{ readonly images: readonly ImageEntry[]; readonly total: number }>()),
    /** Those of the images that are in that list, with where they stand in it. */
    places: oc
      .input(v.strictObject({ ...listed, ids: v.pipe(v.array(name), v.maxLength(1000)) }))
      .output(output<readonly ImagePlace[]>()),
    show: oc.input(v.strictObject({ id: name })).output(output<ImageRecord>()),
    find: oc.input(v.strictObject({ text: name })).output(output<ImageRecord>()),
    /** The image in a file, read now; one in no datastore becomes known by itself, as a loose file. `forget`: such a one again. */
    open: oc.input(v.strictObject({ path: filePath })).output(output<ImageRecord>()),
    forget: oc.input(v.strictObject({ id: name })).output(output<null>()),
    write: oc
      .input(
        v.strictObject({
          id: name,
          name: v.optional(v.nullable(name)),
          note: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(100_000)))),
          addTags: v.optional(v.array(name), []),
          removeTags: v.optional(v.array(name), []),
        }),
      )
      .output(output<ImageRecord>()),
    dependents: oc.input(v.strictObject({ id: name })).output(output<readonly string[]>()),
    edges: oc
      .input(v.strictObject({ offset, limit }))
      .output(output<{ readonly edges: readonly Edge[]; readonly total: number }>()),
    /** Who stands on whom around an image (null: all that have relatives), from what the catalogue knows: nothing is opened. */
    graph: oc
      .input(
        v.strictObject({
          id: v.nullable(name),
          limit: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(mostInGraph)),
        }),
      )
      .output(output<ImageGraph>()),
    /** What the last check of the catalogue found, the first ones. */
    findings: oc.input(v.strictObject({ id: name })).output(output<readonly KeptFinding[]>()),
    /** Tags and how many images have them, the most used first. */
    tags: oc.output(output<readonly { readonly tag: string; readonly images: number }[]>()),
    /** The verb that the work `undo` would take back in the image at `path`, from a quick look; null: there is none. */
    undo: oc.input(v.strictObject({ path: filePath })).output(output<LastVerb | null>()),
    /** What it would pull in. Nothing is opened that is not allowed; `gate/ask` from a session or a job is what this is asked after. */
    references: oc.input(v.strictObject({ image: imageArgument, secrets })).output(output<ImageReferences>()),
    parents: oc.input(v.strictObject({ id: name })).output(output<readonly Candidate[]>()),
  },
  profiles: {
    /** The platforms that images can be made for, with their rules and where those are written down. */
    list: oc.output(output<readonly Profile[]>()),
    /** `profile` null: all of them. The image is only read. */
    check: oc
      .input(
        v.strictObject({
          image: imageArgument,
          profile: v.nullable(name),
          secrets,
        }),
      )
      .output(output<ProfileReport>()),
  },
  jobs: {
    start: oc
      .input(
        v.strictObject({
          work: v.string(),
          params: v.unknown(),
          secrets,
        }),
      )
      .output(output<{ readonly id: string }>()),
    list: oc.input(v.strictObject({ offset, limit })).output(output<readonly JobEntry[]>()),
    show: oc.input(v.strictObject({ id: name })).output(output<JobEntry>()),
    lines: oc.input(v.strictObject({ id: name, after: offset, limit })).output(output<readonly JobLine[]>()),
    cancel: oc.input(v.strictObject({ id: name })).output(output<null>()),
    pause: oc.input(v.strictObject({ id: name })).output(output<null>()),
    resume: oc.input(v.strictObject({ id: name })).output(output<null>()),
    forget: oc.input(v.strictObject({ id: name })).output(output<null>()),
    /** The disk that a running job writes (`makes`) as far as it is filled now: all cells of level 0, as many as a call hands over at most. */
    fill: oc.input(v.strictObject({ id: name })).output(output<MapTile>()),
    /** What an interrupted job left of the file that it was making; `tidy` removes it. */
    leftovers: oc.input(v.strictObject({ id: name })).output(output<readonly string[]>()),
    tidy: oc.input(v.strictObject({ id: name })).output(output<readonly string[]>()),
    /** What becomes of every job from now on. */
    news: oc.output(eventIterator(output<JobNews>())),
  },
  sessions: {
    open: oc
      .input(
        v.strictObject({
          image: imageArgument,
          secrets,
          /** What cannot be opened whole is opened without the layers below it, or as its plain bytes. */
          lenient: v.optional(v.boolean(), false),
        }),
      )
      .output(output<ImageSession>()),
    close: oc.input(v.strictObject({ session })).output(output<null>()),
    bytes: oc.input(windowOfBytes).output(output<Blob>()),
    /** What of a window that `bytes` refuses cannot be read, and why: the rest of it can be asked for. */
    unread: oc.input(windowOfBytes).output(output<UnreadWindow>()),
    regions: oc
      .input(v.strictObject({ session, view, from: offset, limit, structures: v.optional(v.boolean(), false) }))
      .output(output<{ readonly regions: readonly RegionFacts[]; readonly next: number | null }>()),
    annotations: oc
      .input(
        v.strictObject({
          session,
          view,
          start: offset,
          length: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65536)),
        }),
      )
      .output(output<AnnotatedWindow>()),
    /** The offset that a place written as text means: `0x200`, `1G`, `lba 2048`, `L2[3]`, `+64K`. */
    locate: oc
      .input(v.strictObject({ session, view, text: v.pipe(v.string(), v.maxLength(200)), here: offset }))
      .output(output<{ readonly offset: number }>()),
    place: oc.input(v.strictObject({ session, view, offset })).output(output<PlaceFacts>()),
    /** The byte of the guest's disk, from `from` on, that is stored at byte `at` of the file `view`; `next`: ask again from there. */
    guestOf: oc.input(v.strictObject({ session, view, at: offset, from: offset })).output(output<Searched>()),
    /** What of the disk, from `from` on, lies at the places `at` of the file `view`, or hangs on an entry of a table there. */
    guestPlaces: oc
      .input(
        v.strictObject({
          session,
          view,
          at: v.pipe(v.array(offset), v.minLength(1), v.maxLength(mostPlaces)),
          from: offset,
        }),
      )
      .output(output<GuestPlaces>()),
    map: oc
      .input(
        v.strictObject({
          session,
          view,
          layer: v.picklist([...guestLayers, ...fileLayers]),
          level: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(52)),
          first: offset,
          cells: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(mostCells)),
        }),
      )
      .output(output<MapTile>()),
    /** What stands at one place of the map. */
    describe: oc.input(v.strictObject({ session, view, at: offset })).output(output<MapPlace>()),
    /** For the first snapshots what would become free if it were deleted, in bytes; null: not known within a bounded time. */
    snapshots: oc.input(v.strictObject({ session, limit })).output(output<readonly SnapshotSize[]>()),
    /** Other programs that hold locks on the files of the image, as far as that is seen within a bounded time; the first ones. */
    holders: oc
      .input(v.strictObject({ session }))
      .output(output<readonly { readonly pid: number; readonly command: string }[]>()),
    /** Partitions and file systems of the guest's disk. */
    contents: oc.input(v.strictObject({ session })).output(output<DiskContents>()),
    /** Where a pattern stands from `from` on (`backwards`: before it, the last one first), at most `limit` places in one step. */
    find: oc
      .input(v.strictObject({ session, view, pattern, from: offset, backwards: v.optional(v.boolean(), false), limit }))
      .output(output<Found>()),
    /** What of a stretch belongs to what is searched for. */
    matches: oc
      .input(
        v.strictObject({
          session,
          view,
          pattern,
          start: offset,
          length: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65536)),
        }),
      )
      .output(output<readonly Match[]>()),
    /** What a packed cluster or grain of a file holds: one unit of the format. */
    unpacked: oc
      .input(
        v.strictObject({
          session,
          view,
          start: offset,
          length: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(mostPacked)),
          codec: v.picklist(['deflate-raw', 'zlib', 'zstd']),
        }),
      )
      .output(output<Blob>()),
    compare: oc
      .input(
        v.strictObject({
          session,
          other: imageArgument,
          /** Which disks are compared: as they are now (`guest`), or in a snapshot. */
          view: v.optional(view, 'guest'),
          otherView: v.optional(view, 'guest'),
          from: offset,
          /** What differs before `from`, the last one first. */
          backwards: v.optional(v.boolean(), false),
          limit,
        }),
      )
      .output(output<ComparedStep>()),
  },
};

export type Contract = typeof contract;
export type { ShellCallInput, ShellCallName, ShellCallOutput, ShellInPage, ShellRequest, WorkName, WorkParams };
