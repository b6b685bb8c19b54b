// New VDIs beside those of qemu-img, and images with the headers of all versions.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import { GiB, KiB, MiB, TiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import type { OpenGate, OptionValue } from '../../../../core/formats/driver.ts';
import { vdi } from '../../../../core/formats/vdi/driver.ts';
import { header0, header1, logicalGeometry, preHeader } from '../../../../core/formats/vdi/spec.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkAt, checkOf, createImage, createIn, regionsOf, withImage } from '../new-image.ts';

const nullUuid = '00000000-0000-0000-0000-000000000000';

/** The image without what is different in every one. */
function anonymous(file: string): Uint8Array {
  const bytes = Uint8Array.from(fs.readFileSync(file));
  header1.patch(bytes.subarray(preHeader.size), { uuid_create: nullUuid, uuid_modify: nullUuid });
  return bytes;
}

describeWith({ peers: ['qemu-img'] }, 'new VDIs', () => {
  const folder = scratchFolder('vdi-create');
  const ours = path.join(folder, 'ours.vdi');
  const theirs = path.join(folder, 'theirs.vdi');

  for (const size of [0, 1, 512, 1000, MiB, MiB + 1, 100 * MiB, 127 * MiB, GiB + 513, 2 * TiB]) {
    for (const isStatic of size <= 127 * MiB ? [false, true] : [false]) {
      it(`of ${size} bytes${isStatic ? ', static,' : ''} are those of qemu-img, byte for byte but the UUIDs`, () => {
        createImage(vdi, ours, { size, options: isStatic ? { static: true } : {} });
        mustRun('qemu-img', [
          'create',
          '-q',
          '-f',
          'vdi',
          '-o',
          `static=${isStatic ? 'on' : 'off'}`,
          theirs,
          String(size),
        ]);
        expect(Buffer.compare(anonymous(ours), anonymous(theirs))).toBe(0);
        expect(mustRun('qemu-img', ['check', ours])).toContain('No errors were found');
        expect(checkAt(vdi, ours).findings).toEqual([]);
        withImage(ours, {}, (node) => regionsOf(vdi, node));
      });
    }
  }

  it('too large are refused with the sentence of qemu-img', () => {
    const told = runQemuImg(['create', '-q', '-f', 'vdi', theirs, '1025T']).stderr.trim();
    let message = '';
    try {
      createImage(vdi, ours, { size: 1025 * TiB });
    } catch (error) {
      message = isImageError(error) ? error.message : '';
    }
    expect(told).toBe(`qemu-img: ${theirs}: ${message}`);
  });

  it('that are static have their space when it is asked for', () => {
    createImage(vdi, ours, { size: 8 * MiB, options: { static: true, preallocation: 'full' } });
    expect(fs.statSync(ours).blocks * 512).toBeGreaterThanOrEqual(8 * MiB);
    createImage(vdi, ours, { size: 8 * MiB, options: { static: true } });
    expect(fs.statSync(ours).blocks * 512).toBeLessThan(MiB);
  });

  it('have fresh UUIDs, or those that were asked', () => {
    const identity = (options: Record<string, OptionValue>): unknown[] => {
      createImage(vdi, ours, { size: MiB, options });
      return withImage(ours, {}, (node) => {
        const { further } = vdi.facts(node);
        return [further?.uuid, further?.['modify-uuid']];
      });
    };
    expect(identity({})).not.toEqual(identity({}));
    const uuid = '0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9';
    const modification = '1a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9';
    expect(identity({ uuid, modify_uuid: modification })).toEqual([uuid, modification]);
    expect(() => identity({ uuid: '0' })).toThrow(/UUID/);
  });
});

const gate: OpenGate = {
  openImage() {
    throw new Error('no parent is expected');
  },
  openFile() {
    throw new Error('a VDI has no other file');
  },
};

interface Form {
  readonly version: number;
  /** Bytes of the header behind the pre-header. */
  readonly headerSize: number;
  readonly text: string;
  readonly blockSize: number;
  readonly extra: number;
  readonly dataOffset: number | null;
}

/** An image of five blocks as some VirtualBox would have written it: block 1 at place 1, block 3 at place 0, block 4 zero. */
function oldImage(form: Form): MemoryStorage {
  const blocks = 5;
  const { blockSize } = form;
  const isOld = form.version >>> 16 === 0;
  const mapOffset = isOld ? 72 + header0.size : form.dataOffset === null ? 512 : form.dataOffset / 2;
  const dataOffset = isOld ? mapOffset + 4 * blocks : (form.dataOffset ?? 1024);
  const storage = new MemoryStorage();
  storage.writeAt(preHeader.serialise({ file_info: form.text, signature: 0xbeda107f, version: form.version }), 0);
  const common = {
    image_type: 1,
    legacy_sector_size: 512,
    disk_size: blocks * blockSize - 512,
    block_size: blockSize,
    blocks_in_image: blocks,
    blocks_allocated: 2,
    uuid_create: '11111111-1111-1111-1111-111111111111',
    uuid_modify: '22222222-2222-2222-2222-222222222222',
  };
  if (isOld) storage.writeAt(header0.serialise(common), 72);
  else {
    const places = { offset_blocks: mapOffset, offset_data: dataOffset, block_extra: form.extra };
    storage.writeAt(header1.serialise({ ...common, ...places, header_size: form.headerSize }), 72);
    if (form.headerSize > header1.size) {
      storage.writeAt(logicalGeometry.serialise({ logical_sector_size: 512 }), 72 + header1.size);
    }
  }
  const map = new DataView(new ArrayBuffer(4 * blocks));
  [0xffffffff, 1, 0xffffffff, 0, 0xfffffffe].forEach((entry, block) => map.setUint32(block * 4, entry, true));
  storage.writeAt(new Uint8Array(map.buffer), mapOffset);
  const total = blockSize + form.extra;
  storage.writeAt(positionCoded(3 * blockSize, blockSize, 1), dataOffset + form.extra);
  storage.writeAt(positionCoded(blockSize, blockSize, 1), dataOffset + total + form.extra);
  return storage;
}

const forms: Record<string, Form> = {
  'version 0': { version: 0x0000_0001, headerSize: 0, text: '', blockSize: MiB, extra: 0, dataOffset: null },
  'version 1.0': {
    version: 0x0001_0000,
    headerSize: 384,
    text: '<<< innotek VirtualBox Disk Image >>>\n',
    blockSize: MiB,
    extra: 0,
    dataOffset: null,
  },
  'version 1.1 of Sun': {
    version: 0x0001_0001,
    headerSize: 384,
    text: '<<< Sun VirtualBox Disk Image >>>\n',
    blockSize: MiB,
    extra: 0,
    dataOffset: 4 * KiB,
  },
  'version 1.1 with the logical geometry': {
    version: 0x0001_0001,
    headerSize: 400,
    text: '<<< Oracle VM VirtualBox Disk Image >>>\n',
    blockSize: MiB,
    extra: 0,
    dataOffset: 2 * MiB,
  },
  'blocks of 64 KiB with extra bytes': {
    version: 0x0001_0001,
    headerSize: 400,
    text: '<<< Oracle VM VirtualBox Disk Image >>>\n',
    blockSize: 64 * KiB,
    extra: 512,
    dataOffset: 2 * MiB,
  },
};

describe('images of all ages', () => {
  for (const [name, form] of Object.entries(forms)) {
    it(`(${name}) are read, checked and written`, () => {
      const storage = oldImage(form);
      expect(vdi.probe(storage.bytes().subarray(0, 65_536), new Uint8Array(0))).toBe(true);
      const node = vdi.open(storage, { writable: true, gate, withBacking: true, runtime: {}, forRepair: false });
      if (!isWritable(node)) throw new Error('not writable');
      expect(node.size).toBe(5 * form.blockSize - 512);
      const model = new Uint8Array(node.size);
      for (const block of [1, 3]) {
        model.set(positionCoded(block * form.blockSize, form.blockSize, 1), block * form.blockSize);
      }
      const found = new Uint8Array(node.size);
      readGuest(node, found, 0);
      expect(difference(found, model)).toBe(null);
      expect(checkOf(vdi, node).findings).toEqual([]);
      regionsOf(vdi, node);
      for (const start of [0, 3 * form.blockSize - 5000, node.size - 7000]) {
        const bytes = positionCoded(start, 7000, 2);
        writeGuest(node, bytes, start);
        model.set(bytes, start);
      }
      node.flush();
      const again = vdi.open(new MemoryStorage(storage.bytes()), {
        writable: false,
        gate,
        withBacking: true,
        runtime: {},
        forRepair: false,
      });
      readGuest(again, found, 0);
      expect(difference(found, model)).toBe(null);
      expect(checkOf(vdi, again).findings).toEqual([]);
      expect(vdi.facts(again).further).toMatchObject({
        uuid: '11111111-1111-1111-1111-111111111111',
        'blocks-allocated': 5,
      });
      expect(vdi.facts(again).further?.['modify-uuid']).not.toBe('22222222-2222-2222-2222-222222222222');
      regionsOf(vdi, again);
    });
  }

  it('of an unknown version, and what is no VDI, are refused with the sentences of qemu-img', () => {
    const refusal = (patch: (bytes: Uint8Array) => void): string => {
      const storage = new MemoryStorage();
      createIn(vdi, storage, 'x.vdi', { size: MiB });
      const bytes = storage.bytes();
      patch(bytes);
      try {
        vdi.open(new MemoryStorage(bytes), { writable: false, gate, withBacking: true, runtime: {}, forRepair: false });
        return '';
      } catch (error) {
        return isImageError(error) ? error.message : String(error);
      }
    };
    expect(refusal((bytes) => preHeader.patch(bytes, { version: 0x0002_0001 }))).toBe(
      'unsupported VDI image (version 2.1)',
    );
    expect(refusal((bytes) => preHeader.patch(bytes, { signature: 0x1234 }))).toBe(
      'Image not in VDI format (bad signature 00001234)',
    );
    expect(refusal((bytes) => header1.patch(bytes.subarray(72), { disk_size: 3 * MiB }))).toBe(
      `unsupported VDI image (disk size ${3 * MiB}, image bitmap has room for ${MiB})`,
    );
    expect(refusal((bytes) => header1.patch(bytes.subarray(72), { legacy_sector_size: 4096 }))).toBe(
      'unsupported VDI image (sector size 4096 is not 512)',
    );
  });
});
