// The power goes at step n of a repair, or of a change of bitmaps: what is left opens, holds the same disk, and can be repaired.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { MemoryStorage } from '../../core/block/memory.ts';
import type { BlockNode } from '../../core/block/node.ts';
import { isWritable } from '../../core/block/node.ts';
import type { Storage } from '../../core/block/storage.ts';
import type { OpenRequest } from '../../core/formats/driver.ts';
import { driverNamed } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';
import { describeWith, mustRun, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { SeededRandom } from '../seeded-random.ts';
import { StepCounter } from './failing-storage.ts';
import { PowerCut, PowerCutStorage } from './power-cut.ts';

const folder = scratchFolder('repair-cuts');
const stride = process.env.PLATTER_LONG === '1' ? 1 : 2;
const qcow2 = driverNamed('qcow2');

function open(storage: Storage, how: Pick<OpenRequest, 'writable' | 'forRepair'>): BlockNode {
  const refuse = (): never => {
    throw new Error('no further file was expected');
  };
  return qcow2.open(storage, {
    ...how,
    withBacking: false,
    runtime: {},
    gate: { openImage: refuse, openFile: refuse },
  });
}

/** 4 KiB clusters, some data, bitmaps `a` (with bits) and `b`. */
function make(name: string): Buffer {
  const file = path.join(folder, name);
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', file, '8M']);
  for (const bitmap of ['a', 'b']) mustRun('qemu-img', ['bitmap', '--add', '-g', '512', file, bitmap]);
  mustRun('qemu-io', ['-c', 'write -P 3 0 300k', '-c', 'write -P 4 5M 100k', file]);
  return fs.readFileSync(file);
}

/** Runs `change` with the power going at every n-th step; `judge` sees what each cut leaves. */
function cut(
  bytes: Buffer,
  seed: number,
  change: (storage: Storage) => void,
  judge: (left: string, n: number) => void,
): void {
  const file = path.join(folder, `left${seed}.qcow2`);
  for (let n = 1; ; n += stride) {
    const counter = new StepCounter(n);
    const storage = new PowerCutStorage(bytes, counter);
    try {
      change(storage);
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
    }
    fs.writeFileSync(file, storage.afterCut(new SeededRandom(seed + n)));
    judge(file, n);
    if (!counter.struck) return;
  }
}

function sameDisk(one: string, other: string): void {
  expect(runQemuImg(['compare', '-f', 'qcow2', '-F', 'qcow2', one, other])).toMatchObject({ status: 0 });
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'a power cut', () => {
  it('while bitmaps change leaves the old ones or the new ones', { timeout: 120_000 }, () => {
    const bytes = make('bitmaps.qcow2');
    const seen = new Set<string>();
    const change = (storage: Storage): void => {
      const node = open(storage, { writable: true, forRepair: false });
      const editor = qcow2.dirtyBitmaps?.edit(node);
      if (editor === undefined || !isWritable(node)) throw new Error('no bitmaps');
      editor.add('c', 4096, true);
      editor.merge('c', editor.source('a'));
      editor.clear('a');
      editor.remove('b');
      editor.commit();
      node.flush();
    };
    cut(bytes, 100, change, (left, n) => {
      const { status, stdout } = runQemuImg(['check', '-f', 'qcow2', left]);
      expect({ n, stdout, sound: status === 0 || status === 3 }).toMatchObject({ sound: true });
      const node = open(new MemoryStorage(fs.readFileSync(left), left), { writable: false, forRepair: false });
      const names = (qcow2.dirtyBitmaps?.list(node) ?? []).map(
        ({ name, inconsistent }) => `${name}${inconsistent ? '!' : ''}`,
      );
      node.close();
      seen.add(names.join());
      sameDisk(left, path.join(folder, 'bitmaps.qcow2'));
    });
    expect([...seen]).toEqual(['a,b', 'a,c']);
  });

  it('while the first bitmap comes, and while the last one goes', { timeout: 120_000 }, () => {
    const file = path.join(folder, 'none.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', file, '8M']);
    const none = fs.readFileSync(file);
    mustRun('qemu-img', ['bitmap', '--add', file, 'only']);
    const one = fs.readFileSync(file);
    for (const [bytes, seed] of [
      [none, 300],
      [one, 400],
      [none, 500],
      [one, 600],
    ] as const) {
      const change = (storage: Storage): void => {
        const node = open(storage, { writable: true, forRepair: false });
        const editor = qcow2.dirtyBitmaps?.edit(node);
        if (bytes === none) editor?.add('only', null, true);
        else editor?.remove('only');
        editor?.commit();
      };
      cut(bytes, seed, change, (left, n) => {
        const { status, stdout, stderr } = runQemuImg(['check', '-f', 'qcow2', left]);
        const told = { seed, n, stdout, stderr, sound: status === 0 || status === 3 };
        expect(told).toMatchObject({ sound: true });
      });
    }
  });

  const damages: [string, (bytes: Buffer) => void][] = [
    ['all refcounts are built anew', (bytes) => void bytes.fill(0, block(bytes), block(bytes) + 4096)],
    ['refcounts are set right', (bytes) => void bytes.fill(9, block(bytes) + 20, block(bytes) + 60)],
  ];
  it.each(damages)('while %s', { timeout: 120_000 }, (_name, damage) => {
    const bytes = make('damaged.qcow2');
    const sound = path.join(folder, 'sound.qcow2');
    fs.writeFileSync(sound, bytes);
    damage(bytes);
    const repair = (storage: Storage): void => {
      const node = open(storage, { writable: true, forRepair: true });
      qcow2.repair?.(node, 'all', silentJob);
    };
    cut(bytes, 200, repair, (left, n) => {
      sameDisk(left, sound);
      // Whatever is left, one more repair ends well.
      const again = new MemoryStorage(fs.readFileSync(left), left);
      repair(again);
      fs.writeFileSync(left, again.bytes());
      expect({ n, check: runQemuImg(['check', '-f', 'qcow2', left]) }).toMatchObject({ n, check: { status: 0 } });
      sameDisk(left, sound);
    });
  });
});

function block(bytes: Buffer): number {
  return Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
}
