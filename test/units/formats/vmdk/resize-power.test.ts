// Power cuts while an image is resized, at every step: what is left has the old size or the new one, and the content of both.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { StepCounter } from '../../../faults/failing-storage.ts';
import { PowerCut, PowerCutStorage } from '../../../faults/power-cut.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { KiB, MiB } from './disks.ts';

const seed = chosenSeed('vmdk power cuts');
const oldSize = 3 * MiB + 512;

function open(storage: Storage, writable: boolean, forRepair = false): BlockNode {
  const none = (): never => {
    throw new Error('nothing else belongs to this image');
  };
  const gate = { openImage: none, openFile: none };
  return vmdk.open(storage, { writable, gate, withBacking: true, runtime: {}, forRepair });
}

function writableOver(storage: Storage, forRepair = false): WritableNode {
  const node = open(storage, true, forRepair);
  if (!isWritable(node)) throw new Error('read-only');
  return node;
}

function image(): Uint8Array {
  const storage = new MemoryStorage();
  const request = { storage, name: 'disk.vmdk', size: oldSize, options: {}, backing: null, job: silentJob };
  vmdk.create?.({ ...request, createFile: () => new MemoryStorage() });
  const node = writableOver(storage);
  writeGuest(node, positionCoded(0, 200 * KiB, 1), 0);
  writeGuest(node, positionCoded(oldSize - 5000, 5000, 1), oldSize - 5000);
  node.flush();
  return storage.bytes();
}

describe('a power cut while resizing', () => {
  const random = new SeededRandom(seed);
  const first = image();
  for (const size of [5 * MiB, 4300 * MiB, MiB + 512]) {
    it(`to ${size} leaves one of both`, () => {
      const seen = new Set<number>();
      for (let n = 1; ; n++) {
        const counter = new StepCounter(n);
        const storage = new PowerCutStorage(first, counter);
        let cut = false;
        try {
          writableOver(storage).resize(size);
        } catch (error) {
          if (!(error instanceof PowerCut)) throw error;
          cut = true;
        }
        const left = new MemoryStorage(storage.afterCut(random));
        const node = open(left, false, true);
        const title = `step ${n}, seed ${seed}`;
        expect([oldSize, size], title).toContain(node.size);
        seen.add(node.size);
        const kept = new Uint8Array(200 * KiB);
        readGuest(node, kept, 0);
        expect(difference(kept, positionCoded(0, kept.length, 1)), title).toBeNull();
        if (node.size > oldSize) {
          const added = new Uint8Array(70_000);
          readGuest(node, added, oldSize);
          expect(
            added.every((byte) => byte === 0),
            title,
          ).toBe(true);
        }
        const codes = [...(vmdk.check?.(node, silentJob) ?? [])]
          .filter(({ severity }) => severity !== 'leak')
          .map(({ code }) => code);
        // Header and descriptor are two places: a cut between them leaves the descriptor behind, which repair puts right.
        expect(
          codes.filter((code) => code !== 'vmdk/extent-size'),
          title,
        ).toEqual([]);
        if (codes.length > 0) {
          expect(vmdk.repair?.(writableOver(left, true), 'all', silentJob), title).toMatchObject({ corruptions: 1 });
          expect(
            [...(vmdk.check?.(open(left, false), silentJob) ?? [])].filter(({ severity }) => severity !== 'leak'),
          ).toEqual([]);
        }
        if (!cut) break;
      }
      expect([...seen].sort()).toEqual([oldSize, size].sort());
    });
  }
});
