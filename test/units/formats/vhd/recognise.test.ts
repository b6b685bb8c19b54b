// What is a VHD and how large it is: footers of both lengths, damaged copies, guests that write headers, makers and their sizes.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { isImageError } from '../../../../core/errors/image-error.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { parentPaths, readLocators } from '../../../../core/formats/vhd/locators.ts';
import { checksumOf, dynamicHeader, firstLocator, footer, parentLocator } from '../../../../core/formats/vhd/spec.ts';
import { describeWith, mustRun } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkAt, contentAt, createImage, withImage, writing } from '../new-image.ts';

const folder = scratchFolder('vhd-recognise');
const at = (name: string): string => path.join(folder, name);

function edit(file: string, change: (bytes: Uint8Array) => Uint8Array): void {
  fs.writeFileSync(file, change(Uint8Array.from(fs.readFileSync(file))));
}

/** Footer fields with a fresh checksum, in every footer of the file. */
function patchFooters(file: string, values: Parameters<typeof footer.patch>[1]): void {
  edit(file, (bytes) => {
    for (const start of [0, bytes.length - footer.size]) {
      const part = bytes.subarray(start, start + footer.size);
      if (part[0] !== 0x63) continue;
      footer.patch(part, values);
      footer.patch(part, { checksum: checksumOf(part, footer.fields.checksum.offset) });
    }
    return bytes;
  });
}

function messageOf(action: () => unknown): string {
  try {
    action();
    return '';
  } catch (error) {
    return isImageError(error) ? error.message : String(error);
  }
}

describe('a footer', () => {
  it('of 511 bytes is one too', () => {
    for (const options of [{}, { subformat: 'fixed' }]) {
      createImage(vhd, at('old.vhd'), { size: 3 * MiB, options });
      const bytes = positionCoded(100_000, 5000, 1);
      writing(at('old.vhd'), (node) => writeGuest(node, bytes, 100_000));
      edit(at('old.vhd'), (whole) => whole.slice(0, -1));
      const image = openImage(at('old.vhd'));
      expect([image.driver.id, image.node.size]).toEqual(['vpc', vhd.sizeFor?.(3 * MiB, {})]);
      image.node.close();
      expect(difference(contentAt(at('old.vhd')).subarray(100_000, 105_000), bytes)).toBe(null);
      expect(checkAt(vhd, at('old.vhd')).findings).toEqual([]);
      // The next writer makes it 512 bytes where it moves.
      writing(at('old.vhd'), (node) => writeGuest(node, bytes, 2 * MiB + 5));
      expect(checkAt(vhd, at('old.vhd')).findings).toEqual([]);
      expect(difference(contentAt(at('old.vhd')).subarray(2 * MiB + 5, 2 * MiB + 5005), bytes)).toBe(null);
    }
  });

  it('is enough where the other one is damaged, and the check says which', () => {
    createImage(vhd, at('d.vhd'), { size: 3 * MiB });
    const whole = fs.readFileSync(at('d.vhd'));
    const broken: Record<string, (bytes: Uint8Array) => Uint8Array> = {
      'vhd/check-footer-missing': (bytes) => bytes.slice(0, -512),
      'vhd/check-footer-checksum': (bytes) => (bytes.fill(7, bytes.length - 480, bytes.length - 470), bytes),
      'vhd/check-footer-copy': (bytes) => (bytes.fill(0, 0, 512), bytes),
      'vhd/check-footers-differ': (bytes) => {
        const part = bytes.subarray(0, 512);
        footer.patch(part, { saved_state: 1 });
        footer.patch(part, { checksum: checksumOf(part, footer.fields.checksum.offset) });
        return bytes;
      },
    };
    for (const [code, change] of Object.entries(broken)) {
      fs.writeFileSync(at('d.vhd'), whole);
      edit(at('d.vhd'), change);
      expect(openImageAndClose(at('d.vhd')), code).toBe('vpc');
      expect(checkAt(vhd, at('d.vhd')).findings.map((finding) => finding.code)).toEqual([code]);
    }
  });

  it('with a wrong checksum everywhere is refused', () => {
    createImage(vhd, at('d.vhd'), { size: 3 * MiB });
    edit(at('d.vhd'), (bytes) => {
      bytes[70] = (bytes[70] ?? 0) ^ 1;
      const last = bytes.length - 512 + 70;
      bytes[last] = (bytes[last] ?? 0) ^ 1;
      return bytes;
    });
    expect(messageOf(() => openImage(at('d.vhd')))).toBe('Incorrect header checksum');
  });

  it('of a fixed disk counts for more than what the guest writes at the start', () => {
    createImage(vhd, at('guest.vhd'), { size: 2 * MiB, options: { subformat: 'fixed' } });
    createImage(vhd, at('inner.vhd'), { size: 64 * MiB });
    const inner = fs.readFileSync(at('inner.vhd'));
    writing(at('guest.vhd'), (node) => writeGuest(node, inner.subarray(0, 4096), 0), { format: 'vpc' });
    withImage(at('guest.vhd'), {}, (node) => {
      expect([node.format, node.size]).toEqual(['vpc', vhd.sizeFor?.(2 * MiB, {})]);
      expect(vhd.facts(node).further?.subformat).toBe('fixed');
    });
    // The header of another format makes the file something that nobody should guess.
    const qcow2 = Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3);
    writing(at('guest.vhd'), (node) => writeGuest(node, qcow2, 0), { format: 'vpc' });
    expect(messageOf(() => openImage(at('guest.vhd')))).toContain('vpc');
    expect(withImage(at('guest.vhd'), { format: 'vpc' }, (node) => node.size)).toBe(vhd.sizeFor?.(2 * MiB, {}));
  });

  it('at the end of another format does not make it a VHD', () => {
    createImage(vhd, at('f.vhd'), { size: MiB, options: { subformat: 'fixed' } });
    const tail = fs.readFileSync(at('f.vhd')).subarray(-512);
    fs.writeFileSync(at('other.img'), Buffer.concat([new Uint8Array(5 * MiB), tail]));
    expect(openImageAndClose(at('other.img'))).toBe('raw');
  });
});

function openImageAndClose(file: string): string {
  const { driver, node } = openImage(file);
  node.close();
  return driver.id;
}

describeWith({ peers: ['qemu-img'] }, 'the size', () => {
  // CurrentSize a little above what the geometry addresses, as Virtual PC left them.
  const current = 10 * MiB;
  const byGeometry = 301 * 4 * 17 * 512;
  const geometry = { cylinders: 301, heads: 4, sectors_per_track: 17, current_size: current };

  it.each(['vpc ', 'qemu', 'qem2', 'win ', 'd2v ', 'tap', 'CTXS', 'abcd'])(
    'of a disk by "%s" is that of qemu-img',
    (maker) => {
      createImage(vhd, at('m.vhd'), { size: current });
      patchFooters(at('m.vhd'), { ...geometry, creator_application: maker });
      const theirs = JSON.parse(mustRun('qemu-img', ['info', '--output=json', '-f', 'vpc', at('m.vhd')])) as unknown;
      const ours = withImage(at('m.vhd'), {}, (node) => node.size);
      expect(theirs).toMatchObject({ 'virtual-size': ours });
    },
  );

  it.each(['wa', 'vbox', 'vs  '])('of a disk by "%s", which newer programs know, is CurrentSize', (maker) => {
    createImage(vhd, at('m.vhd'), { size: current });
    patchFooters(at('m.vhd'), { ...geometry, creator_application: maker });
    expect(withImage(at('m.vhd'), {}, (node) => node.size)).toBe(current);
  });

  it('is what force_size_calc says', () => {
    createImage(vhd, at('m.vhd'), { size: current });
    patchFooters(at('m.vhd'), geometry);
    const sizeBy = (value: string): number =>
      withImage(at('m.vhd'), { runtime: { force_size_calc: value } }, (node) => node.size);
    expect([sizeBy('chs'), sizeBy('current_size')]).toEqual([byGeometry, current]);
    expect(messageOf(() => sizeBy('x'))).toBe("Invalid size calculation mode: 'x'");
    expect(messageOf(() => openImage(at('m.vhd'), { runtime: { other: '1' } }))).toContain('other');
  });
});

describe('what cannot be mapped', () => {
  const refusalOf = (values: Parameters<typeof dynamicHeader.patch>[1]): string => {
    createImage(vhd, at('h.vhd'), { size: 5 * MiB });
    edit(at('h.vhd'), (bytes) => {
      const part = bytes.subarray(512, 1536);
      dynamicHeader.patch(part, values);
      dynamicHeader.patch(part, { checksum: checksumOf(part, dynamicHeader.fields.checksum.offset) });
      return bytes;
    });
    return messageOf(() => openImage(at('h.vhd')).node.close());
  };

  it('is refused with the sentences of qemu-img', () => {
    expect(refusalOf({ cookie: 'nonsense' })).toBe('Invalid header magic');
    expect(refusalOf({ block_size: 3 * MiB })).toBe(`Invalid block size ${3 * MiB}`);
    expect(refusalOf({ block_size: 0 })).toBe('Invalid block size 0');
    expect(refusalOf({ max_table_entries: 2 })).toBe('Page table too small');
    expect(refusalOf({ table_offset: 1e12 })).toBe('Error reading pagetable');
    expect(refusalOf({})).toBe('');
    createImage(vhd, at('h.vhd'), { size: 5 * MiB });
    edit(at('h.vhd'), (bytes) => (bytes.fill(0, 1536, 1540), (bytes[1536] = 0x10), bytes));
    expect(messageOf(() => openImage(at('h.vhd')))).toContain('The image has been truncated');
    edit(at('h.vhd'), (bytes) => ((bytes[600] = 1), bytes));
    expect(messageOf(() => openImage(at('h.vhd')))).toContain('checksum of the dynamic disk header');
  });

  it('is shown by the check all the same', () => {
    const codes = (change: (bytes: Uint8Array) => void): string[] => {
      createImage(vhd, at('h.vhd'), { size: 9 * MiB });
      writing(at('h.vhd'), (node) => writeGuest(node, new Uint8Array(5 * MiB).fill(1), 0));
      edit(at('h.vhd'), (bytes) => (change(bytes), bytes));
      return checkAt(vhd, at('h.vhd')).findings.map(({ code }) => code);
    };
    const entry = (bytes: Uint8Array, block: number, value: number): void =>
      new DataView(bytes.buffer).setUint32(1536 + 4 * block, value);
    expect(codes(() => {})).toEqual([]);
    expect(codes((bytes) => entry(bytes, 1, 0x1000_0000))).toEqual(['vhd/check-leak', 'vhd/check-outside']);
    expect(codes((bytes) => entry(bytes, 1, 4))).toContain('vhd/check-shared');
    expect(codes((bytes) => entry(bytes, 1, 1))).toContain('vhd/check-overlap');
    expect(codes((bytes) => entry(bytes, 2, 0xffff_ffff))).toEqual(['vhd/check-leak']);
    expect(codes((bytes) => (bytes[600] = 1))).toEqual(['vhd/check-header-checksum']);
  });
});

describe('the names of a parent', () => {
  it('are read for every platform; a Mac alias is kept and not followed', () => {
    const storage = new MemoryStorage(new Uint8Array(4096));
    const header = new Uint8Array(dynamicHeader.size);
    const texts: [string, Uint8Array][] = [
      ['Mac ', Uint8Array.of(1, 2, 3)],
      ['MacX', Buffer.from('file://localhost/Users/me/my%20disk.vhd')],
      ['W2ku', Buffer.from('D:\\vm\\base.vhd', 'utf16le')],
      ['W2ru', Buffer.from('.\\..\\other\\base.vhd', 'utf16le')],
      ['Wi2r', Buffer.from('.\\old.vhd')],
    ];
    texts.forEach(([code, bytes], index) => {
      storage.writeAt(bytes, 512 * index);
      const entry = parentLocator.serialise({
        platform_code: code,
        platform_data_space: 512,
        platform_data_length: bytes.length,
        platform_data_offset: 512 * index,
      });
      header.set(entry, firstLocator + index * parentLocator.size);
    });
    const locators = readLocators(header, storage);
    expect(locators.map(({ entry, name }) => [entry.platform_code, name])).toEqual([
      ['Mac ', null],
      ['MacX', 'file://localhost/Users/me/my%20disk.vhd'],
      ['W2ku', 'D:\\vm\\base.vhd'],
      ['W2ru', '.\\..\\other\\base.vhd'],
      ['Wi2r', '.\\old.vhd'],
    ]);
    if (process.platform === 'win32') return;
    expect(parentPaths(locators, 'C:\\vm\\base.vhd')).toEqual([
      '../other/base.vhd',
      'old.vhd',
      '/Users/me/my disk.vhd',
      'base.vhd',
      'my disk.vhd',
    ]);
  });
});
