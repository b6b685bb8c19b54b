// VHDs on disks that fail and machines that lose power: old or new bytes, leaks at worst.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate } from '../../../../core/formats/driver.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { failAt, StepCounter } from '../../../faults/failing-storage.ts';
import { PowerCutStorage } from '../../../faults/power-cut.ts';
import { originOf, positionCoded } from '../../../position-coded.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkOf, contentOf, createIn } from '../new-image.ts';

const size = 2 * MiB;
const blockSize = 64 * KiB;

/** The parent in memory, with its content; the child finds it whatever name it uses. */
function family(withParent: boolean): { gate: OpenGate; child: Uint8Array; content: Uint8Array } {
  const parent = new MemoryStorage();
  createIn(vhd, parent, 'parent.vhd', { size, options: { block_size: blockSize } });
  const open = (storage: Storage): BlockNode =>
    vhd.open(storage, { writable: false, gate, withBacking: true, runtime: {}, forRepair: false });
  const gate: OpenGate = {
    openImage: () => open(new MemoryStorage(parent.bytes())),
    openFile() {
      throw new Error('no other file is expected');
    },
  };
  const below = openWritable(parent, gate);
  for (let at = 0; at < size; at += 300_000) writeGuest(below, positionCoded(at, 40_000, 1), at);
  below.flush();
  if (!withParent) return { gate, child: parent.bytes(), content: contentOf(below) };
  const child = new MemoryStorage();
  vhd.create?.({
    storage: child,
    name: '/nowhere/child.vhd',
    size: below.size,
    options: { block_size: blockSize },
    backing: { path: 'parent.vhd', format: 'vpc' },
    openBacking: () => open(new MemoryStorage(parent.bytes())),
    createFile() {
      throw new Error('no other file is expected');
    },
    job: { progress: () => {}, throwIfCancelled: () => {} },
  });
  const node = openWritable(child, gate);
  writeGuest(node, positionCoded(500_000, 100_000, 2), 500_000);
  node.flush();
  return { gate, child: child.bytes(), content: contentOf(node) };
}

function openWritable(storage: Storage, gate: OpenGate): WritableNode {
  const node = vhd.open(storage, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
  if (!isWritable(node)) throw new Error('not writable');
  return node;
}

type Work = (node: WritableNode, wrote: (start: number, bytes: Uint8Array) => void) => void;

const writes: Work = (node, wrote) => {
  const random = new SeededRandom(3);
  for (let i = 0; i < 14; i++) {
    const start = random.below(node.size - 70_000);
    const bytes = positionCoded(start, 1 + random.below(70_000), 7);
    wrote(start, bytes);
    writeGuest(node, bytes, start);
    if (i % 5 === 4) node.flush();
  }
  node.flush();
};

/** Old or new, sector by sector: `versions` of each byte that are allowed. */
function judge(bytes: Uint8Array, gate: OpenGate, versions: readonly Uint8Array[]): string | null {
  const storage = new MemoryStorage(bytes, 'after');
  const node = vhd.open(storage, { writable: false, gate, withBacking: true, runtime: {}, forRepair: false });
  const shared = Math.min(node.size, ...versions.map(({ length }) => length));
  const content = new Uint8Array(shared);
  readGuest(node, content, 0);
  for (let at = 0; at < shared; at += 512) {
    const found = content.subarray(at, at + 512);
    const known = versions.some((version) => Buffer.compare(found, version.subarray(at, at + found.length)) === 0);
    if (!known) return `at ${at}: ${originOf(found)}`;
  }
  const broken = checkOf(vhd, node).findings.filter(
    ({ severity, code }) => severity !== 'leak' && !repairable.includes(code),
  );
  return broken.length === 0 ? null : broken.map(({ text }) => text).join('; ');
}

/** What the next writer puts right, and what no reader needs: one of the two footers. */
const repairable = [
  'vhd/check-footer-missing',
  'vhd/check-footer-checksum',
  'vhd/check-footer-copy',
  'vhd/check-footers-differ',
];

/** Every state that a sector may be in: before, and after each write that touched it. */
class History {
  readonly versions: Uint8Array[];
  constructor(before: Uint8Array) {
    this.versions = [before.slice()];
  }

  note(start: number, bytes: Uint8Array): void {
    const next = this.versions.at(-1)?.slice() ?? new Uint8Array(0);
    next.set(bytes, start);
    this.versions.push(next);
  }
}

for (const [name, withParent] of [
  ['dynamic', false],
  ['differencing', true],
] as const) {
  describe(`a ${name} VHD`, () => {
    const { gate, child, content } = family(withParent);

    it('on a disk that fails at step n holds the old or the new bytes', () => {
      for (const torn of [false, true]) {
        for (let n = 1, struck = true; struck; n++) {
          const inner = new MemoryStorage(child, 'inner');
          const failing = failAt(inner, n, { torn });
          const history = new History(content);
          try {
            const node = openWritable(failing, gate);
            writes(node, (start, bytes) => history.note(start, bytes));
          } catch (error) {
            if (!(error instanceof ImageError)) throw error;
          }
          struck = failing.counter.struck;
          expect(judge(inner.bytes(), gate, history.versions), `step ${n}`).toBe(null);
        }
      }
    });

    it('goes on after a step that failed once', () => {
      for (let n = 1; n < 60; n++) {
        const inner = new MemoryStorage(child, 'inner');
        const failing = failAt(inner, n, { mode: 'once' });
        const node = openWritable(failing, gate);
        const model = content.slice();
        const random = new SeededRandom(n);
        for (let i = 0; i < 12; i++) {
          const start = random.below(node.size - 70_000);
          const bytes = positionCoded(start, 1 + random.below(70_000), 7);
          for (let done = false; !done;) {
            try {
              writeGuest(node, bytes, start);
              if (i % 4 === 3) node.flush();
              done = true;
            } catch (error) {
              if (!(error instanceof ImageError)) throw error;
            }
          }
          model.set(bytes, start);
        }
        if (!failing.counter.struck) continue;
        node.flush();
        expect(judge(inner.bytes(), gate, [model]), `step ${n}`).toBe(null);
      }
    });

    it('after a power cut holds the old or the new bytes', () => {
      const random = new SeededRandom(chosenSeed(`vhd power cut ${name}`));
      for (let run = 0; run < 60; run++) {
        const storage = new PowerCutStorage(child, new StepCounter(Infinity));
        const history = new History(content);
        const node = openWritable(storage, gate);
        const steps = 1 + random.below(12);
        for (let i = 0; i < steps; i++) {
          const start = random.below(Math.floor((node.size - 70_000) / 512)) * 512;
          const length = (1 + random.below(130)) * 512;
          if (random.oneIn(5)) {
            const done = node.zero({ start, length });
            if (done !== null) history.note(start, new Uint8Array(done.length));
          } else {
            const bytes = positionCoded(start, length, 3 + i);
            history.note(start, bytes);
            writeGuest(node, bytes, start);
          }
          if (random.oneIn(4)) {
            node.flush();
            history.versions.splice(0, history.versions.length - 1);
          }
        }
        expect(judge(storage.afterCut(random), gate, history.versions), `run ${run}`).toBe(null);
      }
    });

    it('is resized to the old or the new size, whatever step fails', () => {
      for (const target of [40 * MiB, MiB]) {
        for (let n = 1, struck = true; struck; n++) {
          const inner = new MemoryStorage(child, 'inner');
          const failing = failAt(inner, n);
          try {
            const node = openWritable(failing, gate);
            node.resize(target);
            node.flush();
          } catch (error) {
            if (!(error instanceof ImageError)) throw error;
          }
          struck = failing.counter.struck;
          expect(judge(inner.bytes(), gate, [content, new Uint8Array(content.length)]), `step ${n}`).toBe(null);
        }
      }
    });
  });
}
