// A disk seen with some sectors written over and room behind its end; what is written stays in memory, and the disk as it is.
import { MemoryStorage } from './memory.ts';
import type { BlockNode, Mapping, Place, WritableNode } from './node.ts';
import type { GuestRange } from './units.ts';

const sector = 512;

/** `node` with `size` bytes (a multiple of 512, at least its own), which can be written: sector by sector, for a few of them. */
export function writtenOver(node: BlockNode, size: number): WritableNode {
  if (size < node.size || size % sector !== 0) throw new Error(`${size} is no size for a disk over ${node.size} bytes`);
  const storage = new MemoryStorage(new Uint8Array(0), node.name);
  /** Where the sectors that were written stand in the storage, by their number. */
  const places = new Map<number, number>();
  let rising: readonly number[] = [];
  function publish(number: number, offset: number): void {
    places.set(number, offset);
    rising = [...places.keys()].sort((a, b) => a - b);
  }

  function reserve({ start }: GuestRange): Place {
    const number = Math.floor(start / sector);
    const known = places.get(number);
    const offset = known ?? storage.size;
    if (known === undefined) storage.writeAt(new Uint8Array(sector), offset);
    return {
      covers: { start: number * sector, length: sector },
      storage,
      offset,
      fresh: true,
      publish: () => publish(number, offset),
    };
  }

  function map({ start, length }: GuestRange): Mapping {
    const number = Math.floor(start / sector);
    const offset = places.get(number);
    if (offset !== undefined) {
      const into = start - number * sector;
      const own = Math.min(length, sector - into);
      return { kind: 'data', length: own, storage, offset: offset + into, writable: true };
    }
    const next = rising.find((one) => one > number);
    const free = next === undefined ? length : Math.min(length, next * sector - start);
    if (start >= node.size) return { kind: 'zero', length: free, explicit: false };
    return node.map({ start, length: Math.min(free, node.size - start) });
  }

  return {
    format: node.format,
    name: node.name,
    size,
    granularity: Math.min(node.granularity, sector),
    backing: node.backing,
    files: node.files,
    map,
    reserve,
    zero: () => null,
    release: () => null,
    resize: () => {
      throw new Error('a disk that is written over in memory keeps its size');
    },
    setBacking: () => {
      throw new Error('a disk that is written over in memory keeps its layers');
    },
    flush: () => {},
    writeBack: () => {},
    close: () => node.close(),
  };
}
