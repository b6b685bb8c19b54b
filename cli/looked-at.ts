// What `regions` and `hexdump` look at: a file of an image by its role, or the guest's disk as it is now or was in a snapshot.
import type { BlockNode } from '../core/block/node.ts';
import { readGuest } from '../core/block/read.ts';
import { ImageError } from '../core/errors/image-error.ts';
import type { FormatDriver, Region } from '../core/formats/driver.ts';
import { openImage } from '../core/formats/open.ts';
import { guestRegions } from '../core/guest/structures.ts';
import { sparseDisk, sparseFile, type SparseBytes } from '../core/operations/known-zeroes.ts';
import { locate, namesIn } from '../core/operations/locate.ts';
import { sharedOptions, type Arguments, type OptionSpec } from './args.ts';
import { attemptOpen } from './commands/map.ts';
import { nameImage } from './image-options.ts';
import { readObjects } from './objects.ts';
import { secretSource } from './passphrase.ts';
import { UsageError } from './print.ts';

/** Rows of the tables of both verbs. */
export const lookOptions = {
  format: sharedOptions.format,
  guest: { long: ['guest'], meaning: "the guest's disk, through layers, compression and encryption" },
  snapshot: {
    short: 'l',
    long: ['snapshot'],
    argument: 'SNAPSHOT',
    meaning: "the guest's disk as it was in a snapshot",
  },
  role: {
    long: ['role'],
    argument: 'ROLE',
    meaning: 'which file of the image: file (default), data-file, extents.0, …',
  },
  share: sharedOptions.share,
  disk: sharedOptions.disk,
  imageOpts: sharedOptions.imageOpts,
  object: sharedOptions.object,
} as const satisfies Record<string, OptionSpec>;

/** Bytes that can be shown, and what they are. */
export interface LookedAt {
  readonly size: number;
  /** The same bytes, to be searched. */
  readonly bytes: SparseBytes;
  regions(): Iterable<Region>;
  /** Fills `into` from `offset`, which lies within. */
  read(into: Uint8Array, offset: number): void;
  /** The offset that a place written as text means. Throws `look/*`. */
  locate(text: string): number;
  close(): void;
}

/** Opens what the arguments name. Throws `CommandError`, `UsageError`, `snapshot/not-found`, `session/no-file`. */
export function openForLooking(args: Arguments<keyof typeof lookOptions>, verb: string): LookedAt {
  const [file, ...more] = args.operands;
  if (file === undefined || more.length > 0) throw new UsageError('Expecting one image file name', verb);
  const snapshotName = args.last('snapshot');
  const isDisk = args.has('guest') || snapshotName !== null;
  if (isDisk && args.has('role')) throw new UsageError('--role names a file, --guest and -l a disk', verb);
  const named = nameImage(file, {
    format: args.last('format'),
    disk: args.last('disk'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    secret: secretSource(readObjects(args.all('object'))),
  });
  // What only the structures are asked of needs neither the layers below nor a passphrase.
  const options = isDisk ? named.options : { ...named.options, withBacking: false, guestData: false };
  const { node, driver } = attemptOpen(named.name, () => openImage(named.path, options));
  try {
    return isDisk ? ofDisk(node, driver, snapshotName) : ofFile(node, driver, args.last('role') ?? 'file');
  } catch (error) {
    node.close();
    throw error;
  }
}

function ofDisk(node: BlockNode, driver: FormatDriver, snapshotName: string | null): LookedAt {
  const disk = snapshotName === null ? node : openSnapshot(node, driver, snapshotName);
  const regions = (): Region[] => guestRegions(disk);
  return {
    size: disk.size,
    bytes: sparseDisk(disk),
    regions,
    read: (into, offset) => readGuest(disk, into, offset),
    locate: (text) => locate(text, { ...around(node, driver, disk.size), ...namesIn({}, node, regions) }),
    close() {
      if (disk !== node) disk.close();
      node.close();
    },
  };
}

function openSnapshot(node: BlockNode, driver: FormatDriver, name: string): BlockNode {
  if (driver.snapshots === undefined) throw new ImageError('snapshot/not-found', { name }, { file: node.name });
  return driver.snapshots.open(node, name);
}

function ofFile(node: BlockNode, driver: FormatDriver, role: string): LookedAt {
  const found = node.files.find((one) => one.role === role);
  if (found === undefined) throw new ImageError('session/no-file', { role }, { file: node.name });
  const { storage } = found;
  const regions = (): Iterable<Region> => driver.regions(node, role);
  return {
    size: storage.size,
    bytes: sparseFile(storage),
    regions,
    read: (into, offset) => storage.readAt(into, offset),
    locate: (text) => locate(text, { ...around(node, driver, storage.size), ...namesIn(driver, node, regions) }),
    close: () => node.close(),
  };
}

function around(node: BlockNode, driver: FormatDriver, size: number) {
  return { size, here: 0, sector: 512, cluster: driver.facts(node).clusterSize ?? node.granularity };
}
