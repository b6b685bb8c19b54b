// Repair of damaged qcow2 images beside qemu-img check -r: the same lines, counts and figures, and the same disk afterwards.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { silentJob } from '../../../../core/job.ts';
import { check } from '../../../../core/operations/check.ts';
import { describeWith, mustRun, runPeer, runQemuImg } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { SeededRandom } from '../../../seeded-random.ts';
import { Crafted } from './crafted.ts';
import { copied, damages, extendedDamages, snapshotDamages } from './damages.ts';

const folder = scratchFolder('repair');
let number = 0;

/** Each kind is made once and copied. */
const made = new Map<string, string>();

function image(
  size = '4M',
  options = '',
  writes: readonly string[] = ['write 0 192k', 'write 1M 64k'],
  snapshot = false,
): Crafted {
  const kind = JSON.stringify([size, options, writes, snapshot]);
  let first = made.get(kind);
  if (first === undefined) {
    first = path.join(folder, `first${made.size}.qcow2`);
    Crafted.create(first, size, options, writes);
    if (snapshot) mustRun('qemu-img', ['snapshot', '-c', 'snap', first]);
    made.set(kind, first);
  }
  const file = path.join(folder, `${number++}.qcow2`);
  fs.copyFileSync(first, file);
  return new Crafted(file);
}

interface Outcome {
  readonly figures: Record<string, number> | null;
  readonly failure: string | null;
  readonly lines: readonly string[];
}

type What = 'leaks' | 'all';

async function ours(file: string, repair: What | null): Promise<Outcome> {
  const lines: string[] = [];
  try {
    const result = await check(
      { path: file, options: { format: 'qcow2', undo: 'none', cache: 'unsafe' }, limit: 0, repair },
      silentJob,
      (finding) => lines.push(...finding.text.split('\n')),
    );
    const { summary, fixed } = result;
    return {
      figures: withoutZeroes({
        'image-end-offset': summary.imageEndOffset ?? 0,
        'total-clusters': summary.totalClusters ?? 0,
        'allocated-clusters': summary.allocatedClusters ?? 0,
        'fragmented-clusters': summary.fragmentedClusters ?? 0,
        'compressed-clusters': summary.compressedClusters ?? 0,
        corruptions: result.corruptions,
        leaks: result.leaks,
        'check-errors': result.errors,
        'corruptions-fixed': fixed?.corruptions ?? 0,
        'leaks-fixed': fixed?.leaks ?? 0,
      }),
      failure: null,
      lines,
    };
  } catch (error) {
    if (!isImageError(error)) throw error;
    return { figures: null, failure: error.message.split('\n')[0] ?? '', lines };
  }
}

function theirs(file: string, repair: What | null): Outcome {
  const how = repair === null ? [] : ['-r', repair];
  const { stdout, stderr } = runQemuImg(['check', '--output=json', '-f', 'qcow2', ...how, file]);
  const warning = /(qemu-img: )?warning: a program lacking bitmap support.*\nSome clusters .* to fix\./;
  const lines = stderr
    .replace(warning, '')
    .split('\n')
    .filter((line) => line !== '');
  const own = lines.filter((line) => !/^qemu-img: (Check failed|Could not open)/.test(line));
  const shown = own.map((line) => line.replace(/^qemu-img: /, ''));
  if (stdout.trim() === '') {
    const last = lines.findLast((line) => line.startsWith('qemu-img: ')) ?? '';
    return { figures: null, failure: last.replace(/^qemu-img: (Could not open '[^']*': )?/, ''), lines: shown };
  }
  const parsed = JSON.parse(stdout) as Record<string, number | string>;
  const figures = Object.entries(parsed).filter((row): row is [string, number] => typeof row[1] === 'number');
  return { figures: withoutZeroes(Object.fromEntries(figures)), failure: null, lines: shown };
}

function withoutZeroes(figures: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(figures).filter(([key, value]) => value !== 0 || key === 'check-errors'));
}

/** Where qemu-img 7.2 trips over its own repair, or makes the file longer to hold a block that is nowhere; ours ends with a sound image. */
const better = new Set([
  'refcount table entry with reserved bits',
  'refcount block unaligned',
  'refcount block outside',
  'refcount block far outside',
  'refcount table over the header',
]);

/** Lines about the inner life of QEMU. */
const inner = /^qcow2_free_clusters failed|^qcow2: Marking image as corrupt|^qcow2: Image is corrupt/;

function withoutInner(outcome: Outcome): Outcome {
  return { ...outcome, lines: outcome.lines.filter((line) => !inner.test(line)) };
}

const asQcow2 = ['-f', 'qcow2', '-F', 'qcow2'];

/** Both repair a copy each: what they say must be equal, and what they leave. */
async function agree(damaged: Crafted, what: What): Promise<Outcome> {
  const [mine, other] = [`${damaged.path}.ours`, `${damaged.path}.theirs`];
  for (const copy of [mine, other]) fs.copyFileSync(damaged.path, copy);
  const expected = theirs(other, what);
  const found = await ours(mine, what);
  expect(withoutInner(found)).toEqual(withoutInner(expected));
  // A repair that gives up leaves ours as it was; qemu-img marks it corrupt.
  expect(theirs(mine, null)).toEqual(theirs(found.failure === null ? other : damaged.path, null));
  sameDisk(damaged.path, mine);
  return found;
}

/** What could be read before can be read now, and reads the same. */
function sameDisk(before: string, after: string): void {
  const compared = runQemuImg(['compare', ...asQcow2, before, after]);
  if (compared.status === 0) return;
  const readable = runQemuImg(['compare', ...asQcow2, before, before]).status === 0;
  expect({ readable, compared }).toMatchObject({ readable: false });
}

/** After ours nothing is left to find, by either program. */
async function mends(damaged: Crafted): Promise<void> {
  const mine = `${damaged.path}.ours`;
  fs.copyFileSync(damaged.path, mine);
  const { figures, failure } = await ours(mine, 'all');
  expect({ failure, left: figures?.corruptions, leaks: figures?.leaks }).toEqual({ failure: null });
  expect(runQemuImg(['check', '-f', 'qcow2', mine])).toMatchObject({ status: 0 });
  sameDisk(damaged.path, mine);
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'repair of damaged qcow2 images', () => {
  // 65536 lines, thrice.
  const usual = damages.filter(([name]) => name !== 'too many snapshots');
  for (const what of ['all', 'leaks'] as const) {
    it.each(usual.map((damage) => [what, ...damage] as const))('-r %s: %s', async (_what, name, damage) => {
      const damaged = damage(image());
      if (what === 'all' && better.has(name)) await mends(damaged);
      else if (name !== 'refcount block far outside') await agree(damaged, what);
      else
        await expect(ours(damaged.path, what)).resolves.toMatchObject({ failure: 'Check failed: Input/output error' });
    });
    it.each(snapshotDamages.map((damage) => [what, ...damage] as const))(
      '-r %s, with a snapshot: %s',
      async (_what, _name, damage) => {
        await agree(damage(image(undefined, undefined, undefined, true)), what);
      },
    );
    it.each(extendedDamages.map((damage) => [what, ...damage] as const))(
      '-r %s, with subclusters: %s',
      async (_what, _name, damage) => {
        await agree(damage(image('4M', 'extended_l2=on')), what);
      },
    );
  }

  it.each([
    ['1-bit refcounts', 'refcount_bits=1', '4M'],
    ['64-bit refcounts in 512-byte clusters', 'refcount_bits=64,cluster_size=512', '9M'],
    ['2 MiB clusters', 'cluster_size=2M', '300M'],
    ['version 2', 'compat=0.10', '4M'],
    ['lazy refcounts', 'lazy_refcounts=on', '4M'],
  ])('all refcounts lost: %s', async (_name, options, size) => {
    const crafted = image(size, options, ['write 0 3M', 'write 3500k 64k']);
    await agree(crafted.bytes(crafted.block(), Buffer.alloc(512)), 'all');
    await mends(crafted.set(crafted.refcountTable, 0));
    await mends(crafted.set32(56, 0));
  });

  it('an image left dirty, with refcounts that are behind, is clean afterwards', async () => {
    const crafted = image('64M', 'lazy_refcounts=on', []);
    const script = ['write -P 5 0 2M', 'write -P 6 10M 1M', 'flush', 'abort'];
    runPeer('qemu-io', [...script.flatMap((command) => ['-c', command]), crafted.path]);
    expect(Number(crafted.get(72)) & 1).toBe(1);
    await agree(crafted, 'all');
    await mends(crafted);
    expect(Number(new Crafted(`${crafted.path}.ours`).get(72)) & 3).toBe(0);
  });

  it('bitmaps that somebody left behind go, and their clusters with them', async () => {
    const crafted = image();
    mustRun('qemu-img', ['bitmap', '--add', crafted.path, 'first', '-g', '64k']);
    crafted.set(88, 0);
    const found = await agree(crafted, 'leaks');
    expect(found.figures?.['leaks-fixed']).toBeGreaterThan(0);
    const left = JSON.parse(mustRun('qemu-img', ['info', '--output=json', `${crafted.path}.ours`])) as object;
    expect(JSON.stringify(left)).not.toContain('bitmaps');
  });

  it('random damage: sound where qemu-img makes it sound, and never another disk', async () => {
    const seed = Number(process.env.REPAIR_SEED ?? Date.now() % 1_000_000);
    const random = new SeededRandom(seed);
    const below = (end: number): number => random.below(end);
    const sound = image('6M', 'cluster_size=4k', ['write 0 300k', 'write -z 1M 100k', 'write 5M 100k']);
    mustRun('qemu-img', ['snapshot', '-c', 'snap', sound.path]);
    mustRun('qemu-io', ['-c', 'write 100k 50k', sound.path]);
    for (let round = 0; round < Number(process.env.REPAIR_ROUNDS ?? 25); round++) {
      const damaged = new Crafted(path.join(folder, 'random.qcow2'));
      const [mine, other] = [`${damaged.path}.ours`, `${damaged.path}.theirs`];
      fs.copyFileSync(sound.path, damaged.path);
      const tables = [
        damaged.l1,
        damaged.l2(),
        damaged.l2(2),
        damaged.refcountTable,
        damaged.block(),
        damaged.snapshots,
      ];
      for (let change = 0; change <= below(3); change++) {
        const at = (tables[below(tables.length)] ?? 0) + 8 * below(40);
        const bit = 1n << BigInt(below(64));
        const kind = below(3);
        if (kind === 0) damaged.change(at, (e) => e ^ bit);
        else if (kind === 1) damaged.set(at, BigInt(below(damaged.length)) * 512n);
        else damaged.set(at, copied | BigInt(4096 * below(damaged.length / 4096 + 2)));
      }
      for (const copy of [mine, other]) fs.copyFileSync(damaged.path, copy);
      try {
        await ours(mine, 'all');
        expect(fs.statSync(mine).size).toBeLessThan(sound.length + 64 * 1024 * 1024);
        // It makes the file as long as a pointer to nowhere says, and then counts all of it.
        const { status } = runQemuImg(['check', '-q', '-f', 'qcow2', '-r', 'all', other], { timeout: 2000 });
        if (status === null || fs.statSync(other).size > sound.length + 64 * 1024 * 1024) continue;
        const verdict = runQemuImg(['check', '-f', 'qcow2', other]).status;
        if (verdict === 0) expect(runQemuImg(['check', '-f', 'qcow2', mine])).toMatchObject({ status: 0 });
        // Guest data may lie on tables that change; then neither can keep it.
        const kept = runQemuImg(['compare', ...asQcow2, damaged.path, other]).status === 0;
        if (kept) sameDisk(damaged.path, mine);
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}: ${String(error)}`, { cause: error });
      }
    }
  });
});
