// Mutated VHDs: an answer or an ImageError, soon, and in bounded memory.
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { readGuest, resolve } from '../../../../core/block/read.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate } from '../../../../core/formats/driver.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { checksumOf, dynamicHeader, footer } from '../../../../core/formats/vhd/spec.ts';
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
    throw new Error('a VHD has no other file');
  },
};

function seeds(): Uint8Array[] {
  return [{}, { subformat: 'fixed' }, { block_size: 4 * KiB }].map((options: Record<string, string | number>) => {
    const storage = new MemoryStorage();
    createIn(vhd, storage, 'seed.vhd', { size: 300 * KiB, options });
    const node = vhd.open(storage, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
    if (!isWritable(node)) throw new Error('not writable');
    writeGuest(node, positionCoded(5000, 9000, 1), 5000);
    writeGuest(node, positionCoded(200_000, 90_000, 1), 200_000);
    node.flush();
    return storage.bytes();
  });
}

const interesting = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff];

function mutate(seed: Uint8Array, random: SeededRandom): Uint8Array {
  let bytes: Uint8Array = seed.slice();
  const changes = 1 + random.below(4);
  for (let i = 0; i < changes; i++) {
    const base = random.pick([0, 512, 1536, bytes.length - 512, random.below(bytes.length)]);
    const at = Math.min(bytes.length - 8, Math.max(0, base) + random.below(96));
    const width = random.pick([1, 2, 4, 8]);
    const value = random.oneIn(2) ? null : random.pick(interesting);
    for (let k = 0; k < width; k++) bytes[at + k] = value ?? random.below(256);
  }
  if (random.oneIn(6)) bytes = bytes.slice(0, random.below(bytes.length));
  if (random.oneIn(3)) return bytes;
  // Sound checksums, so that what is behind them is reached.
  for (const [at, structure] of [
    [0, footer],
    [bytes.length - 512, footer],
    [512, dynamicHeader],
  ] as const) {
    if (at < 0 || at + structure.size > bytes.length || bytes[at] !== 0x63) continue;
    const part = bytes.subarray(at, at + structure.size);
    const checksum = checksumOf(part, structure.fields.checksum.offset);
    new DataView(part.buffer, part.byteOffset).setUint32(structure.fields.checksum.offset, checksum);
  }
  return bytes;
}

/** Everything that is done with an image that somebody drags in. */
function exercise(bytes: Uint8Array, random: SeededRandom): void {
  const writable = random.oneIn(3);
  const forRepair = random.oneIn(3);
  const storage = new MemoryStorage(bytes, 'mutant');
  vhd.probe(bytes.subarray(0, 65_536), bytes.subarray(Math.max(0, bytes.length - 1024)), bytes.length);
  const withBacking = !random.oneIn(3);
  const node = vhd.open(storage, { writable, gate, withBacking, runtime: {}, forRepair });
  vhd.facts(node);
  let runs = 0;
  for (const run of resolve(node)) {
    if (runs++ > 2000) break;
    expect(run.length).toBeGreaterThan(0);
  }
  const window = new Uint8Array(Math.min(node.size, 256 * KiB));
  readGuest(node, window, random.below(node.size - window.length + 1));
  regionsOf(vhd, node);
  checkOf(vhd, node);
  // A file takes a large block as a hole; memory would really take it.
  if (!isWritable(node) || node.size < 4096 || (vhd.facts(node).clusterSize ?? 0) > 16 * MiB) return;
  writeGuest(node, window.subarray(0, 4096), random.below(node.size - 4095));
  node.zero({ start: 0, length: Math.min(node.size, MiB) });
  node.flush();
}

describe('mutated VHDs', () => {
  it(`(${mutants}) give an answer or an ImageError within two seconds`, () => {
    const random = new SeededRandom(chosenSeed('vhd fuzz'));
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
