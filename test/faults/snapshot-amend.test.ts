// Power cuts and failing writes while snapshots change and options are amended, at every step: the image is what it was or what it was
// to become, nothing is wrong with it, and nothing has leaked.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { MemoryStorage } from '../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../core/block/node.ts';
import type { Storage } from '../../core/block/storage.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import type { OpenGate, OptionValue } from '../../core/formats/driver.ts';
import { qcow2 } from '../../core/formats/qcow2/driver.ts';
import { driverNamed } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';
import { describeWith, mustRun, runQemuImg } from '../peers.ts';
import { positionCoded } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';
import { contentOf } from '../units/formats/new-image.ts';
import { FailingStorage, StepCounter } from './failing-storage.ts';
import { PowerCut, PowerCutStorage } from './power-cut.ts';

const KiB = 1024;

interface Verb {
  readonly name: string;
  /** Options of qemu-img create; the image has data, zero clusters, and the snapshots old and young. */
  readonly options: string;
  readonly below?: boolean;
  readonly change: (node: WritableNode) => void;
}

const amend =
  (options: Readonly<Record<string, OptionValue>>) =>
  (node: WritableNode): void =>
    qcow2.amend?.(node, { options, force: false, openedWith: null }, silentJob);

const verbs: readonly Verb[] = [
  {
    name: 'snapshot create',
    options: 'cluster_size=4k',
    change: (node) =>
      void qcow2.snapshots?.create?.(node, { name: 'new', dateSeconds: 1, dateNanoseconds: 2 }, silentJob),
  },
  {
    name: 'snapshot create, refcount blocks of 64 entries',
    options: 'cluster_size=512,refcount_bits=64',
    change: (node) =>
      void qcow2.snapshots?.create?.(node, { name: 'new', dateSeconds: 1, dateNanoseconds: 2 }, silentJob),
  },
  {
    name: 'snapshot apply',
    options: 'cluster_size=4k',
    change: (node) => qcow2.snapshots?.apply?.(node, 'old', silentJob),
  },
  {
    name: 'snapshot delete',
    options: 'cluster_size=4k',
    change: (node) => qcow2.snapshots?.delete?.(node, '1', silentJob),
  },
  { name: 'wider refcounts', options: 'cluster_size=4k', change: amend({ refcount_bits: 64 }) },
  { name: 'narrower refcounts', options: 'cluster_size=512', change: amend({ refcount_bits: 8 }) },
  { name: 'downgrade', options: 'cluster_size=4k', change: amend({ compat: '0.10' }) },
  { name: 'downgrade over a base', options: 'cluster_size=4k', below: true, change: amend({ compat: '0.10' }) },
  { name: 'upgrade', options: 'cluster_size=64k,compat=0.10', change: amend({ compat: '1.1' }) },
  { name: 'lazy refcounts on', options: 'cluster_size=4k', change: amend({ lazy_refcounts: true }) },
];

/** The image in memory, with what lies below it. */
interface Start {
  readonly bytes: Uint8Array;
  readonly base: Uint8Array;
}

function gateTo(base: Uint8Array): OpenGate {
  return {
    openImage: ({ path: name }) =>
      driverNamed('raw').open(new MemoryStorage(base, name), { ...asRead, gate: gateTo(base) }),
    openFile: ({ path: name }) => {
      throw new Error(`nothing should ask for ${name}`);
    },
  };
}

const asRead = { writable: false, withBacking: true, runtime: {}, forRepair: false } as const;

/** The disk, the snapshots by name, and what info says of the format: all that a verb may change. */
function stateOf(bytes: Uint8Array, base: Uint8Array): string {
  const node = qcow2.open(new MemoryStorage(bytes, 'image'), { ...asRead, gate: gateTo(base) });
  const shown = (one: BlockNode): string => Buffer.from(contentOf(one)).toString('latin1');
  const { snapshots = [], specific } = qcow2.facts(node);
  const parts = [
    shown(node),
    ...snapshots.map((snapshot) => {
      const opened = qcow2.snapshots?.open(node, snapshot.id);
      return `${JSON.stringify(snapshot)} ${opened === undefined ? '' : shown(opened)}`;
    }),
    JSON.stringify(specific?.data),
  ];
  node.close();
  return parts.join('\n');
}

function run(storage: Storage, base: Uint8Array, change: Verb['change']): void {
  const node = qcow2.open(storage, { ...asRead, writable: true, gate: gateTo(base) });
  if (!isWritable(node)) throw new Error('opened read-only');
  change(node);
  node.flush();
  node.close();
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'snapshots and amended options under faults', () => {
  const folder = scratchFolder('snapshot-amend-faults');
  const seed = chosenSeed('snapshots and amended options under faults');

  function make({ name, options, below = false }: Verb): Start {
    const file = path.join(folder, `${name.replaceAll(/\W/g, '-')}.qcow2`);
    const base = below ? positionCoded(0, 256 * KiB, 9) : new Uint8Array(0);
    fs.writeFileSync(`${file}.base`, base);
    const over = below ? ['-b', `${file}.base`, '-F', 'raw'] : [];
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, ...over, file, '256k']);
    const io = (...commands: string[]): string =>
      mustRun('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file]);
    io('write -P 1 0 40k', 'write -c -P 2 64k 64k', 'write -z 192k 8k');
    mustRun('qemu-img', ['snapshot', '-c', 'old', file]);
    io('write -P 3 4k 12k', 'write -z 128k 12k');
    mustRun('qemu-img', ['snapshot', '-c', 'young', file]);
    io('write -P 4 30k 50k', 'write -z 196k 8k');
    return { bytes: fs.readFileSync(file), base };
  }

  function checked(bytes: Uint8Array, at: string): void {
    const file = path.join(folder, 'left.qcow2');
    fs.writeFileSync(file, bytes);
    const { status, stdout, stderr } = runQemuImg(['check', '-f', 'qcow2', file]);
    expect(status, `${at}: ${stdout}${stderr}`).toBe(0);
  }

  it.each(verbs)(
    '$name',
    (verb) => {
      const random = new SeededRandom(seed);
      const { bytes, base } = make(verb);
      const before = stateOf(bytes, base);
      const whole = new MemoryStorage(bytes, 'image');
      run(whole, base, verb.change);
      const after = stateOf(whole.bytes(), base);
      expect(after).not.toBe(before);
      checked(whole.bytes(), 'undisturbed');

      let cuts = 0;
      for (let n = 1; ; n++) {
        const counter = new StepCounter(n);
        const storage = new PowerCutStorage(bytes, counter);
        try {
          run(storage, base, verb.change);
        } catch (error) {
          if (!(error instanceof PowerCut)) throw error;
        }
        if (!counter.struck) break;
        cuts++;
        for (let i = 0; i < 3; i++) {
          const left = storage.afterCut(random);
          const found = stateOf(left, base);
          expect([before, after].includes(found), `cut at step ${n} (${counter.kinds.at(-1)})`).toBe(true);
          if (i === 0) checked(left, `cut at step ${n}`);
        }
      }
      expect(cuts).toBeGreaterThan(1);

      for (let n = 1; n <= cuts; n++) {
        const inner = new MemoryStorage(bytes, 'image');
        const failing = new FailingStorage(inner, new StepCounter(n, { mode: 'once', errno: 'ENOSPC' }));
        try {
          run(failing, base, verb.change);
        } catch (error) {
          if (!(error instanceof ImageError)) throw error;
        }
        const found = stateOf(inner.bytes(), base);
        expect([before, after].includes(found), `write ${n} fails`).toBe(true);
        checked(inner.bytes(), `write ${n} fails`);
      }
    },
    60_000,
  );
});
