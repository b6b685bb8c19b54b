// Chains of three qcow2 images written here: each layer is what qemu-img reads, and a layer below that is gone is said by its name.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../../core/block/units.ts';
import { isImageError } from '../../core/errors/image-error.ts';
import { openImage } from '../../core/formats/open.ts';
import { qcow2 } from '../../core/formats/qcow2/driver.ts';
import { describeWith, mustRun } from '../peers.ts';
import { difference } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';
import { contentAt, createImage, writing } from '../units/formats/new-image.ts';
import { guestAtWork } from '../units/formats/random-guest.ts';

const folder = scratchFolder('chains');
const names = ['base.qcow2', 'mid.qcow2', 'top.qcow2'];
const size = 6 * MiB + 512;
const seed = chosenSeed('qcow2 chain');
const at = (name: string): string => path.join(folder, name);

/** Each layer is written at random before the next is made. Gives what each layer shows. */
function makeChain(options: Readonly<Record<string, string | number | boolean>>): Uint8Array[] {
  const random = new SeededRandom(seed);
  const models: Uint8Array[] = [];
  for (const [layer, name] of names.entries()) {
    createImage(qcow2, at(name), { size, backing: names[layer - 1] ?? null, options });
    const model: Uint8Array = models[layer - 1]?.slice() ?? new Uint8Array(size);
    const shown = models[layer - 1];
    writing(at(name), (node) => {
      guestAtWork(node, model, {
        random,
        layer: layer + 1,
        steps: 12,
        longest: MiB,
        ...(shown === undefined ? {} : { below: shown }),
      });
    });
    models.push(model);
  }
  return models;
}

const kinds: readonly Readonly<Record<string, string | number | boolean>>[] = [
  {},
  { compat: '0.10' },
  { extended_l2: true },
  { cluster_size: 512 },
  { cluster_size: 2 * MiB },
  { lazy_refcounts: true, refcount_bits: 64, cluster_size: 4 * KiB },
];

describeWith({ peers: ['qemu-img'] }, 'a chain of three that is written here', () => {
  it.each(kinds)('%o: qemu-img reads each layer as we do', (options) => {
    const models = makeChain(options);
    for (const [layer, name] of names.entries()) {
      const expected = models[layer] ?? new Uint8Array(0);
      expect(difference(contentAt(at(name)), expected), `${name}, seed ${seed}`).toBe(null);
      mustRun('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', at(name), at('theirs.raw')]);
      expect(difference(fs.readFileSync(at('theirs.raw')), expected), `${name}, seed ${seed}`).toBe(null);
      mustRun('qemu-img', ['check', '-f', 'qcow2', at(name)]);
    }
  });
});

describe('a chain whose bottom is gone', () => {
  it('is refused with the name that is looked for', () => {
    makeChain({});
    fs.rmSync(at('base.qcow2'));
    let refusal: unknown = null;
    try {
      openImage(at('top.qcow2')).node.close();
    } catch (error) {
      refusal = error;
    }
    if (!isImageError(refusal, 'gate/backing')) throw new Error(`not refused: ${String(refusal)}`);
    expect(refusal.message).toContain('No such file or directory');
    expect(JSON.stringify(refusal.toWire())).toContain('base.qcow2');
  });
});
