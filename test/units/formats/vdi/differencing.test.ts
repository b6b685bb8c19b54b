// Differencing VDIs: chains made, read and written here; parents found by UUID, missing, changed, or others.
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { isWritable } from '../../../../core/block/node.ts';
import { MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { followNothing, followSameFolder } from '../../../../core/formats/gate.ts';
import { openImage, type OpenOptions } from '../../../../core/formats/open.ts';
import { vdi } from '../../../../core/formats/vdi/driver.ts';
import { header1, preHeader } from '../../../../core/formats/vdi/spec.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { checkAt, contentAt, createImage, regionsOf, withImage, writing } from '../new-image.ts';
import { guestAtWork } from '../random-guest.ts';

const folder = scratchFolder('vdi-chain');
const at = (name: string): string => path.join(folder, name);
const names = ['base.vdi', 'mid.vdi', 'top.vdi'];
const size = 10 * MiB + 1536;
const nullUuid = '00000000-0000-0000-0000-000000000000';

/** A chain of three, each layer written at random before the next is made. Gives what each layer shows. */
function makeChain(random: SeededRandom): Uint8Array[] {
  const models: Uint8Array[] = [];
  for (const [layer, name] of names.entries()) {
    createImage(vdi, at(name), { size, backing: names[layer - 1] ?? null });
    const model: Uint8Array = models[layer - 1]?.slice() ?? new Uint8Array(size);
    writing(at(name), (node) => {
      const shown = models[layer - 1];
      const below = shown === undefined ? {} : { below: shown };
      guestAtWork(node, model, { random, layer: layer + 1, steps: 10, longest: 2 * MiB, ...below });
    });
    models.push(model);
  }
  return models;
}

function refusal(options: OpenOptions = {}, name = 'top.vdi'): string | null {
  try {
    openImage(at(name), options).node.close();
    return null;
  } catch (error) {
    if (isImageError(error)) return error.code;
    throw error;
  }
}

function headerAt(file: string): ReturnType<typeof header1.parse> {
  return header1.parse(fs.readFileSync(file).subarray(preHeader.size));
}

describe('a chain of three', () => {
  const seed = chosenSeed('vdi chain');
  let models: Uint8Array[] = [];
  const modelOf = (layer: number): Uint8Array => models[layer] ?? new Uint8Array(0);
  beforeEach(() => {
    for (const name of fs.readdirSync(folder)) fs.rmSync(at(name), { recursive: true });
    models = makeChain(new SeededRandom(seed));
  });

  it('shows what was written, layer by layer', () => {
    for (const [layer, name] of names.entries()) {
      expect(difference(contentAt(at(name)), modelOf(layer))).toBe(null);
      expect(checkAt(vdi, at(name)).findings).toEqual([]);
      withImage(at(name), {}, (node) => regionsOf(vdi, node));
    }
    withImage(at('top.vdi'), {}, (node) => {
      expect(vdi.facts(node).backing).toEqual({ path: 'mid.vdi', format: 'vdi' });
      expect(node.backing?.backing?.backing).toBe(null);
    });
    withImage(at('top.vdi'), { withBacking: false }, (node) => {
      expect(vdi.facts(node).backing).toEqual({ path: 'mid.vdi', format: 'vdi' });
    });
  });

  it('is found after its files have other names and another folder', () => {
    fs.mkdirSync(at('elsewhere'));
    for (const [i, name] of names.entries()) fs.renameSync(at(name), at(`elsewhere/${i}.VDI`));
    expect(difference(contentAt(at('elsewhere/2.VDI')), modelOf(2))).toBe(null);
  });

  it('is found where VirtualBox keeps the disks of snapshots', () => {
    fs.mkdirSync(at('Snapshots'));
    fs.renameSync(at('mid.vdi'), at(`Snapshots/{${headerAt(at('mid.vdi')).uuid_create}}.vdi`));
    fs.renameSync(at('top.vdi'), at(`Snapshots/{${headerAt(at('top.vdi')).uuid_create}}.vdi`));
    const top =
      fs.readdirSync(at('Snapshots')).find((name) => !name.includes(headerAt(parentOfTop()).uuid_create)) ?? '';
    expect(difference(contentAt(at(`Snapshots/${top}`)), modelOf(2))).toBe(null);

    function parentOfTop(): string {
      const files = fs.readdirSync(at('Snapshots')).map((name) => at(`Snapshots/${name}`));
      const linked = files.map((file) => headerAt(file).uuid_linkage);
      return files.find((file) => linked.includes(headerAt(file).uuid_create)) ?? '';
    }
  });

  it('is refused without its parent, by the UUID of the parent', () => {
    const { uuid_linkage: uuid } = headerAt(at('top.vdi'));
    fs.rmSync(at('mid.vdi'));
    expect(() => openImage(at('top.vdi'))).toThrow(uuid);
    expect([refusal(), refusal({ withBacking: false }), refusal({ writable: true })]).toEqual([
      'vdi/parent-missing',
      'vdi/parent-missing',
      'vdi/parent-missing',
    ]);
    expect(checkAt(vdi, at('top.vdi')).findings.map(({ code }) => code)).toEqual(['vdi/parent-missing']);
  });

  it('is refused when its parent was written to', () => {
    writing(at('mid.vdi'), (node) => writeGuest(node, Uint8Array.of(1), 77));
    expect([refusal(), refusal({ withBacking: false })]).toEqual(['vdi/parent-changed', 'vdi/parent-changed']);
    expect(checkAt(vdi, at('top.vdi')).findings.map(({ code }) => code)).toEqual(['vdi/parent-changed']);
    expect(refusal({}, 'mid.vdi')).toBe(null);
  });

  it('stays whole when its parent was opened for writing, and nothing was written', () => {
    writing(at('mid.vdi'), () => {});
    expect(difference(contentAt(at('top.vdi')), modelOf(2))).toBe(null);
  });

  it('follows only what the caller allows, and shows its facts all the same', () => {
    expect(refusal({ policy: followNothing })).toBe('gate/refused');
    expect(refusal({ policy: followNothing, withBacking: false })).toBe(null);
    expect(refusal({ policy: followSameFolder })).toBe(null);
  });

  it('keeps zeroes apart from what shows through', () => {
    const model = modelOf(2).slice();
    writing(at('top.vdi'), (node) => {
      expect(node.zero({ start: 0, length: 5 * MiB })?.length).toBeGreaterThan(0);
      const random = new SeededRandom(seed + 1);
      model.fill(0, 0, MiB);
      guestAtWork(node, model, { random, layer: 9, steps: 12, longest: MiB, below: modelOf(1) });
    });
    expect(difference(contentAt(at('top.vdi')), model)).toBe(null);
  });

  it('is relinked, and freed of its parent', () => {
    fs.copyFileSync(at('mid.vdi'), at('copy.vdi'));
    writing(at('copy.vdi'), (node) => writeGuest(node, Uint8Array.of(1), 0));
    fs.rmSync(at('mid.vdi'));
    expect(refusal()).toBe('vdi/parent-changed');
    writing(at('top.vdi'), (node) => node.setBacking({ path: 'copy.vdi', format: 'vdi' }), { withBacking: false });
    expect(refusal()).toBe(null);
    writing(at('top.vdi'), (node) => {
      writeGuest(node, modelOf(2), 0);
      node.setBacking(null);
    });
    expect(difference(contentAt(at('top.vdi')), modelOf(2))).toBe(null);
    withImage(at('top.vdi'), {}, (node) => expect([node.backing, vdi.facts(node).backing]).toEqual([null, null]));
  });

  it('grows without showing what its parent has behind the old end', () => {
    const cut = 3 * MiB + 512;
    writing(at('top.vdi'), (node) => {
      node.resize(cut);
      node.resize(size);
    });
    const expected = new Uint8Array(size);
    expected.set(modelOf(2).subarray(0, cut));
    expect(difference(contentAt(at('top.vdi')), expected)).toBe(null);
  });
});

describe('a parent', () => {
  it('of another format, in another folder, or with a static child is refused', () => {
    fs.writeFileSync(at('raw.img'), new Uint8Array(MiB));
    createImage(vdi, at('p.vdi'), { size: MiB });
    fs.mkdirSync(at('deep'), { recursive: true });
    expect(() => createImage(vdi, at('c.vdi'), { size: MiB, backing: 'raw.img', backingFormat: 'raw' })).toThrow(
      /must be a VDI/,
    );
    expect(() => createImage(vdi, at('deep/c.vdi'), { size: MiB, backing: '../p.vdi' })).toThrow(
      /in the folder of the image/,
    );
    expect(() => createImage(vdi, at('c.vdi'), { size: MiB, backing: 'p.vdi', options: { static: true } })).toThrow(
      /no parent/,
    );
  });

  it('is only read', () => {
    createImage(vdi, at('p.vdi'), { size: MiB });
    createImage(vdi, at('c.vdi'), { size: MiB, backing: 'p.vdi' });
    withImage(at('c.vdi'), { writable: true }, (node) => {
      expect([isWritable(node), node.backing === null || isWritable(node.backing)]).toEqual([true, false]);
    });
  });
});

describeWith({ peers: ['qemu-img'] }, 'qemu-img beside a chain', () => {
  const seed = chosenSeed('vdi chain by qemu');

  it('refuses the child, and reads each layer alone as we do', () => {
    const models = makeChain(new SeededRandom(seed));
    expect(runQemuImg(['info', '-f', 'vdi', at('top.vdi')]).stderr).toContain('UUID');
    let shown: Uint8Array = new Uint8Array(size);
    for (const [layer, name] of names.entries()) {
      const alone = at(`alone-${name}`);
      const bytes = Uint8Array.from(fs.readFileSync(at(name)));
      header1.patch(bytes.subarray(preHeader.size), {
        image_type: 1,
        uuid_linkage: nullUuid,
        uuid_parent_modify: nullUuid,
      });
      fs.writeFileSync(alone, bytes);
      expect(mustRun('qemu-img', ['check', '-f', 'vdi', alone])).toContain('No errors were found');
      mustRun('qemu-img', ['convert', '-f', 'vdi', '-O', 'raw', alone, at('alone.raw')]);
      const own = fs.readFileSync(at('alone.raw'));
      const map = new DataView(bytes.buffer, 512);
      const composed = shown.slice();
      for (let block = 0; block * MiB < size; block++) {
        // A free block is the parent's.
        if (map.getUint32(block * 4, true) === 0xffffffff) continue;
        composed.set(own.subarray(block * MiB, (block + 1) * MiB), block * MiB);
      }
      shown = composed;
      expect(difference(shown, models[layer] ?? new Uint8Array(0))).toBe(null);
    }
  });
});

describe('the bytes of a child', () => {
  it('name the parent by its UUIDs', () => {
    createImage(vdi, at('p.vdi'), { size: 2 * MiB });
    createImage(vdi, at('c.vdi'), { size: 2 * MiB, backing: 'p.vdi' });
    const bytes = positionCoded(0, 100, 1);
    writing(at('c.vdi'), (node) => writeGuest(node, bytes, MiB + 3));
    const child = headerAt(at('c.vdi'));
    const parent = headerAt(at('p.vdi'));
    expect(child).toMatchObject({
      image_type: 4,
      uuid_linkage: parent.uuid_create,
      uuid_parent_modify: parent.uuid_modify,
      blocks_allocated: 1,
    });
    expect(child.uuid_create).not.toBe(parent.uuid_create);
  });
});
