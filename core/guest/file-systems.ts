// The file systems of a guest's disk: one over the whole disk, or one in each partition.
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import { extIn } from './ext.ts';
import { fatIn } from './fat.ts';
import { ntfsIn } from './ntfs.ts';
import { isContainer, readPartitions } from './partitions.ts';
import { recognisedIn } from './signatures.ts';
import { leftAlone, Volume, type FileSystem } from './volume.ts';

/** A file system and where it was found. */
export interface FoundFileSystem {
  /** Number of its partition; null: it takes the whole disk. */
  readonly partition: number | null;
  readonly fileSystem: FileSystem;
}

const readers = [extIn, ntfsIn, fatIn] as const;

/**
 * What stands on the disk of `node`, by rising offset; partitions in which nothing is recognised have the kind `unknown`. What
 * contradicts itself (two file systems in one place, partitions that overlap, a file system over a partition table) is refused, not
 * guessed. Throws what reading the image throws.
 */
export function fileSystemsOf(node: BlockNode): readonly FoundFileSystem[] {
  const whole = new Volume((into, at) => readGuest(node, into, at), 0, node.size);
  const everywhere = fileSystemIn(whole);
  const partitions = readPartitions(node)
    .filter((partition) => !isContainer(partition) && partition.length > 0)
    .toSorted((a, b) => a.start - b.start);
  if (partitions.length === 0) return everywhere === null ? [] : [{ partition: null, fileSystem: everywhere }];
  if (everywhere !== null) {
    const reason = 'a partition table stands in the same place';
    return [{ partition: null, fileSystem: leftAlone(everywhere.kind, whole, reason) }];
  }
  let end = 0;
  return partitions.map((partition, index) => {
    const stop = partition.start + partition.length;
    const next = partitions[index + 1];
    const overlaps = partition.start < end || (next !== undefined && next.start < stop);
    end = Math.max(end, stop);
    const volume = new Volume((into, at) => readGuest(node, into, at), partition.start, partition.length);
    const { number } = partition;
    if (overlaps)
      return { partition: number, fileSystem: leftAlone('unknown', volume, 'it overlaps another partition') };
    if (stop > node.size) {
      return { partition: number, fileSystem: leftAlone('unknown', volume, 'it reaches beyond the end of the disk') };
    }
    const fileSystem = fileSystemIn(volume) ?? leftAlone('unknown', volume, 'nothing is recognised in it');
    return { partition: number, fileSystem };
  });
}

/** The file system of one volume; null: nothing is recognised. */
export function fileSystemIn(volume: Volume): FileSystem | null {
  const found = readers.flatMap((reader) => reader(volume) ?? []);
  const named = recognisedIn(volume);
  const [first] = found;
  const kinds = [...found.map(({ kind }) => kind), ...named];
  if (kinds.length > 1) return leftAlone(kinds[0] ?? '', volume, `it looks like ${kinds.join(' and like ')}`);
  if (first !== undefined) return first;
  const [name] = named;
  return name === undefined ? null : leftAlone(name, volume, 'its free space is not read here');
}
