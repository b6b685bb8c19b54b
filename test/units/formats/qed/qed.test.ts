// qed against qemu-img: content, map, chains, checks of sound and damaged images, refusals.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readGuest, resolve } from '../../../../core/block/read.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { openImage, type OpenedImage } from '../../../../core/formats/open.ts';
import { silentJob } from '../../../../core/job.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-qed-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
let number = 0;
const writes = ['write -P 1 0 200k', 'write -P 2 5M 70k', 'write -z 2M 1M', 'write -P 3 9M 1k', 'write -P 4 300k 4k'];

function create(size: string, options = '', commands: readonly string[] = writes): string {
  const file = path.join(folder, `${number++}.qed`);
  mustRun('qemu-img', ['create', '-q', '-f', 'qed', ...(options === '' ? [] : ['-o', options]), file, size]);
  if (commands.length > 0) mustRun('qemu-io', ['-f', 'qed', ...commands.flatMap((one) => ['-c', one]), file]);
  return file;
}

function withImage<T>(file: string, use: (image: OpenedImage) => T): T {
  const image = openImage(file, { format: 'qed' });
  try {
    return use(image);
  } finally {
    image.node.close();
  }
}

function digest(file: string): string {
  return withImage(file, ({ node }) => {
    const bytes = new Uint8Array(node.size);
    readGuest(node, bytes, 0);
    // Awkward pieces read the same.
    for (const [start, length] of [
      [199 * 1024, 5000],
      [node.size - 700, 700],
      [65535, 2],
    ] as const) {
      const part = new Uint8Array(length);
      readGuest(node, part, start);
      expect(Buffer.compare(part, bytes.subarray(start, start + length))).toBe(0);
    }
    return createHash('sha256').update(bytes).digest('hex');
  });
}

function theirDigest(file: string): string {
  const raw = path.join(folder, 'raw');
  mustRun('qemu-img', ['convert', '-f', 'qed', '-O', 'raw', file, raw]);
  return createHash('sha256').update(fs.readFileSync(raw)).digest('hex');
}

/** Figures of the check; zero ones left out. */
function figures(file: string): Record<string, number> {
  const counts = { corruption: 0, leak: 0, error: 0 };
  const summary = withImage(file, ({ node, driver }) => {
    const findings = driver.check?.(node, silentJob);
    if (findings === undefined) throw new Error('no check');
    for (;;) {
      const next = findings.next();
      if (next.done === true) return next.value;
      counts[next.value.severity] += next.value.count;
    }
  });
  return dropZeroes({
    'total-clusters': summary.totalClusters ?? 0,
    'allocated-clusters': summary.allocatedClusters ?? 0,
    'fragmented-clusters': summary.fragmentedClusters ?? 0,
    corruptions: counts.corruption,
    leaks: counts.leak,
    'check-errors': counts.error,
  });
}

const dropZeroes = (all: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(all).filter(([, value]) => value !== 0));

function theirFigures(file: string): Record<string, number> {
  const { stdout } = runQemuImg(['check', '-f', 'qed', '--output=json', file]);
  const parsed = Object.entries(JSON.parse(stdout) as Record<string, number | string>);
  return dropZeroes(Object.fromEntries(parsed.filter((row): row is [string, number] => typeof row[1] === 'number')));
}

/** Regions, which must cover the file. */
function labels(file: string): string[] {
  return withImage(file, ({ node, driver }) => {
    let at = 0;
    const all: string[] = [];
    for (const region of driver.regions(node)) {
      expect(region.start).toBe(at);
      expect(region.length).toBeGreaterThan(0);
      at += region.length;
      all.push(region.label);
      for (const { start, length } of region.annotate({ start: region.start, length: 100 })) {
        expect(start < region.start + 100 && start + length > region.start).toBe(true);
      }
    }
    expect(at).toBe(fs.statSync(file).size);
    return all;
  });
}

function sentence(use: () => unknown): string {
  try {
    use();
  } catch (error) {
    if (isImageError(error)) return error.message;
    throw error;
  }
  return 'nothing was refused';
}

function refusal(use: () => unknown): string {
  try {
    use();
  } catch (error) {
    if (isImageError(error)) return error.code;
    throw error;
  }
  return '';
}

function patch(file: string, offset: number, value: bigint): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  const descriptor = fs.openSync(file, 'r+');
  fs.writeSync(descriptor, bytes, 0, 8, offset);
  fs.closeSync(descriptor);
}

function get(file: string, offset: number): number {
  return Number(fs.readFileSync(file).readBigUInt64LE(offset));
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'qed', () => {
  const settings = [
    '',
    'cluster_size=4096',
    'cluster_size=4096,table_size=2',
    'cluster_size=1M,table_size=16',
    'table_size=2',
  ];
  it.each(settings)('%s: content, map, check, regions', (options) => {
    const file = create('10000384', options);
    expect(digest(file)).toBe(theirDigest(file));
    expect(figures(file)).toEqual(theirFigures(file));
    expect(labels(file)).toEqual(expect.arrayContaining(['header', 'L1 table', 'L2 table', 'data clusters']));
    const rows = JSON.parse(mustRun('qemu-img', ['map', '--output=json', '-f', 'qed', file])) as {
      start: number;
      length: number;
      data: boolean;
      present: boolean;
      offset?: number;
    }[];
    withImage(file, ({ node }) => {
      for (const { start, length, data, present, offset } of rows) {
        let done = 0;
        for (const run of resolve(node, { start, length })) {
          expect(run.mapping.kind).toBe(data ? 'data' : 'zero');
          if (run.mapping.kind === 'zero') expect(run.mapping.explicit).toBe(present);
          if (run.mapping.kind === 'data') expect(run.mapping.offset).toBe((offset ?? 0) + done);
          done += run.length;
        }
        expect(done).toBe(length);
      }
    });
  });

  it('is found by its content and says what qemu-img says', () => {
    const file = create('10M');
    const found = openImage(file);
    expect(found.driver.id).toBe('qed');
    found.node.close();
    withImage(file, ({ node, driver }) => {
      const facts = driver.facts(node);
      const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as Record<string, unknown>;
      expect(facts.clusterSize).toBe(info['cluster-size']);
      expect(facts.dirty).toBe(info['dirty-flag']);
      expect(node.size).toBe(info['virtual-size']);
    });
  });

  it('chains: over qed, over raw, over a shorter layer', () => {
    const base = create('6M', '', writes.slice(0, 3));
    for (const format of ['qed', 'raw']) {
      const top = path.join(folder, `${number++}.qed`);
      mustRun('qemu-img', ['create', '-q', '-f', 'qed', '-b', base, '-F', format, top, '10M']);
      mustRun('qemu-io', ['-f', 'qed', '-c', 'write -P 7 100k 10k', '-c', 'write -z 5M 64k', top]);
      expect(digest(top)).toBe(theirDigest(top));
      expect(labels(top)).toContain('backing file name');
      withImage(top, ({ node, driver }) => {
        expect(driver.facts(node).backing).toEqual({ path: base, format: format === 'raw' ? 'raw' : null });
      });
    }
  });

  it('damaged tables: the counts of qemu-img', () => {
    const damages: [string, (file: string, l1: number, l2: number) => void][] = [
      ['L2 table unaligned', (file, l1) => patch(file, l1, BigInt(get(file, l1) + 512))],
      ['L2 table outside', (file, l1) => patch(file, l1, 1n << 40n)],
      ['L2 table far outside', (file, l1) => patch(file, l1, 0xffff_ffff_ffff_0000n)],
      ['L2 table lost', (file, l1) => patch(file, l1, 0n)],
      ['L2 table twice', (file, l1) => patch(file, l1 + 8, BigInt(get(file, l1)))],
      ['L2 table is the L1 table', (file, l1) => patch(file, l1, BigInt(l1))],
      ['cluster unaligned', (file, _l1, l2) => patch(file, l2, BigInt(get(file, l2) + 4))],
      ['cluster outside', (file, _l1, l2) => patch(file, l2, 1n << 50n)],
      ['cluster twice', (file, _l1, l2) => patch(file, l2, BigInt(get(file, l2 + 8)))],
      ['cluster in the header', (file, _l1, l2) => patch(file, l2, 4n)],
      ['cluster lost', (file, _l1, l2) => patch(file, l2 + 8, 0n)],
      ['file longer', (file) => fs.truncateSync(file, fs.statSync(file).size + 10 * 65536 + 100)],
      ['file shorter', (file) => fs.truncateSync(file, fs.statSync(file).size - 70000)],
    ];
    for (const [name, damage] of damages) {
      const file = create('10M');
      const l1 = get(file, 40);
      damage(file, l1, get(file, l1));
      expect(figures(file), name).toEqual(theirFigures(file));
      labels(file);
    }
  });

  it('reads of damaged entries are refused, not guessed', () => {
    const file = create('10M');
    const l1 = get(file, 40);
    const l2 = get(file, l1);
    patch(file, l2, BigInt(get(file, l2) + 512));
    expect(refusal(() => digest(file))).toBe('qed/cluster-offset');
    expect(runQemuImg(['convert', '-f', 'qed', '-O', 'raw', file, path.join(folder, 'never')]).status).toBe(1);
    patch(file, l1, 1n << 41n);
    expect(refusal(() => digest(file))).toBe('qed/table-offset');
  });

  it('headers that qemu-img refuses are refused', () => {
    const fields: [offset: number, value: bigint, code: string][] = [
      [4, (4n << 32n) | 5000n, 'qed/header'],
      [4, (4n << 32n) | 2048n, 'qed/header'],
      [4, 4n << 32n, 'qed/header'],
      [4, (3n << 32n) | 65536n, 'qed/header'],
      [4, (32n << 32n) | 65536n, 'qed/header'],
      [16, 8n, 'qed/features'],
      [40, 0n, 'qed/header'],
      [40, 100n, 'qed/header'],
      [40, 1n << 45n, 'qed/header'],
      [48, 1000n, 'qed/header'],
      [48, 1n << 52n, 'qed/header'],
      [48, 1n << 62n, 'storage/too-large'],
    ];
    for (const [offset, value, code] of fields) {
      const file = create('10M', '', []);
      patch(file, offset, value);
      expect(
        refusal(() => digest(file)),
        `${offset}: ${value}`,
      ).toBe(code);
      const { status, stderr } = runQemuImg(['info', '-f', 'qed', file]);
      expect(status, `${offset}: ${value}`).toBe(1);
      if (code !== 'storage/too-large') expect(stderr).toContain(sentence(() => digest(file)));
    }
    const named = create('10M', '', []);
    patch(named, 16, 1n);
    patch(named, 56, (2000n << 32n) | 64n);
    expect(refusal(() => digest(named))).toBe('qed/header');
    fs.truncateSync(named, 40);
    expect(refusal(() => digest(named))).toBe('bytes/truncated');
  });

  it('is not opened for writing', () => {
    const file = create('10M', '', []);
    expect(refusal(() => openImage(file, { writable: true }))).toBe('format/read-only');
  });

  it('mutants of the tables end with an answer or a coded error', () => {
    let seed = Number(process.env.QED_SEED ?? 20261121);
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff;
      return Math.floor((seed / 0x8000_0000) * below);
    };
    const sound = create('10M', 'cluster_size=4096');
    const bytes = fs.readFileSync(sound);
    const places = [0, get(sound, 40), get(sound, get(sound, 40))];
    const file = path.join(folder, 'mutant.qed');
    const mutants = Number(process.env.FUZZ_MUTANTS ?? 500);
    for (let round = 0; round < mutants; round++) {
      const mutant = Buffer.from(bytes);
      for (let change = 0; change <= random(3); change++) {
        const at = (places[random(3)] ?? 0) + 8 * random(9);
        mutant.writeBigUInt64LE(BigInt(random(2 ** 20)) << BigInt(random(44)), at);
      }
      fs.writeFileSync(file, mutant);
      for (const use of [digest, figures, labels]) {
        refusal(() => withImage(file, ({ node }) => (node.size < 64 * 2 ** 20 ? use(file) : 0)));
      }
    }
  });
});
