// The copy plane against a plain buffer: every kind of mapping, every kind of target, faults, salvage, cancel.
import pako from 'pako';
import { describe, expect, it } from 'vitest';
import { copyGuest, type CopyRequest } from '../../../../core/block/copy/copy.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import type { BlockNode, WritableNode } from '../../../../core/block/node.ts';
import { pack, unpack } from '../../../../core/block/packed.ts';
import { readGuest } from '../../../../core/block/read.ts';
import { MiB } from '../../../../core/block/units.ts';
import { ImageError, isImageError } from '../../../../core/errors/image-error.ts';
import { RawNode } from '../../../../core/formats/raw/node.ts';
import { jobWithSignal, silentJob } from '../../../../core/job.ts';
import { ClusterTarget, patchwork, randomFrom } from './patchwork.ts';

function request(source: BlockNode, target: WritableNode, more: Partial<CopyRequest> = {}): CopyRequest {
  return {
    parts: [{ source, start: 0, length: source.size }],
    target,
    targetIsZero: true,
    targetBacking: 0,
    sparse: 4096,
    packed: false,
    offload: false,
    depth: 4,
    outOfOrder: false,
    rate: 0,
    salvage: null,
    ...more,
  };
}

function contentOf(node: BlockNode): Buffer {
  const bytes = Buffer.alloc(node.size);
  readGuest(node, bytes, 0);
  return bytes;
}

function rawTarget(size: number, filler: number): RawNode {
  return new RawNode(new MemoryStorage(Buffer.alloc(size, filler)), { offset: 0, size });
}

const seeds = [1, 2, 3, 4, 5, 6];

describe.each(seeds)('seed %i', (seed) => {
  const size = 3 * MiB + 512 * seed;
  const { node, expected } = patchwork(seed, size, 3);

  it('the source itself reads as the plain buffer', () => {
    expect(contentOf(node).equals(expected)).toBe(true);
  });

  it('fills a zeroed target', async () => {
    const target = rawTarget(size, 0);
    await copyGuest(request(node, target), silentJob);
    expect(contentOf(target).equals(expected)).toBe(true);
  });

  it('overwrites a target that is not zero', async () => {
    const target = rawTarget(size, 0xee);
    await copyGuest(request(node, target, { targetIsZero: false, outOfOrder: true }), silentJob);
    expect(contentOf(target).equals(expected)).toBe(true);
  });

  it('writes everything with sparse 0', async () => {
    const target = rawTarget(size, 0xee);
    const counts = await copyGuest(request(node, target, { sparse: 0 }), silentJob);
    expect(counts.data).toBe(size);
    expect(contentOf(target).equals(expected)).toBe(true);
  });

  it.each([512, 4096, 65536, 2 * MiB])('fills clusters of %i bytes', async (cluster) => {
    const target = new ClusterTarget(size, { cluster });
    await copyGuest(request(node, target), silentJob);
    expect(contentOf(target).equals(expected)).toBe(true);
    expect(target.published).toBeGreaterThan(0);
  });

  it.each(['deflate-raw', 'zlib', 'zstd'] as const)('packs by %s', async (id) => {
    const target = new ClusterTarget(size, { cluster: 65536, codec: { id } });
    const counts = await copyGuest(request(node, target, { packed: true }), silentJob);
    expect(contentOf(target).equals(expected)).toBe(true);
    expect(counts.packed).toBeGreaterThan(0);
  });

  it('leaves to the layer below what comes from there', async () => {
    const backing = node.backing;
    if (backing === null) throw new Error('the patchwork has layers');
    const target = new ClusterTarget(size, { cluster: 65536, backing });
    const more = { targetIsZero: false, targetBacking: backing.size };
    await copyGuest(request(node, target, more), silentJob);
    expect(contentOf(target).equals(expected)).toBe(true);
  });
});

it('copies several sources one behind the other', async () => {
  const parts = [7, 8, 9].map((seed, i) => ({ ...patchwork(seed, MiB + 512 * (i + 1), 1) }));
  let start = 0;
  const placed = parts.map(({ node }) => {
    const part = { source: node, start, length: node.size };
    start += node.size;
    return part;
  });
  const target = rawTarget(start, 0);
  await copyGuest({ ...request(parts[0]!.node, target), parts: placed }, silentJob);
  expect(contentOf(target).equals(Buffer.concat(parts.map((p) => p.expected)))).toBe(true);
});

/** A storage whose reads fail in one stretch. */
class Damaged extends MemoryStorage {
  override readAt(into: Uint8Array, offset: number): void {
    const [from, to] = [100 * 512, 103 * 512];
    if (offset < to && offset + into.length > from) {
      throw new ImageError('storage/read', { reason: 'Input/output error' }, { file: this.name, offset });
    }
    super.readAt(into, offset);
  }
}

describe('a source that cannot be read in places', () => {
  const random = randomFrom(42);
  const bytes = Buffer.from(Array.from({ length: 2 * MiB }, () => random(256)));
  const source = (): RawNode => new RawNode(new Damaged(bytes), { offset: 0, size: bytes.length });

  it('ends the copy with the storage’s error and the place', async () => {
    const copy = copyGuest(request(source(), rawTarget(bytes.length, 0)), silentJob);
    await expect(copy).rejects.toSatisfy(
      (error) => isImageError(error, 'copy/read') && isImageError(error.cause, 'storage/read'),
    );
  });

  it('is copied around the damage with salvage, to the sector', async () => {
    const told: { start: number; length: number }[] = [];
    const target = rawTarget(bytes.length, 0xee);
    const more = { salvage: (range: { start: number; length: number }) => void told.push(range), targetIsZero: false };
    await copyGuest(request(source(), target, more), silentJob);
    expect(told).toEqual([{ start: 100 * 512, length: 3 * 512 }]);
    const expected = Buffer.from(bytes);
    expected.fill(0, 100 * 512, 103 * 512);
    expect(contentOf(target).equals(expected)).toBe(true);
  });
});

describe('a packed unit of which the file holds the first half', () => {
  const unit = 65536;
  const random = randomFrom(77);
  const plain = Buffer.from(Array.from({ length: unit }, () => random(40)));
  const damagedSource = (id: 'deflate-raw' | 'zlib' | 'zstd'): { node: BlockNode; stored: Buffer } => {
    const stored = Buffer.from(pack({ id }, plain));
    const storage = new MemoryStorage(stored.subarray(0, stored.length >> 1));
    const mapping = { kind: 'packed', storage, offset: 0, storedLength: stored.length, unpackedLength: unit } as const;
    const node: BlockNode = {
      format: 'qcow2',
      name: 'damaged',
      size: unit,
      granularity: unit,
      backing: null,
      files: [],
      map: ({ start, length }) => ({ ...mapping, length, skip: start, codec: { id } }),
      close: () => {},
    };
    return { node, stored };
  };

  it.each(['deflate-raw', 'zlib'] as const)('gives its decodable start (%s)', async (id) => {
    const told: { start: number; length: number }[] = [];
    const target = rawTarget(unit, 0xee);
    const more = { salvage: (range: { start: number; length: number }) => void told.push(range), targetIsZero: false };
    await copyGuest(request(damagedSource(id).node, target, more), silentJob);
    const [lost] = told;
    expect(told).toHaveLength(1);
    expect(lost!.start + lost!.length).toBe(unit);
    expect(lost!.start).toBeGreaterThan(unit / 4);
    const got = contentOf(target);
    expect(got.subarray(0, lost!.start).equals(plain.subarray(0, lost!.start))).toBe(true);
    expect(got.subarray(lost!.start).every((byte) => byte === 0)).toBe(true);
  });

  it('gives nothing of a zstd frame, and says so', async () => {
    const told: { start: number; length: number }[] = [];
    const target = rawTarget(unit, 0xee);
    const more = { salvage: (range: { start: number; length: number }) => void told.push(range), targetIsZero: false };
    await copyGuest(request(damagedSource('zstd').node, target, more), silentJob);
    expect(told).toEqual([{ start: 0, length: unit }]);
    expect(contentOf(target).every((byte) => byte === 0)).toBe(true);
  });
});

describe('pako, an inflater that is not ours to keep,', () => {
  it.each(['deflate-raw', 'zlib'] as const)('reads what we pack, and we what it packs (%s)', (id) => {
    const plain = patchwork(21, 65536, 1).expected;
    const raw = id === 'deflate-raw';
    const ours = pack({ id, windowBits: 12 }, plain);
    expect(Buffer.from(raw ? pako.inflateRaw(ours) : pako.inflate(ours)).equals(plain)).toBe(true);
    const theirs = raw ? pako.deflateRaw(plain) : pako.deflate(plain);
    expect(Buffer.from(unpack({ id }, theirs, plain.length, {})).equals(plain)).toBe(true);
  });
});

it('stops when it is cancelled', async () => {
  const { node } = patchwork(3, 4 * MiB, 1);
  const abort = new AbortController();
  const job = jobWithSignal(abort.signal, () => abort.abort());
  const copy = copyGuest(request(node, rawTarget(node.size, 0)), job);
  await expect(copy).rejects.toSatisfy((error) => isImageError(error, 'request/cancelled'));
});

it('a target that fails ends the copy, and no transfer is left under way', async () => {
  let writes = 0;
  class Full extends MemoryStorage {
    override writeAt(from: Uint8Array, offset: number): void {
      writes++;
      if (writes > 2) throw new ImageError('storage/write', { errno: 'ENOSPC', reason: 'No space left on device' });
      super.writeAt(from, offset);
    }
  }
  const { node } = patchwork(11, 6 * MiB, 1);
  const target = new ClusterTarget(node.size, { cluster: 65536, storage: new Full() });
  const copy = copyGuest(request(node, target), silentJob);
  await expect(copy).rejects.toSatisfy(
    (error) => isImageError(error, 'copy/write') && isImageError(error.cause, 'storage/write'),
  );
  const after = writes;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(writes).toBe(after);
});

it('reports progress up to the whole', async () => {
  const { node } = patchwork(5, 2 * MiB, 2);
  const seen: number[] = [];
  const job = { progress: (p: { done: number }) => void seen.push(p.done), throwIfCancelled: () => {} };
  await copyGuest(request(node, rawTarget(node.size, 0)), job);
  expect(seen.at(-1)).toBe(node.size);
  expect(seen).toEqual(seen.toSorted((a, b) => a - b));
});
