// What an image from a stranger can reach: extents outside of its folder, links, devices, itself; tables and headers that ask for too much.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { followAll, followFiles, followNothing } from '../../../../core/formats/gate.ts';
import { scratchFolder } from '../../../scratch.ts';
import { descriptorText, writeDescriptorFile } from './crafted.ts';
import { checkByUs, contentOf, createDisk, KiB, MiB, openNode, openWritable } from './disks.ts';

describe('extents', () => {
  const folder = scratchFolder('vmdk-gate');
  const inside = path.join(folder, 'images');
  fs.mkdirSync(path.join(inside, 'below'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'secret'), Buffer.alloc(512, 's'));
  fs.writeFileSync(path.join(inside, 'plain.bin'), Buffer.alloc(512, 'p'));
  fs.writeFileSync(path.join(inside, 'below', 'deep.bin'), Buffer.alloc(512, 'd'));
  fs.writeFileSync(path.join(inside, '..odd.bin'), Buffer.alloc(512, 'o'));
  fs.symlinkSync('../secret', path.join(inside, 'leaves'));
  fs.symlinkSync('plain.bin', path.join(inside, 'stays'));
  fs.symlinkSync(folder, path.join(inside, 'up'));
  fs.symlinkSync(inside, path.join(folder, 'linked'));

  const image = (name: string, line = `RW 1 FLAT "${name}" 0`): string =>
    writeDescriptorFile(inside, 'disk.vmdk', descriptorText('monolithicFlat', [line]));
  const opens = (file: string, policy = followFiles): string => {
    const node = openNode(file, { policy });
    try {
      return String.fromCharCode(contentOf(node)[0] ?? 0);
    } finally {
      node.close();
    }
  };

  it('are files in the folder of the image, or below it', () => {
    expect(opens(image('plain.bin'))).toBe('p');
    expect(opens(image('./plain.bin'))).toBe('p');
    expect(opens(image('below/deep.bin'))).toBe('d');
    expect(opens(image('stays'))).toBe('p');
    expect(opens(image('..odd.bin'))).toBe('o');
    expect(opens(image('file:plain.bin'))).toBe('p');
    expect(opens(path.join(folder, 'linked', path.basename(image('plain.bin'))))).toBe('p');
    const before = process.cwd();
    process.chdir(inside);
    try {
      image('plain.bin');
      expect(opens('disk.vmdk')).toBe('p');
      expect(opens('./disk.vmdk')).toBe('p');
      image('../secret');
      expect(() => opens('disk.vmdk')).toThrow(/must lie in the folder/);
    } finally {
      process.chdir(before);
    }
  });

  it('elsewhere are refused, read-only and for writing (CVE-2022-47951)', () => {
    const names = ['/etc/hostname', '../secret', 'below/../../secret', 'below/../plain.bin', 'file:/etc/hostname'];
    for (const name of names) {
      expect(() => opens(image(name)), name).toThrow(
        /may not be opened: an extent must lie in the folder of its image/,
      );
      expect(() => openWritable(image(name)), name).toThrow(/may not be opened/);
    }
    for (const name of ['leaves', 'up/secret']) {
      expect(() => opens(image(name)), name).toThrow(/must not lead out of the folder of its image/);
    }
    for (const name of ['/dev/zero', '/dev/null', '/proc/self/environ'])
      expect(() => opens(image(name)), name).toThrow();
    fs.symlinkSync('/dev/zero', path.join(inside, 'device'));
    expect(() => opens(image('device'))).toThrow(/must be a regular file/);
    expect(() => opens(image('below'))).toThrow(/must be a regular file/);
    for (const name of ['nbd://127.0.0.1/x', 'json:{"driver":"file"}', 'http://localhost/x']) {
      expect(() => opens(image('x', `RW 1 FLAT "${name.replaceAll('"', "'")}" 0`)), name).toThrow(
        /a protocol are not followed/,
      );
    }
    expect(() => opens(image('absent.bin'))).toThrow(/^Could not open '.*absent.bin': No such file or directory$/);
  });

  it('elsewhere are opened for somebody who has allowed it, and none where nothing is', () => {
    expect(opens(image('../secret'), followAll)).toBe('s');
    expect(opens(image('leaves'), followAll)).toBe('s');
    expect(() => opens(image('plain.bin'), followNothing)).toThrow(/may not be opened/);
  });

  it('that are shorter than the descriptor says, or of unknown kinds, are refused', () => {
    expect(() => opens(image('x', 'RW 2 FLAT "plain.bin" 0'))).toThrow(
      'The extent file has 512 bytes, the descriptor says 1024',
    );
    expect(() => opens(image('x', 'RW 1 FLAT "plain.bin" 1'))).toThrow(/the descriptor says 1024/);
    expect(() => opens(image('x', 'RW 1 VMFSRDM "plain.bin"'))).toThrow("Unsupported extent type 'VMFSRDM'");
    expect(() => opens(image('x', 'RW 1 SPARSE "plain.bin"'))).toThrow('Image not in VMDK format');
    expect(() => opens(image('x', 'NOACCESS 1 FLAT "plain.bin" 0'))).toThrow(/is marked NOACCESS/);
    const raw = writeDescriptorFile(inside, 'raw.vmdk', descriptorText('vmfsRaw', []));
    expect(() => openNode(raw)).toThrow("Unsupported image type 'vmfsRaw'");
  });

  it('cannot be descriptors themselves', () => {
    const file = createDisk(inside, 'self.vmdk', { size: MiB });
    const bytes = fs.readFileSync(file);
    bytes.writeBigUInt64LE(0n, 12);
    const text = descriptorText('twoGbMaxExtentSparse', ['RW 2048 SPARSE "self.vmdk"']);
    bytes.fill(0, 512, 11264).write(text, 512, 'latin1');
    fs.writeFileSync(file, bytes);
    expect(() => openNode(file)).toThrow('The extent file is a descriptor itself');
  });

  it('opened alone say that they are one of several', () => {
    createDisk(inside, 'split.vmdk', { size: MiB, options: { subformat: 'twoGbMaxExtentSparse' } });
    expect(() => openNode(path.join(inside, 'split-s001.vmdk'))).toThrow(/one extent of a VMDK image/);
  });
});

describe('headers and tables', () => {
  const folder = scratchFolder('vmdk-hostile');
  let count = 0;
  /** A disk of 2 MiB whose first megabyte is written, with its bytes changed. */
  const changed = (change: (bytes: Buffer) => unknown, options = {}): string => {
    const file = createDisk(folder, `${count++}.vmdk`, { size: 2 * MiB, options });
    const node = openWritable(file);
    const place = node.packed === undefined ? node.reserve({ start: 0, length: MiB }) : null;
    place?.storage.writeAt(Buffer.alloc(MiB, 1), place.offset);
    place?.publish();
    node.flush();
    node.close();
    const bytes = fs.readFileSync(file);
    change(bytes);
    fs.writeFileSync(file, bytes);
    return file;
  };
  const opens = (file: string): unknown => {
    const node = openNode(file);
    try {
      return contentOf(node);
    } finally {
      node.close();
    }
  };

  it('that ask for too much, or nothing, are refused before memory is taken', () => {
    const wrong: [RegExp, (bytes: Buffer) => unknown][] = [
      [/Invalid granularity/, (bytes) => bytes.fill(0xff, 20, 28)],
      [/Invalid granularity/, (bytes) => bytes.writeUInt32LE(0x200001, 20)],
      [/L2 table size too big/, (bytes) => bytes.fill(0xff, 44, 48)],
      [/L1 entry size is invalid/, (bytes) => bytes.fill(0, 44, 48)],
      [/L1 entry size is invalid/, (bytes) => bytes.fill(0, 20, 28)],
      [/L1 size too big/, (bytes) => bytes.fill(0xff, 16, 20)],
      [/L1 size too big/, (bytes) => bytes.writeUInt32LE(0xffff, 16)],
      [/grain directory .* reaches beyond/, (bytes) => bytes.writeUInt32LE(0x10, 16)],
      [/grain directory .* reaches beyond/, (bytes) => bytes.writeUInt32LE(0x7fffffff, 56)],
      [/Unsupported VMDK version 4/, (bytes) => bytes.writeUInt32LE(4, 4)],
      [/File truncated, expecting at least 5120000 bytes/, (bytes) => bytes.writeUInt32LE(10000, 64)],
      [/Unknown compression algorithm 2/, (bytes) => bytes.writeUInt16LE(2, 77)],
      [/Invalid footer/, (bytes) => bytes.fill(0xff, 56, 64)],
      [/Grain table 0 .* reaches beyond/, (bytes) => bytes.writeUInt32LE(0x7fffffff, 25 * 512 + 512)],
      [/one extent of a VMDK image/, (bytes) => bytes.writeUInt32LE(0, 28)],
      [/one extent of a VMDK image/, (bytes) => bytes.fill(0, 512, 520)],
      [/invalid VMDK image descriptor/, (bytes) => bytes.fill(1, 512, 1024)],
    ];
    const memory = process.memoryUsage().rss;
    for (const [reason, change] of wrong) expect(() => opens(changed(change)), String(reason)).toThrow(reason);
    expect(process.memoryUsage().rss - memory).toBeLessThan(100 * MiB);
    expect(() => openWritable(changed((bytes) => bytes.writeUInt32LE(3, 4)))).toThrow(
      'VMDK version 3 must be read only',
    );
  });

  it('with grains outside of the file or inside of the metadata say which and where', () => {
    const primary = changed(() => {});
    const bytes = fs.readFileSync(primary);
    const at = Number(bytes.readBigUInt64LE(56)) * 512;
    const table = bytes.readUInt32LE(at) * 512;
    expect(bytes.readUInt32LE(table)).toBe(128);
    const cases: [RegExp, number][] = [
      [/guest offset 65536 stands at 1099511627264, beyond the end of the file/, 0x7fffffff],
      [/guest offset 65536 stands at 512, inside the descriptor/, 1],
      [new RegExp(`stands at ${at - 512}, inside the grain directory`), at / 512 - 1],
    ];
    for (const [reason, entry] of cases) {
      bytes.writeUInt32LE(entry, table + 4);
      fs.writeFileSync(primary, bytes);
      try {
        opens(primary);
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({
          message: expect.stringMatching(reason) as string,
          where: { offset: table + 4, field: 'GTE' },
        });
      }
      expect(checkByUs(primary).length).toBeGreaterThan(0);
      // What is in order before and behind it is still read.
      const node = openNode(primary);
      expect(node.map({ start: 0, length: MiB })).toMatchObject({ kind: 'data', length: 64 * KiB });
      expect(node.map({ start: 128 * KiB, length: MiB })).toMatchObject({ kind: 'data' });
      node.close();
    }
  });

  it('of a directory full of tables that are one and the same are walked in bounded time', () => {
    // 8 TiB in tables that all stand at one place.
    const sectors = 2 ** 34;
    const file = path.join(folder, 'bomb.vmdk');
    createDisk(folder, 'bomb.vmdk', { size: MiB });
    const bytes = fs.readFileSync(file);
    const tables = Math.ceil(sectors / 65536);
    bytes.writeBigUInt64LE(BigInt(sectors), 12);
    bytes.writeBigUInt64LE(128n, 56);
    bytes.writeUInt32LE(1, 8);
    const directory = new Uint32Array(tables).fill(27);
    fs.writeFileSync(file, Buffer.concat([bytes, Buffer.from(directory.buffer)]));
    const started = process.cpuUsage();
    const node = openNode(file);
    let at = 0;
    for (let runs = 0; at < node.size && runs < 100; runs++)
      at += node.map({ start: at, length: node.size - at }).length;
    node.close();
    // Of the processor, not of the clock: others may use it too.
    expect(process.cpuUsage(started).user / 1000).toBeLessThan(5000);
  });
});
