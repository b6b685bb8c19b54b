// Mutated VDIs: an answer or an ImageError, soon, and in bounded memory.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { readGuest, resolve } from '../../../../core/block/read.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate } from '../../../../core/formats/driver.ts';
import { vdi } from '../../../../core/formats/vdi/driver.ts';
import { header1, preHeader } from '../../../../core/formats/vdi/spec.ts';
import { positionCoded } from '../../../position-coded.ts';
import { processorTime } from '../../../processor-time.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkOf, createIn, regionsOf } from '../new-image.ts';

const mutants = Number(process.env.FUZZ_MUTANTS ?? 600);

const gate: OpenGate = {
  openImage: ({ from }) => {
    throw new ImageError('storage/open', { errno: 'ENOENT', reason: 'No such file or directory' }, { file: from });
  },
  openFile() {
    throw new Error('a VDI has no other file');
  },
};

/** Images with small blocks, so that a mutant is soon copied: one dynamic, one static. */
function seeds(): Uint8Array[] {
  return [1, 2].map((type) => {
    const storage = new MemoryStorage();
    createIn(vdi, storage, 'seed.vdi', { size: 0 });
    const blocks = 80;
    const blockSize = 4 * KiB;
    const places = { offset_blocks: 512, offset_data: 1024, disk_size: blocks * blockSize, block_size: blockSize };
    const counts = { blocks_in_image: blocks, blocks_allocated: type === 2 ? blocks : 0, image_type: type };
    const bytes = new Uint8Array(1024 + (type === 2 ? blocks * blockSize : 0));
    bytes.set(storage.bytes());
    header1.patch(bytes.subarray(preHeader.size), { ...places, ...counts });
    const map = new DataView(bytes.buffer, 512);
    for (let block = 0; block < blocks; block++) map.setUint32(block * 4, type === 2 ? block : 0xffffffff, true);
    const filled = new MemoryStorage(bytes);
    const node = vdi.open(filled, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
    if (!isWritable(node)) throw new Error('not writable');
    writeGuest(node, positionCoded(5000, 9000, 1), 5000);
    writeGuest(node, positionCoded(200_000, 90_000, 1), 200_000);
    node.flush();
    return filled.bytes();
  });
}

const interesting = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xfe, 0xff];

function mutate(seed: Uint8Array, random: SeededRandom): Uint8Array {
  const bytes = seed.slice();
  const changes = 1 + random.below(4);
  for (let i = 0; i < changes; i++) {
    const base = random.pick([64, 64, 336, 384, 512, random.below(bytes.length)]);
    const at = Math.min(bytes.length - 8, base + random.below(96));
    const width = random.pick([1, 2, 4, 8]);
    const value = random.oneIn(2) ? null : random.pick(interesting);
    for (let k = 0; k < width; k++) bytes[at + k] = value ?? random.below(256);
  }
  return random.oneIn(6) ? bytes.slice(0, random.below(bytes.length)) : bytes;
}

/** Everything that is done with an image that somebody drags in. */
function exercise(bytes: Uint8Array, random: SeededRandom): void {
  const writable = random.oneIn(3);
  const storage = new MemoryStorage(bytes, 'mutant');
  vdi.probe(bytes.subarray(0, 65_536), bytes.subarray(Math.max(0, bytes.length - 1024)), bytes.length);
  const request = { writable, gate, withBacking: !random.oneIn(3), runtime: {}, forRepair: random.oneIn(3) };
  const node = vdi.open(storage, request);
  vdi.facts(node);
  let runs = 0;
  for (const run of resolve(node)) {
    if (runs++ > 2000) break;
    expect(run.length).toBeGreaterThan(0);
  }
  const window = new Uint8Array(Math.min(node.size, 256 * KiB));
  readGuest(node, window, random.below(node.size - window.length + 1));
  regionsOf(vdi, node);
  checkOf(vdi, node);
  // A file takes a large block as a hole; memory would really take it.
  if (!isWritable(node) || node.size < 4096 || (vdi.facts(node).clusterSize ?? 0) > 16 * MiB) return;
  if (Number(vdi.facts(node).further?.['block-extra']) > MiB) return;
  writeGuest(node, window.subarray(0, 4096), random.below(node.size - 4095));
  node.zero({ start: 0, length: Math.min(node.size, MiB) });
  node.flush();
}

describe('mutated VDIs', () => {
  it(`(${mutants}) give an answer or an ImageError within two seconds`, () => {
    const random = new SeededRandom(chosenSeed('vdi fuzz'));
    const originals = seeds();
    let answered = 0;
    let slowest = 0;
    for (let i = 0; i < mutants; i++) {
      const bytes = mutate(random.pick(originals), random);
      const begin = processorTime();
      try {
        exercise(bytes, random);
        answered++;
      } catch (error) {
        if (!(error instanceof ImageError)) throw new Error(`mutant ${i}`, { cause: error });
      }
      slowest = Math.max(slowest, processorTime() - begin);
    }
    expect(slowest).toBeLessThan(2000);
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(mutants);
  });
});
