// The descriptor: what is read out of it, what is refused, and that an edit changes nothing else.
import { describe, expect, it } from 'vitest';
import {
  newDescriptor,
  parseDescriptor,
  withCid,
  withCylinders,
  withExtentSize,
  withParent,
} from '../../../../core/formats/vmdk/descriptor.ts';
import { probeVmdk } from '../../../../core/formats/vmdk/probe.ts';
import { descriptorText } from './crafted.ts';

const parse = (text: string | Buffer) => parseDescriptor(Buffer.from(text as string), { file: 'd.vmdk' });

describe('a descriptor', () => {
  it('is read whatever its order, spaces, line ends and letters', () => {
    const text = [
      '# Disk DescriptorFile',
      'RW 4192256 SPARSE "disk one-s001.vmdk"',
      '  ddb.adapterType="ide"  ',
      'version=1',
      '\tCID = 0badcafe',
      'parentCID=0x11223344',
      'createType="twoGbMaxExtentSparse"',
      'RDONLY 100 ZERO',
      ' rw 1 FLAT "lower case is no extent" 0',
      'parentFileNameHint="C:\\disks\\base.vmdk"',
      'RW 0 SPARSE "empty.vmdk"',
      'RW 2048 FLAT "flat.bin" 63 "partition" "device"',
      'CID=ffffffff',
    ].join('\r\n');
    const found = parse(text);
    expect(found).toMatchObject({
      cid: 0x0badcafe,
      parentCid: 0x11223344,
      createType: 'twoGbMaxExtentSparse',
      parentHint: 'C:\\disks\\base.vmdk',
    });
    expect(found.extents).toEqual([
      { access: 'RW', size: 4192256 * 512, type: 'SPARSE', name: 'disk one-s001.vmdk', offset: 0 },
      { access: 'RDONLY', size: 51200, type: 'ZERO', name: null, offset: 0 },
      { access: 'RW', size: 2048 * 512, type: 'FLAT', name: 'flat.bin', offset: 63 * 512 },
    ]);
    expect(found.values.get('ddb.adaptertype')).toBe('ide');
  });

  it('ends at the first zero byte', () => {
    expect(parse(`${descriptorText('vmfs', [])}\0RW 1 FLAT "behind" 0`).extents).toEqual([]);
  });

  it('names files in the encoding that it says', () => {
    const names: [string, Buffer][] = [
      ['UTF-8', Buffer.from('盘.vmdk')],
      ['windows-1252', Buffer.from([0xe9, 0x80, 0x2e, 0x76])],
      ['GBK', Buffer.from([0xc5, 0xcc, 0x2e, 0x76])],
      ['windows-936', Buffer.from([0xc5, 0xcc, 0x2e, 0x76])],
      ['Shift_JIS', Buffer.from([0x94, 0x5c, 0x2e, 0x76])],
      ['x-unheard-of', Buffer.from('é.v')],
    ];
    const decoded = names.map(([encoding, name]) => {
      const head = Buffer.from(descriptorText('vmfs', [], `encoding="${encoding}"`));
      return parse(Buffer.concat([head, Buffer.from('RW 1 VMFS "'), name, Buffer.from('"\n')])).extents[0]?.name;
    });
    expect(decoded).toEqual(['盘.vmdk', 'é€.v', '盘.v', '盘.v', '能.v', 'é.v']);
  });

  it('that is none, or is damaged, is refused', () => {
    const wrong: [string, string][] = [
      ['', 'invalid VMDK image descriptor'],
      ['version=1\nCID=1\n', 'invalid VMDK image descriptor'],
      ['CID=xyz\ncreateType="vmfs"\n', "CID is 'xyz'"],
      ['createType="vmfs"\n', 'CID is nothing'],
      ['CID=123456789\ncreateType="vmfs"\n', "CID is '123456789'"],
    ];
    for (const [text, reason] of wrong) expect(() => parse(text), text).toThrow(reason);
    const lines = [
      'RW 12582912 VMFS "dummy.vmdk" 1',
      'RW 1 FLAT "a"',
      'RW 1 FLAT',
      'RW 1 FLAT "a',
      'RW 1 FLAT "" 0',
      'RW 1 FLAT "a" x',
      'RW 1 FLAT b "a" 0',
      'RW 99999999999999999999 FLAT "a" 0',
      'RW 1 FLAT "a" 99999999999999999999',
    ];
    for (const line of lines) {
      expect(() => parse(descriptorText('vmfs', [line])), line).toThrow(`Invalid extent line: ${line}`);
    }
    const many = Array.from({ length: 5000 }, (_, i) => `RW 1 FLAT "f${i}" 0`);
    expect(() => parse(descriptorText('vmfs', many))).toThrow(/names more than 4096 extents/);
  });

  it('of a megabyte of anything is read in no time', () => {
    const started = process.cpuUsage();
    for (const piece of [' ', '=', '"', 'a=', 'RW 1 ', '\n', '# ', 'x="', 'RW 1 FLAT "a" 0 ']) {
      const text = `CID=1\ncreateType="vmfs"\n${piece.repeat(Math.floor((1024 * 1024 - 100) / piece.length))}`;
      try {
        parse(text);
      } catch (error) {
        expect(error).toHaveProperty('code');
      }
    }
    // Of the processor, not of the clock: others may use it too.
    expect(process.cpuUsage(started).user / 1000).toBeLessThan(5000);
  });
});

describe('an edit', () => {
  const text = newDescriptor({
    cid: 0xabc,
    parentCid: 0xffffffff,
    createType: 'monolithicSparse',
    parentHint: null,
    extents: [{ size: 51200, type: 'SPARSE', name: 'CID=7.vmdk' }],
    hardwareVersion: '4',
    cylinders: 12,
    heads: 16,
    adapter: 'ide',
    toolsVersion: '0',
    uuid: null,
  });

  it('of the CID leaves the parent alone, and the other way round', () => {
    expect(withCid(text, 0x12)).toBe(text.replace('CID=00000abc', 'CID=00000012'));
    const child = withParent(text, 0x99, 'p$1.vmdk');
    expect(child).toBe(
      text
        .replace('parentCID=ffffffff', 'parentCID=00000099')
        .replace('"monolithicSparse"\n\n', '"monolithicSparse"\nparentFileNameHint="p$1.vmdk"\n'),
    );
    expect(parse(child)).toMatchObject({ parentCid: 0x99, parentHint: 'p$1.vmdk', cid: 0xabc });
    expect(withParent(child, 1, 'q.vmdk')).toBe(child.replace('00000099', '00000001').replace('p$1', 'q'));
    expect(withParent(child, 0xffffffff, null)).toBe(text);
  });

  it('adds the encoding where a name needs it', () => {
    const child = withParent(text, 1, '磁.vmdk');
    expect(parse(Buffer.from(child, 'latin1'))).toMatchObject({ parentHint: '磁.vmdk', encoding: 'UTF-8', cid: 0xabc });
    const other = text.replace('version=1\n', 'version=1\nencoding="GBK"\n');
    expect(() => withParent(other, 1, '磁.vmdk')).toThrow(/cannot be written/);
    expect(() => withParent(text, 1, 'a"b')).toThrow(/cannot be written/);
  });

  it('of sizes changes one number', () => {
    expect(withExtentSize(text, 0, 1024)).toBe(text.replace('RW 100 ', 'RW 2 '));
    expect(withExtentSize(text, 1, 1024)).toBe(text);
    expect(withCylinders(text, 7)).toBe(text.replace('"12"', '"7"'));
  });
});

describe('the probe', () => {
  it('knows magics and descriptors, and nothing else', () => {
    const yes = ['KDMV____', 'COWD____', '# Disk DescriptorFile\nversion=1\n', '#x\r\n \r\nversion=3\r\n'];
    const no = ['', 'KDM', 'KDMW....', '# Disk DescriptorFile\n', 'version=\n', 'x\nversion=1\n', '#version=1\n'];
    for (const head of yes) expect(probeVmdk(Buffer.from(head)), head).toBe(true);
    for (const head of no) expect(probeVmdk(Buffer.from(head)), head).toBe(false);
  });
});
