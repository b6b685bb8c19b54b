// How far a new image is filled: what a convert tells of every target format against qemu-img's map of it, the cells, and jobs that are watched.
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import type { Fill, Job, NewImage } from '../../../core/job.ts';
import { convert, type ConvertParams } from '../../../core/operations/convert.ts';
import { fillRecorder, fillTile, newFill } from '../../../core/workbench/map/fill.ts';
import { JobHost, type JobNews } from '../../../core/workbench/jobs/job-host.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const MiB = 1024 * 1024;

describe('cells of a disk that is filled', () => {
  it('hold what was told of them, and say what is not written yet', () => {
    const size = 6 * 65536 + 4096;
    const fill = newFill(size, 65536);
    const tell = fillRecorder(fill);
    expect(fill.unit).toBe(65536);
    tell('data', 512, 2 * 65536 + 16384 - 512);
    tell('packed', 3 * 65536, 65536);
    tell('zeroes', 4 * 65536 + 65024, 512);
    tell('below', 6 * 65536, 4096);
    const { classes, shares, totals } = fillTile(fill);
    const cells = shares.length / classes.length;
    expect(
      Object.fromEntries(classes.map((name, row) => [name, [...shares.subarray(row * cells, (row + 1) * cells)]])),
    ).toEqual({
      data: [253, 255, 64, 0, 0, 0, 0],
      packed: [0, 0, 0, 255, 0, 0, 0],
      below: [0, 0, 0, 0, 0, 0, 255],
      zeroes: [0, 0, 0, 0, 2, 0, 0],
      pending: [2, 0, 191, 0, 253, 255, 0],
    });
    const told = [2 * 65536 + 16384 - 512, 65536, 4096, 512];
    expect(totals).toEqual([...told, size - told.reduce((sum, one) => sum + one, 0)]);
  });

  it('are few enough for one tile, however large the disk is, and count its last byte', () => {
    const size = 2 ** 53 - 512;
    const fill = newFill(size, 512);
    expect(fill.sectors.byteLength).toBeLessThanOrEqual(4 * 4 * 16_384);
    fillRecorder(fill)('data', 0, size);
    const { totals, shares } = fillTile(fill);
    expect(totals).toEqual([size, 0, 0, 0, 0]);
    expect(shares.length).toBeLessThanOrEqual(5 * 16_384);
    expect(new Set(shares.subarray(0, shares.length / 5))).toEqual(new Set([255]));
  });
});

interface Told {
  readonly kind: Parameters<Fill>[0];
  readonly start: number;
  readonly length: number;
}

/** Stretches of the same kind side by side become one. */
function joined(list: readonly Told[], kinds: readonly string[]): [number, number][] {
  const found: [number, number][] = [];
  const wanted = list.filter(({ kind }) => kinds.includes(kind)).sort((a, b) => a.start - b.start);
  for (const { start, length } of wanted) {
    const last = found.at(-1);
    if (last !== undefined && last[1] === start) last[1] = start + length;
    else found.push([start, start + length]);
  }
  return found;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'an image that is written', () => {
  const root = scratchFolder('fill');
  const at = { cwd: root };
  const file = (name: string): string => path.join(root, name);
  let catalogue: Catalogue;
  let host: JobHost;

  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', 'source.raw', '64M'], at);
    const writes = [
      'write -P 1 0 4M',
      'write -P 2 16M 6M',
      'write -P 3 40M 2M',
      'write -z 42M 2M',
      'write -P 4 62M 2M',
    ];
    mustRun('qemu-io', ['-f', 'raw', ...writes.flatMap((one) => ['-c', one]), 'source.raw'], at);
    const big = fs.openSync(file('big.raw'), 'w');
    const noise = Buffer.alloc(MiB);
    for (let index = 0; index < noise.length; index++) noise[index] = (index * index * 31 + (index >> 3)) & 0xff;
    for (let piece = 0; piece < 64; piece++) fs.writeSync(big, noise);
    fs.closeSync(big);
    catalogue = openCatalogue(file('catalogue.db'));
    host = new JobHost(catalogue);
  });
  afterAll(async () => {
    await host.close();
    catalogue.close();
  });

  const params = (target: string, format: string, changes: Partial<ConvertParams> = {}): ConvertParams => ({
    sources: [{ path: file('source.raw'), options: { format: 'raw' } }],
    ...{
      snapshot: null,
      target: file(target),
      format,
      options: {},
      backing: null,
      existing: null,
      targetIsZero: false,
    },
    ...{ compress: false, offload: false, sparse: 4096, cache: undefined, depth: 8, outOfOrder: true, rate: 0 },
    ...{ salvage: false, verify: false, keepIdentity: false },
    ...changes,
  });

  /** Converts and gives what was told, and of which image. `heard` hears of it while it is under way. */
  async function watched(
    asked: ConvertParams,
    heard: (told: Told, image: NewImage) => void = () => {},
  ): Promise<{ told: Told[]; image: NewImage }> {
    const told: Told[] = [];
    const images: NewImage[] = [];
    const job: Job = {
      progress: () => {},
      throwIfCancelled: () => {},
      makes(image) {
        images.push(image);
        return (kind, start, length) => {
          told.push({ kind, start, length });
          heard({ kind, start, length }, image);
        };
      },
    };
    await convert(asked, job);
    const [image] = images;
    if (image === undefined || images.length !== 1) throw new Error(`${images.length} images were told of`);
    return { told, image };
  }

  const written = [
    [0, 4 * MiB],
    [16 * MiB, 22 * MiB],
    [40 * MiB, 42 * MiB],
    [62 * MiB, 64 * MiB],
  ];

  it.each([
    ['raw', 'raw', {}],
    ['qcow2', 'qcow2', {}],
    ['vpc', 'vpc', {}],
    ['vhdx', 'vhdx', { block_size: 1048576 }],
    ['vmdk', 'vmdk', {}],
    ['vmdk', 'vmdk', { subformat: 'twoGbMaxExtentSparse' }],
    ['vdi', 'vdi', {}],
    ['qcow', 'qcow', {}],
  ])('tells of %s what the finished image holds', async (format, qemuFormat, options) => {
    const name = `made-${Object.values(options).join('')}.${format}`;
    const { told, image } = await watched(params(name, format, { options }));
    expect(image).toMatchObject({ path: file(name), format });
    expect(image.size).toBeGreaterThanOrEqual(64 * MiB);
    expect(path.dirname(image.partial)).toBe(root);
    expect(path.basename(image.partial)).toMatch(/^\.made-.*\.partial-[0-9a-f]{8}$/);
    // Every byte of the source is told of once.
    expect(joined(told, ['data', 'zeroes'])).toEqual([[0, 64 * MiB]]);
    expect(told.reduce((sum, { length }) => sum + length, 0)).toBe(64 * MiB);
    // VHD and VDI have units of 2 and 1 MiB, which what was written keeps to.
    expect(joined(told, ['data'])).toEqual(written);
    if (format === 'vhdx') {
      // QEMU says of every block of a VHDX that it is data: its file has room for these and no more.
      mustRun('qemu-img', ['compare', '-F', 'vhdx', 'source.raw', name], at);
      expect(fs.statSync(file(name)).size).toBeLessThan((14 + 8) * MiB);
      return;
    }
    const map = JSON.parse(mustRun('qemu-img', ['map', '--output=json', '-f', qemuFormat, name], at)) as {
      start: number;
      length: number;
      data: boolean;
    }[];
    const stored = map
      .filter(({ data, start }) => data && start < 64 * MiB)
      .map(({ start, length }): Told => ({ kind: 'data', start, length }));
    expect(joined(stored, ['data'])).toEqual(written);
  });

  it('tells what is packed, and what is left to the layer below', async () => {
    const packed = await watched(params('packed.qcow2', 'qcow2', { compress: true }));
    expect(joined(packed.told, ['packed'])).toEqual(written);
    const noise = { sources: [{ path: file('big.raw'), options: { format: 'raw' } }], compress: true };
    const plain = await watched(params('noise.qcow2', 'qcow2', noise));
    const byKind = (kind: string): number =>
      plain.told.filter((one) => one.kind === kind).reduce((sum, { length }) => sum + length, 0);
    const map = JSON.parse(mustRun('qemu-img', ['map', '--output=json', 'noise.qcow2'], at)) as {
      length: number;
      compressed: boolean;
    }[];
    const packedBytes = map.filter(({ compressed }) => compressed).reduce((sum, { length }) => sum + length, 0);
    expect({ packed: byKind('packed'), data: byKind('data') }).toEqual({
      packed: packedBytes,
      data: 64 * MiB - packedBytes,
    });
    const stream = await watched(params('stream.vmdk', 'vmdk', { options: { subformat: 'streamOptimized' } }));
    expect(joined(stream.told, ['packed'])).toEqual(written);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'source.raw', '-F', 'raw', 'top.qcow2'], at);
    mustRun('qemu-io', ['-c', 'write -P 9 10M 1M', '-c', 'write -P 9 40M 64k', 'top.qcow2'], at);
    const over = await watched(
      params('over.qcow2', 'qcow2', {
        sources: [{ path: file('top.qcow2'), options: {} }],
        backing: { path: 'source.raw', format: 'raw' },
      }),
    );
    const own = [
      [10 * MiB, 11 * MiB],
      [40 * MiB, 40 * MiB + 65536],
    ];
    expect(joined(over.told, ['data'])).toEqual(own);
    expect(joined(over.told, ['data', 'below'])).toEqual([[0, 64 * MiB]]);
  });

  it('tells of bytes only once they stand in the file', async () => {
    const source = fs.readFileSync(file('source.raw'));
    let looked = 0;
    await watched(params('read.raw', 'raw'), ({ kind, start, length }, { partial }) => {
      if (kind !== 'data') return;
      const found = Buffer.alloc(length);
      const descriptor = fs.openSync(partial, 'r');
      fs.readSync(descriptor, found, 0, length, start);
      fs.closeSync(descriptor);
      expect(found.equals(source.subarray(start, start + length))).toBe(true);
      looked += length;
    });
    expect(looked).toBe(14 * MiB);
  });

  const conversion = (target: string, rate: number): object => ({
    source: { path: file('big.raw'), format: 'raw', trust: 'files', secret: null },
    ...{ snapshot: null, target: file(target), overwrite: false, format: 'qcow2', options: {}, backing: null },
    ...{ compress: false, salvage: false, verify: false, keepIdentity: false, rate },
  });

  it('is watched while its job runs: which file, and how full; not any more when that is over', async () => {
    const seen: JobNews[] = [];
    const made = new Promise<string>((resolve) => {
      host.onNews((news) => {
        seen.push(news);
        if (news.kind === 'makes') resolve(news.image.partial);
      });
    });
    const id = host.start('convert', conversion('slow.qcow2', 16 * MiB));
    expect(() => host.fill(id)).toThrow(expect.objectContaining({ code: 'job/makes-nothing' }) as Error);
    const partial = await made;
    expect(fs.existsSync(partial)).toBe(true);
    expect(fs.existsSync(file('slow.qcow2'))).toBe(false);
    expect(host.job(id).makes).toMatchObject({ path: file('slow.qcow2'), partial, format: 'qcow2', size: 64 * MiB });
    const full = (): number => host.fill(id).totals[0] ?? 0;
    const steps: number[] = [];
    while (steps.length < 4) {
      const now = full();
      if (now > (steps.at(-1) ?? 0)) steps.push(now);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(steps.at(-1)).toBeLessThan(64 * MiB);
    const { totals, unit, size } = host.fill(id);
    expect({ unit, size }).toEqual({ unit: 65536, size: 64 * MiB });
    expect(totals.reduce((sum, bytes) => sum + bytes, 0)).toBe(size);
    host.cancel(id);
    expect(await host.whenOver(id)).toMatchObject({ state: 'cancelled', makes: null });
    expect(() => host.fill(id)).toThrow(expect.objectContaining({ code: 'job/over' }) as Error);
    expect(fs.existsSync(partial)).toBe(false);
    const digest = host.start('digest', {
      image: { path: file('source.raw'), format: null, trust: 'files', secret: null },
      algorithm: 'sha256',
    });
    expect(await host.whenOver(digest)).toMatchObject({ state: 'done', makes: null });
    expect(seen.filter(({ kind, id: of }) => kind === 'makes' && of === digest)).toEqual([]);
  });

  it('is told of by a rewrite that compacts, too', async () => {
    mustRun('qemu-img', ['convert', '-O', 'qcow2', 'source.raw', 'loose.qcow2'], at);
    const made: JobNews[] = [];
    const stop = host.onNews((news) => news.kind === 'makes' && made.push(news));
    const id = host.start('compact', {
      image: { path: file('loose.qcow2'), format: null, trust: 'files', secret: null },
      ...{ estimate: false, zeroUnused: false, rewrite: true, force: true },
    });
    expect(await host.whenOver(id)).toMatchObject({ state: 'done' });
    stop();
    expect(made).toMatchObject([{ id, image: { path: file('loose.qcow2'), format: 'qcow2', size: 64 * MiB } }]);
  });
});
