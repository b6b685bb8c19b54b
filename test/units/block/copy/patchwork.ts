// Nodes for the tests of the copy plane: a source made of every kind of mapping, and a target that allocates clusters.
import { MemoryStorage } from '../../../../core/block/memory.ts';
import type { BlockNode, Codec, Mapping, PackedWriter, Place, WritableNode } from '../../../../core/block/node.ts';
import { pack } from '../../../../core/block/packed.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import type { GuestRange } from '../../../../core/block/units.ts';

/** A generator of numbers in [0, below) from a seed; the same seed gives the same numbers. */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

interface Patch {
  readonly start: number;
  readonly mapping: Mapping;
}

/** A source of `size` bytes cut into random patches, and the bytes that a reader must see. */
export function patchwork(seed: number, size: number, layers: number): { node: BlockNode; expected: Buffer } {
  const random = randomFrom(seed);
  const expected = Buffer.alloc(size);
  const below = layers > 1 ? patchwork(seed + 1000, Math.floor(size * 0.7), layers - 1) : null;
  const storage = new MemoryStorage(new Uint8Array(0), `layer-${layers}`);
  const patches: Patch[] = [];
  const unit = 4096;
  let start = 0;
  while (start < size) {
    const kind = random(5);
    const length = Math.min(size - start, (1 + random(40)) * (random(3) === 0 ? 512 : unit));
    const into = expected.subarray(start, start + length);
    if (kind === 0 || kind === 1) {
      for (let i = 0; i < length; i++) into[i] = random(7) === 0 || kind === 0 ? random(256) : 0;
      if (random(3) === 0) into.fill(0, 0, length / 2);
      const offset = storage.size;
      storage.writeAt(into, offset);
      patches.push({ start, mapping: { kind: 'data', length, storage, offset, writable: true } });
    } else if (kind === 2) {
      patches.push({ start, mapping: { kind: 'zero', length, explicit: true } });
    } else if (kind === 3) {
      const codec: Codec = { id: random(2) === 0 ? 'zlib' : 'zstd' };
      const whole = Buffer.alloc(length + 1024, random(200) + 1);
      const stored = pack(codec, whole);
      const offset = storage.size;
      storage.writeAt(stored, offset);
      const skip = random(1024);
      whole.copy(into, 0, skip, skip + length);
      const mapping = { kind: 'packed', length, storage, offset, storedLength: stored.length, skip, codec } as const;
      patches.push({ start, mapping: { ...mapping, unpackedLength: whole.length } });
    } else if (below !== null && start < below.node.size) {
      const part = Math.min(length, below.node.size - start);
      below.expected.copy(into, 0, start, start + part);
      patches.push({ start, mapping: { kind: 'below', length: part, node: below.node, offset: start } });
      start += part;
      continue;
    } else {
      patches.push({ start, mapping: { kind: 'zero', length, explicit: false } });
    }
    start += length;
  }
  const node: BlockNode = {
    format: 'raw',
    name: `patchwork-${layers}`,
    size,
    granularity: 512,
    backing: below?.node ?? null,
    files: [{ role: 'file', format: 'file', storage }],
    map: (range) => mapPatch(patches, range),
    close: () => {},
  };
  return { node, expected };
}

function mapPatch(patches: readonly Patch[], range: GuestRange): Mapping {
  const patch = patches.findLast((candidate) => candidate.start <= range.start);
  if (patch === undefined) throw new Error(`nothing at ${range.start}`);
  const into = range.start - patch.start;
  const length = Math.min(range.length, patch.mapping.length - into);
  const { mapping } = patch;
  switch (mapping.kind) {
    case 'data':
    case 'below':
      return { ...mapping, length, offset: mapping.offset + into };
    case 'packed':
      return { ...mapping, length, skip: mapping.skip + into };
    case 'zero':
    case 'unreadable':
      return { ...mapping, length };
  }
}

/** A target with clusters: fresh places are whole clusters at the end of its storage. */
export class ClusterTarget implements WritableNode {
  readonly format = 'qcow2';
  readonly name = 'target';
  readonly backing: BlockNode | null;
  readonly files = [];
  readonly size: number;
  readonly granularity: number;
  readonly storage: Storage;
  readonly packed: PackedWriter | undefined;
  readonly #table = new Map<number, Mapping>();
  readonly #contiguous: number;
  #end = 0;
  published = 0;

  constructor(
    size: number,
    options: { cluster: number; storage?: Storage; backing?: BlockNode; contiguous?: number; codec?: Codec },
  ) {
    this.size = size;
    this.granularity = options.cluster;
    this.storage = options.storage ?? new MemoryStorage();
    this.backing = options.backing ?? null;
    this.#contiguous = options.contiguous ?? 16;
    const { codec } = options;
    if (codec !== undefined) this.packed = this.#packer(codec);
  }

  map(range: GuestRange): Mapping {
    const cluster = this.granularity;
    const index = Math.floor(range.start / cluster);
    const into = range.start - index * cluster;
    const length = Math.min(range.length, cluster - into);
    const entry = this.#table.get(index);
    if (entry === undefined) {
      const { backing } = this;
      if (backing === null || range.start >= backing.size) return { kind: 'zero', length, explicit: false };
      return {
        kind: 'below',
        length: Math.min(length, backing.size - range.start),
        node: backing,
        offset: range.start,
      };
    }
    if (entry.kind === 'data') return { ...entry, length, offset: entry.offset + into };
    if (entry.kind === 'packed') return { ...entry, length, skip: into };
    return { ...entry, length };
  }

  reserve(range: GuestRange): Place {
    const cluster = this.granularity;
    const first = Math.floor(range.start / cluster);
    const entry = this.#table.get(first);
    if (entry?.kind === 'data') {
      const into = range.start - first * cluster;
      const length = Math.min(range.length, cluster - into);
      const offset = entry.offset + into;
      return { covers: { start: range.start, length }, storage: this.storage, offset, fresh: false, publish: () => {} };
    }
    let count = 1;
    const last = Math.floor((range.start + range.length - 1) / cluster);
    while (count < this.#contiguous && first + count <= last && !this.#table.has(first + count)) count++;
    const offset = this.#end;
    this.#end += count * cluster;
    return {
      covers: { start: first * cluster, length: count * cluster },
      storage: this.storage,
      offset,
      fresh: true,
      publish: () => {
        this.published++;
        for (let i = 0; i < count; i++) {
          const at = offset + i * cluster;
          this.#table.set(first + i, {
            kind: 'data',
            length: cluster,
            storage: this.storage,
            offset: at,
            writable: true,
          });
        }
      },
    };
  }

  #packer(codec: Codec): PackedWriter {
    return {
      unit: this.granularity,
      codec,
      reservePacked: (start, stored) => {
        const offset = this.#end;
        this.#end += stored.length;
        const { storage, granularity: length } = this;
        const storedLength = stored.length;
        const publish = (): void => {
          this.published++;
          this.#table.set(start / length, {
            kind: 'packed',
            length,
            storage,
            offset,
            storedLength,
            unpackedLength: length,
            skip: 0,
            codec,
          });
        };
        return { bytes: stored, place: { covers: { start, length }, storage, offset, fresh: true, publish } };
      },
    };
  }

  zero(range: GuestRange): GuestRange | null {
    const cluster = this.granularity;
    if (range.start % cluster !== 0 || range.length < cluster) return null;
    const index = range.start / cluster;
    this.#table.set(index, { kind: 'zero', length: cluster, explicit: true });
    return { start: range.start, length: cluster };
  }

  release(): GuestRange | null {
    return null;
  }
  resize(): void {}
  setBacking(): void {}
  flush(): void {}
  writeBack(): void {}
  close(): void {}
}
