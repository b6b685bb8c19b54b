// Reading packages: archives that GNU tar made of qemu-img's disks, and the same files beside their descriptor.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { beforeAll, expect, it } from 'vitest';
import { readGuest } from '../../../../core/block/read.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { findDriver } from '../../../../core/formats/registry.ts';
import { describeWith, mustRun, runProgram, sharedFolder } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkAt, contentAt, regionsOf, withImage } from '../new-image.ts';
import { descriptorText, makeDisk, manifestText, pack, vmdkUri, withoutTar } from './packages.ts';

const MiB = 1024 * 1024;
const folder = scratchFolder('ova-read');
const at = (name: string): string => path.join(folder, name);
const longName = `${'long-'.repeat(30)}name.vmdk`;
const driver = findDriver('ova');
if (driver === null) throw new Error('there is no driver for ova');

function sameAsRaw(archive: string, raw: string, disk?: string): void {
  const bytes = contentAt(archive, disk === undefined ? {} : { runtime: { disk } });
  expect(Buffer.compare(bytes, fs.readFileSync(raw))).toBe(0);
}

describeWith({ peers: ['qemu-img'], unless: withoutTar }, 'packages', () => {
  let a = { raw: '', vmdk: '' };
  let b = { raw: '', vmdk: '' };

  beforeAll(() => {
    a = makeDisk(folder, 'a', 3 * MiB, 1);
    b = makeDisk(folder, 'b', 5 * MiB, 101);
    fs.writeFileSync(at('one.ovf'), descriptorText([{ href: 'a.vmdk', capacity: 3, units: 'byte * 2^20' }]));
    fs.copyFileSync(a.vmdk, at(longName));
    fs.writeFileSync(at('long.ovf'), descriptorText([{ href: longName, capacity: 3 * MiB }]));
    fs.writeFileSync(
      at('two.ovf'),
      descriptorText([
        { href: 'a.vmdk', capacity: 3 * MiB, id: 'system' },
        { href: 'b.vmdk', capacity: 5, units: 'MegaBytes', id: 'data' },
        { capacity: 7 * MiB, id: 'scratch' },
      ]),
    );
  });

  it.each(['ustar', 'gnu', 'pax', 'v7'])('of one disk in a tar of format %s open as that disk', (format) => {
    pack(at('one.ova'), folder, ['one.ovf', 'a.vmdk'], `--format=${format}`);
    sameAsRaw(at('one.ova'), a.raw);
    withImage(at('one.ova'), {}, (node) => {
      expect(node.format).toBe('ova');
      regionsOf(driver, node);
    });
    expect(checkAt(driver, at('one.ova')).findings).toEqual([]);
  });

  it.each(['gnu', 'pax'])('with names of more than 100 bytes are read (%s)', (format) => {
    pack(at('long.ova'), folder, ['long.ovf', longName], `--format=${format}`);
    sameAsRaw(at('long.ova'), a.raw);
    withImage(at('long.ova'), {}, (node) => regionsOf(driver, node));
  });

  it('packed as a folder have ./ before their names', () => {
    fs.mkdirSync(at('dot'));
    for (const name of ['one.ovf', 'a.vmdk']) fs.copyFileSync(at(name), at(`dot/${name}`));
    pack(at('dot.ova'), at('dot'), ['./one.ovf', './a.vmdk']);
    sameAsRaw(at('dot.ova'), a.raw);
  });

  it('of several disks want to know which one: by id, file or number', () => {
    pack(at('two.ova'), folder, ['two.ovf', 'a.vmdk', 'b.vmdk']);
    expect(() => openImage(at('two.ova'))).toThrow(/2 disks.*1: a\.vmdk, 2: b\.vmdk, 3: scratch/);
    for (const disk of ['data', 'b.vmdk', '2']) sameAsRaw(at('two.ova'), b.raw, disk);
    sameAsRaw(at('two.ova'), a.raw, '1');
    expect(() => openImage(at('two.ova'), { runtime: { disk: '4' } })).toThrow(/no disk '4'/);
    expect(() => openImage(at('two.ova'), { runtime: { disk: 'scratch' } })).toThrow(/is empty/);
    withImage(at('two.ova'), { withBacking: false, guestData: false }, (node) => {
      expect(node.size).toBe(15 * MiB);
      const { specific } = driver.facts(node);
      expect(specific?.data.disks).toMatchObject([
        { id: 'system', filename: 'a.vmdk', format: 'vmdk', 'virtual size': 3 * MiB },
        { id: 'data', filename: 'b.vmdk', 'virtual size': 5 * MiB, 'file size': fs.statSync(b.vmdk).size },
        { id: 'scratch', 'virtual size': 7 * MiB, empty: true },
      ]);
    });
  });

  it('beside their descriptor open too, with the disks of other formats', () => {
    mustRun('qemu-img', ['convert', '-O', 'qcow2', a.raw, at('a.qcow2')]);
    mustRun('qemu-img', ['convert', '-O', 'vdi', b.raw, at('b.vdi')]);
    mustRun('qemu-img', ['convert', '-O', 'vhdx', b.raw, at('b.vhdx')]);
    const rows = [
      { href: 'a.qcow2', capacity: 3 * MiB, format: 'http://www.gnome.org/~markmc/qcow-image-format.html' },
      { href: 'b.vdi', capacity: 5 * MiB, format: 'http://www.virtualbox.org/ovf/vdi' },
      { href: 'b.vhdx', capacity: 5 * MiB, format: 'http://example.com/unheard-of' },
      { href: 'a.raw', capacity: 3 * MiB, format: '' },
    ];
    fs.writeFileSync(at('formats.ovf'), descriptorText(rows));
    pack(at('formats.ova'), folder, ['formats.ovf', ...rows.map(({ href }) => href)]);
    for (const name of ['formats.ovf', 'formats.ova']) {
      for (const [i, raw] of [a.raw, b.raw, b.raw, a.raw].entries()) sameAsRaw(at(name), raw, String(i + 1));
    }
  });

  it('with a disk over another one of the package read through both', () => {
    const inFolder = { cwd: folder };
    mustRun('qemu-img', ['convert', '-O', 'vmdk', b.raw, at('base.vmdk')]);
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', 'delta.vmdk'], inFolder);
    mustRun('qemu-io', ['-c', 'write -q -P 77 2M 64k', 'delta.vmdk'], inFolder);
    mustRun('qemu-img', ['convert', '-O', 'raw', 'delta.vmdk', 'delta.raw'], inFolder);
    const rows = [
      { href: 'base.vmdk', capacity: 5 * MiB, id: 'lower' },
      { href: 'delta.vmdk', capacity: 5 * MiB, disk: 'ovf:parentRef="lower"' },
    ];
    fs.writeFileSync(at('delta.ovf'), descriptorText(rows));
    pack(at('delta.ova'), folder, ['delta.ovf', 'base.vmdk', 'delta.vmdk']);
    sameAsRaw(at('delta.ova'), at('delta.raw'), 'delta.vmdk');
    sameAsRaw(at('delta.ovf'), at('delta.raw'), 'delta.vmdk');
    pack(at('orphan.ova'), folder, ['delta.ovf', 'delta.vmdk']);
    expect(() => openImage(at('orphan.ova'), { runtime: { disk: '2' } })).toThrow(/no file 'base\.vmdk'/);
  });

  it('cut into chunks are put together', () => {
    const { status } = runProgram('split', ['-b', '65536', '-d', '-a', '9', a.vmdk, at('chunked.vmdk.')]);
    expect(status).toBe(0);
    const chunks = fs.readdirSync(folder).filter((name) => name.startsWith('chunked.vmdk.'));
    expect(chunks.length).toBeGreaterThan(1);
    const file = `ovf:chunkSize="65536" ovf:size="${fs.statSync(a.vmdk).size}"`;
    fs.writeFileSync(at('chunked.ovf'), descriptorText([{ href: 'chunked.vmdk', capacity: 3 * MiB, file }]));
    fs.writeFileSync(at('chunked.mf'), manifestText(folder, ['chunked.ovf', ...chunks]));
    pack(at('chunked.ova'), folder, ['chunked.ovf', 'chunked.mf', ...chunks.sort()]);
    sameAsRaw(at('chunked.ova'), a.raw);
    sameAsRaw(at('chunked.ovf'), a.raw);
    expect(checkAt(driver, at('chunked.ova')).findings).toEqual([]);
  });

  it.each(['SHA1', 'SHA256', 'SHA512'])('are held against their manifest (%s)', (algorithm) => {
    fs.copyFileSync(at('one.ovf'), at('sum.ovf'));
    fs.writeFileSync(at('sum.mf'), manifestText(folder, ['sum.ovf', 'a.vmdk'], algorithm));
    pack(at('sum.ova'), folder, ['sum.ovf', 'sum.mf', 'a.vmdk']);
    expect(checkAt(driver, at('sum.ova')).findings).toEqual([]);
    expect(checkAt(driver, at('sum.ovf')).findings).toEqual([]);
    const damaged = fs.readFileSync(at('sum.ova'));
    const place = damaged.lastIndexOf(Buffer.from('KDMV'));
    damaged[place + 400] = 0xff;
    fs.writeFileSync(at('damaged.ova'), damaged);
    expect(checkAt(driver, at('damaged.ova')).findings.map(({ code }) => code)).toContain('ova/check-digest');
  });

  it('whose descriptor tells other sizes are found out', () => {
    const file = `ovf:size="1234"`;
    fs.writeFileSync(at('sizes.ovf'), descriptorText([{ href: 'a.vmdk', capacity: 4 * MiB, file }]));
    const codes = checkAt(driver, at('sizes.ovf')).findings.map(({ code }) => code);
    expect(codes).toEqual(['ova/check-size', 'ova/check-capacity']);
  });

  it('say where in the archive the bytes are', () => {
    const row = { href: 'a.raw', capacity: 3 * MiB, format: '' };
    fs.writeFileSync(at('raw.ovf'), descriptorText([row]));
    pack(at('raw.ova'), folder, ['raw.ovf', 'a.raw']);
    const archive = fs.readFileSync(at('raw.ova'));
    withImage(at('raw.ova'), {}, (node) => {
      const mapping = node.map({ start: MiB + 4096, length: 512 });
      if (mapping.kind !== 'data') throw new Error(`the mapping is ${mapping.kind}`);
      expect(mapping.storage).toBe(node.files[0]?.storage);
      const found = archive.subarray(mapping.offset, mapping.offset + 512);
      expect(Buffer.compare(found, fs.readFileSync(a.raw).subarray(MiB + 4096, MiB + 4608))).toBe(0);
    });
  });

  it('of drafts of OVF and with a compressed file are read as far as that goes', () => {
    fs.writeFileSync(
      at('draft.ovf'),
      `<ovf:Envelope xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope" xmlns:xsi="x" ovf:version="0.9">
        <References><File ovf:href="a.vmdk" ovf:id="file1"/></References>
        <Section xsi:type="ovf:DiskSection_Type"><Info/>
          <Disk ovf:capacity="3145728" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="${vmdkUri}"/></Section>
        <Content ovf:id="Draft" xsi:type="ovf:VirtualSystem_Type"><Info/><Name>old one</Name></Content>
      </ovf:Envelope>`,
    );
    sameAsRaw(at('draft.ovf'), a.raw);
    fs.writeFileSync(
      at('gzip.ovf'),
      descriptorText([{ href: 'a.vmdk', capacity: 3 * MiB, file: 'ovf:compression="gzip"' }]),
    );
    expect(() => openImage(at('gzip.ovf'))).toThrow(/compressed as a whole \(gzip\)/);
  });

  it('are not changed in place', () => {
    pack(at('one.ova'), folder, ['one.ovf', 'a.vmdk']);
    expect(() => openImage(at('one.ova'), { writable: true })).toThrow(/only read/);
  });
});

describeWith({ peers: ['qemu-img'], shared: true, unless: withoutTar }, 'streams that VMware and others wrote', () => {
  it.each([
    ['vmdk-vmware-stream', 'streamOptimized.vmdk'],
    ['vmdk-ovf-blank-512M', 'blank.vmdk'],
  ])('are read inside of a package (%s)', (sample, file) => {
    const packed = fs.readFileSync(path.join(sharedFolder() ?? '', 'images', sample, `${file}.gz`));
    fs.writeFileSync(at(file), zlib.gunzipSync(packed));
    mustRun('qemu-img', ['convert', '-O', 'raw', at(file), at('foreign.raw')]);
    const { size } = fs.statSync(at('foreign.raw'));
    fs.writeFileSync(at('foreign.ovf'), descriptorText([{ href: file, capacity: size }]));
    pack(at('foreign.ova'), folder, ['foreign.ovf', file]);
    const expected = fs.openSync(at('foreign.raw'), 'r');
    withImage(at('foreign.ova'), {}, (node) => {
      expect(node.size).toBe(size);
      const [found, wanted] = [new Uint8Array(MiB), new Uint8Array(MiB)];
      for (let start = 0; start < size; start += MiB) {
        const length = Math.min(MiB, size - start);
        readGuest(node, found.subarray(0, length), start);
        fs.readSync(expected, wanted, 0, length, start);
        expect(Buffer.compare(found, wanted)).toBe(0);
      }
    });
    fs.closeSync(expected);
    expect(checkAt(driver, at('foreign.ova')).findings).toEqual([]);
  });
});
