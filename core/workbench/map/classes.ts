// What the cells of the cluster map are sorted into: the layers of each view, their classes, and the class of a run or a region.
import type { Region } from '../../formats/driver.ts';

/** Ways to look at the guest's disk. */
export const guestLayers = ['state', 'depth', 'extents', 'order', 'shared'] as const;
export type GuestLayer = (typeof guestLayers)[number];

/** Ways to look at a file. */
export const fileLayers = ['kinds', 'counts', 'pieces'] as const;
export type FileLayer = (typeof fileLayers)[number];
export type MapLayer = GuestLayer | FileLayer;

/** Where the bytes of the disk are, and whether there are any. */
export const stateClasses = ['data', 'packed', 'below', 'zero', 'reserved', 'unallocated', 'unreadable'] as const;
/** How long the stretch is that lies in one piece in the file: below 256 KiB, below 4 MiB, below 64 MiB, longer. */
export const extentClasses = ['scattered', 'short', 'medium', 'long', 'none', 'unreadable'] as const;
/** Whose the stored bytes are: the disk's alone, a snapshot's too, packed ones (always written anew), a layer's below. */
export const sharedClasses = ['own', 'shared', 'packed', 'below', 'none', 'unreadable'] as const;
/** How often a cluster of the file is referred to, as the image counts it: 0, 1, 2, 3, 4 to 7, 8 to 15, more. */
export const countClasses = [
  'count-0',
  'count-1',
  'count-2',
  'count-3',
  'count-4',
  'count-8',
  'count-16',
  'unreadable',
] as const;
/** The same as `extentClasses`, of what the disk has in a file; the rest of the file is none of it. */
export const pieceClasses = ['scattered', 'short', 'medium', 'long', 'not-disk', 'unreadable'] as const;
/** The same of a disk in a snapshot: shared with the disk as it is, or with another snapshot. */
export const snapshotSharedClasses = sharedClasses.map((name) =>
  name === 'own' || name === 'shared' ? `${name}-snapshot` : name,
);
/** What stretches of a file are for. */
export const kindClasses = [
  'header',
  'tables',
  'refcounts',
  'bitmaps',
  'snapshots',
  'log',
  'data',
  'packed',
  'snapshot-data',
  'reserved',
  'free',
  'lost',
  'unreadable',
] as const;
export type KindClass = (typeof kindClasses)[number];

/** Layers of a chain that are told apart; deeper ones count to the last. */
export const mostDepths = 16;
/** Parts that a file is cut into, to show in which order the disk lies in it. */
export const orderParts = 16;

/** The classes of a layer of the map, for a chain of `depth` images. */
export function classesOf(layer: MapLayer, depth: number): readonly string[] {
  switch (layer) {
    case 'state':
      return stateClasses;
    case 'depth':
      return [
        ...Array.from({ length: Math.min(depth, mostDepths) }, (_, index) => `depth-${index}`),
        'none',
        'unreadable',
      ];
    case 'extents':
      return extentClasses;
    case 'order':
      return [...Array.from({ length: orderParts }, (_, index) => `part-${index}`), 'none', 'unreadable'];
    case 'shared':
      return sharedClasses;
    case 'kinds':
      return kindClasses;
    case 'counts':
      return countClasses;
    case 'pieces':
      return pieceClasses;
  }
}

const KiB = 1024;
const MiB = 1024 * KiB;

/** Bytes between two stored stretches that do not make two of them: block bitmaps lie there, and padding. */
export const smallGap = 4096;

/** The class of a stretch of `length` bytes that lies in one piece. */
export function extentClass(length: number): number {
  if (length < 256 * KiB) return 0;
  if (length < 4 * MiB) return 1;
  return length < 64 * MiB ? 2 : 3;
}

/** The class of a cluster that is referred to `count` times; null: that cannot be read. */
export function countClass(count: number | null): number {
  if (count === null) return countClasses.indexOf('unreadable');
  if (count < 4) return count;
  if (count < 8) return 4;
  return count < 16 ? 5 : 6;
}

/** Regions of one kind are told apart by the words of their label, which are those of the formats. */
const byLabel: Readonly<Record<Region['kind'], readonly (readonly [RegExp, KindClass])[]>> = {
  header: [],
  log: [],
  table: [
    [/refcount/, 'refcounts'],
    [/bitmap|batmap/, 'bitmaps'],
    [/snapshot/, 'snapshots'],
  ],
  data: [
    [/set aside/, 'reserved'],
    [/bitmap/, 'bitmaps'],
    [/snapshot/, 'snapshot-data'],
    [/compressed/, 'packed'],
  ],
  lost: [[/lost|not referenced|nothing maps/, 'lost']],
};
const otherwise: Readonly<Record<Region['kind'], KindClass>> = {
  header: 'header',
  log: 'log',
  table: 'tables',
  data: 'data',
  lost: 'free',
};

/** The class of a region. */
export function kindOfRegion({ kind, label }: Pick<Region, 'kind' | 'label'>): KindClass {
  return byLabel[kind].find(([words]) => words.test(label))?.[1] ?? otherwise[kind];
}
