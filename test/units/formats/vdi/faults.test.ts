// VDIs on disks that fail and machines that lose power: old or new bytes, leaks at worst.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import type { Storage } from '../../../../core/block/storage.ts';
import { MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate } from '../../../../core/formats/driver.ts';
import { vdi } from '../../../../core/formats/vdi/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { failAt, StepCounter } from '../../../faults/failing-storage.ts';
import { PowerCutStorage } from '../../../faults/power-cut.ts';
import { originOf, positionCoded } from '../../../position-coded.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkOf, contentOf, createIn } from '../new-image.ts';

const size = 5 * MiB;

function openWritable(storage: Storage, gate: OpenGate): WritableNode {
  const node = vdi.open(storage, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
  if (!isWritable(node)) throw new Error('not writable');
  return node;
}

/** An image in memory, over a parent or not, with its content. */
function family(withParent: boolean): { gate: OpenGate; image: Uint8Array; content: Uint8Array } {
  const parent = new MemoryStorage();
  createIn(vdi, parent, 'parent.vdi', { size });
  const open = (): BlockNode =>
    vdi.open(new MemoryStorage(parent.bytes()), {
      writable: false,
      gate,
      withBacking: true,
      runtime: {},
      forRepair: false,
    });
  const gate: OpenGate = {
    openImage: open,
    openFile() {
      throw new Error('no other file is expected');
    },
  };
  const below = openWritable(parent, gate);
  for (let at = 0; at < size; at += 2 * MiB) writeGuest(below, positionCoded(at, 40_000, 1), at);
  below.flush();
  if (!withParent) return { gate, image: parent.bytes(), content: contentOf(below) };
  const child = new MemoryStorage();
  vdi.create?.({
    storage: child,
    name: '/nowhere/child.vdi',
    size,
    options: {},
    backing: { path: 'parent.vdi', format: 'vdi' },
    openBacking: open,
    createFile() {
      throw new Error('no other file is expected');
    },
    job: silentJob,
  });
  const node = openWritable(child, gate);
  writeGuest(node, positionCoded(MiB, 100_000, 2), MiB);
  node.flush();
  return { gate, image: child.bytes(), content: contentOf(node) };
}

/** Null when each sector is as in one of `versions` and nothing worse than leaks is found. */
function judge(bytes: Uint8Array, gate: OpenGate, versions: readonly Uint8Array[]): string | null {
  const storage = new MemoryStorage(bytes, 'after');
  const node = vdi.open(storage, { writable: false, gate, withBacking: true, runtime: {}, forRepair: false });
  const shared = Math.min(node.size, ...versions.map(({ length }) => length));
  const content = new Uint8Array(shared);
  readGuest(node, content, 0);
  for (let at = 0; at < shared; at += 512) {
    const found = content.subarray(at, at + 512);
    const known = versions.some((version) => Buffer.compare(found, version.subarray(at, at + found.length)) === 0);
    if (!known) return `at ${at}: ${originOf(found)}`;
  }
  const broken = checkOf(vdi, node).findings.filter(({ severity }) => severity !== 'leak');
  return broken.length === 0 ? null : broken.map(({ text }) => text).join('; ');
}

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
  describe(`a ${name} VDI`, () => {
    const { gate, image, content } = family(withParent);

    it('on a disk that fails at step n holds the old or the new bytes', () => {
      for (const torn of [false, true]) {
        for (let n = 1, struck = true; struck; n++) {
          const inner = new MemoryStorage(image, 'inner');
          const failing = failAt(inner, n, { torn });
          const history = new History(content);
          try {
            const node = openWritable(failing, gate);
            const random = new SeededRandom(3);
            for (let i = 0; i < 9; i++) {
              const start = random.below(node.size - 70_000);
              const bytes = positionCoded(start, 1 + random.below(70_000), 7);
              history.note(start, bytes);
              writeGuest(node, bytes, start);
              if (i % 3 === 2) node.flush();
            }
          } catch (error) {
            if (!(error instanceof ImageError)) throw error;
          }
          struck = failing.counter.struck;
          expect(judge(inner.bytes(), gate, history.versions), `step ${n}`).toBe(null);
        }
      }
    });

    it('after a power cut holds the old or the new bytes', () => {
      const random = new SeededRandom(chosenSeed(`vdi power cut ${name}`));
      for (let run = 0; run < 40; run++) {
        const storage = new PowerCutStorage(image, new StepCounter(Infinity));
        const history = new History(content);
        const node = openWritable(storage, gate);
        const steps = 1 + random.below(8);
        for (let i = 0; i < steps; i++) {
          const start = random.below(Math.floor((node.size - 70_000) / 512)) * 512;
          const length = (1 + random.below(130)) * 512;
          if (random.oneIn(4)) {
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

    it('is resized to the old or the new size, whatever step fails or is cut', () => {
      const random = new SeededRandom(chosenSeed(`vdi resize cut ${name}`));
      for (const target of [300 * MiB, 3 * MiB]) {
        for (let n = 1, struck = true; struck; n++) {
          const inner = new MemoryStorage(image, 'inner');
          const failing = failAt(inner, n);
          const cut = new PowerCutStorage(image, new StepCounter(n));
          for (const storage of [failing, cut]) {
            try {
              const node = openWritable(storage, gate);
              node.resize(target);
              node.flush();
            } catch (error) {
              if (storage === failing && !(error instanceof ImageError)) throw error;
            }
          }
          struck = failing.counter.struck;
          // What is cut off becomes zeroes before it goes.
          const versions = [content, new Uint8Array(content.length)];
          expect(judge(inner.bytes(), gate, versions), `step ${n}`).toBe(null);
          expect(judge(cut.afterCut(random), gate, versions), `cut at step ${n}`).toBe(null);
        }
      }
    });
  });
}
