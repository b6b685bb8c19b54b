// What the fault suites do to each format: the images they start from, and the changes they make to them. A new format adds rows here.
import type { WritableNode } from '../../core/block/node.ts';
import { writeGuest } from '../../core/block/write.ts';
import type { FormatId } from '../../core/formats/format-id.ts';
import { positionCoded } from '../position-coded.ts';
import type { SeededRandom } from '../seeded-random.ts';

/** An image to begin with, made by another program where there is one: steps as arguments of qemu-img or qemu-io. */
export interface FaultImage {
  readonly name: string;
  readonly format: FormatId;
  /** Virtual size in bytes. */
  readonly size: number;
  /** Options of `qemu-img create -o`. */
  readonly options: string;
  /** Lies over a raw base of this many bytes of the pattern; null: has no layer below. */
  readonly base: number | null;
  /** Further steps on the file IMAGE before the changes under test begin. */
  readonly prepare: readonly (readonly ['qemu-img' | 'qemu-io', ...string[]])[];
  /** `qemu-img check` has a verdict on this format (others are only opened and read). */
  readonly checked: boolean;
}

const io = (...commands: string[]): readonly ['qemu-io', ...string[]] => [
  'qemu-io',
  '-f',
  'qcow2',
  ...commands.flatMap((command) => ['-c', command]),
  'IMAGE',
];

const KiB = 1024;

function vmdk(name: string, options: string, more: Partial<FaultImage> = {}): FaultImage {
  return {
    name: `vmdk ${name}`,
    format: 'vmdk',
    size: 700 * 1024,
    options,
    base: null,
    prepare: [],
    checked: true,
    ...more,
  };
}

function qcow2(name: string, options: string, more: Partial<FaultImage> = {}): FaultImage {
  return {
    name: `qcow2 ${name}`,
    format: 'qcow2',
    size: 512 * KiB,
    options,
    base: null,
    prepare: [],
    checked: true,
    ...more,
  };
}

export const faultImages: readonly FaultImage[] = [
  { name: 'raw', format: 'raw', size: 128 * KiB + 512, options: '', base: null, prepare: [], checked: false },
  { name: 'vpc dynamic', format: 'vpc', size: 5120 * KiB, options: '', base: null, prepare: [], checked: false },
  {
    name: 'vpc fixed',
    format: 'vpc',
    size: 128 * KiB,
    options: 'subformat=fixed',
    base: null,
    prepare: [],
    checked: false,
  },
  // Between the count of blocks and the block map qemu-img calls a count that is too large a corruption; it only loses space.
  { name: 'vdi', format: 'vdi', size: 2560 * KiB, options: '', base: null, prepare: [], checked: false },
  qcow2('small clusters', 'cluster_size=512', { size: 96 * KiB }),
  qcow2('4 KiB clusters', 'cluster_size=4k'),
  qcow2('version 2', 'compat=0.10,cluster_size=4k'),
  qcow2('default clusters', ''),
  qcow2('over a base', 'cluster_size=4k', { base: 300 * KiB }),
  qcow2('subclusters over a base', 'extended_l2=on,cluster_size=16k', { base: 512 * KiB }),
  qcow2('subclusters', 'extended_l2=on,cluster_size=16k'),
  qcow2('refcounts of one bit', 'refcount_bits=1,cluster_size=4k'),
  qcow2('refcounts of 64 bits, small clusters', 'refcount_bits=64,cluster_size=512', { size: 64 * KiB }),
  qcow2('lazy refcounts', 'lazy_refcounts=on,cluster_size=4k'),
  qcow2('preallocated', 'preallocation=metadata,cluster_size=4k'),
  qcow2('with a snapshot', 'cluster_size=4k', {
    prepare: [io('write -q -P 1 0 300k'), ['qemu-img', 'snapshot', '-c', 's', 'IMAGE'], io('write -q -P 2 100k 20k')],
  }),
  qcow2('with compressed clusters', 'cluster_size=4k', {
    prepare: [io(...Array.from({ length: 40 }, (_, i) => `write -q -c -P ${i + 1} ${i * 8}k 4k`))],
  }),
  qcow2('with zero clusters', 'cluster_size=4k', {
    prepare: [io('write -q -P 1 0 200k', 'write -q -z 40k 40k', 'write -q -z -u 100k 40k')],
  }),
  vmdk('monolithic sparse', ''),
  vmdk('zeroed grains', 'zeroed_grain=on', { size: 1024 * KiB }),
  // qemu-img has no check for these; it reads them back.
  {
    name: 'qcow version 1',
    format: 'qcow',
    size: 128 * KiB,
    options: '',
    base: null,
    prepare: [],
    checked: false,
  },
  {
    name: 'qcow version 1 over a base',
    format: 'qcow',
    size: 64 * KiB,
    options: '',
    base: 40 * KiB,
    prepare: [],
    checked: false,
  },
];

/** One change to the guest's disk, made to a node, and to a plain buffer with the disk's content. */
export interface Change {
  readonly text: string;
  apply(node: WritableNode): void;
  applyTo(model: Uint8Array): void;
}

/** `count` changes: writes of any length, zeroes, now and then a flush (given as null). */
export function someChanges(random: SeededRandom, size: number, granularity: number, count: number): (Change | null)[] {
  const changes: (Change | null)[] = [];
  for (let i = 0; i < count; i++) {
    if (i % 4 === 3) {
      changes.push(null);
      continue;
    }
    const start = random.oneIn(2) ? random.below(size) : Math.floor(random.below(size) / granularity) * granularity;
    const length = Math.min(
      size - start,
      random.oneIn(3) ? granularity * (1 + random.below(4)) : 1 + random.below(3 * granularity),
    );
    if (random.oneIn(4)) changes.push(zeroes(start, length));
    else changes.push(write(start, positionCoded(start, length, 10 + i)));
  }
  changes.push(null);
  return changes;
}

function write(start: number, bytes: Uint8Array): Change {
  return {
    text: `write ${bytes.length} bytes at ${start}`,
    apply: (node) => writeGuest(node, bytes, start),
    applyTo: (model) => model.set(bytes, start),
  };
}

function zeroes(start: number, length: number): Change {
  return {
    text: `zero ${length} bytes at ${start}`,
    apply(node) {
      let at = start;
      while (at < start + length) {
        const done = node.zero({ start: at, length: start + length - at });
        if (done !== null && done.start === at && done.length > 0) at += done.length;
        else {
          const step = Math.min(node.granularity - (at % node.granularity), start + length - at);
          writeGuest(node, new Uint8Array(step), at);
          at += step;
        }
      }
    },
    applyTo: (model) => model.fill(0, start, start + length),
  };
}
