// Packages that somebody made to do harm, or that were damaged: every one is an answer or a coded error, at once and in little memory.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ImageError } from '../../../../core/errors/image-error.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { findDriver } from '../../../../core/formats/registry.ts';
import { unitBytes } from '../../../../core/formats/ova/descriptor.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkAt } from '../new-image.ts';
import { archiveOf, descriptorText, type EntryBytes } from './packages.ts';

const folder = scratchFolder('ova-hostile');
const at = (name: string): string => path.join(folder, name);
const driver = findDriver('ova');
if (driver === null) throw new Error('there is no driver for ova');

const disk = Buffer.alloc(1024 * 1024, 5);
const plain = descriptorText([{ href: 'disk.raw', capacity: disk.length, format: '' }]);

/** The code of the error with which `bytes` are refused; `opened` when they are not. */
function codeOf(bytes: Uint8Array, name = 'x.ova', format: string | null = 'ova'): string {
  fs.writeFileSync(at(name), bytes);
  try {
    openImage(at(name), { format }).node.close();
    return 'opened';
  } catch (error) {
    if (error instanceof ImageError) return error.code;
    throw error;
  }
}

const archiveCode = (...entries: readonly EntryBytes[]): string => codeOf(archiveOf(entries));
const descriptorCode = (text: string | Uint8Array): string =>
  archiveCode({ name: 'x.ovf', content: text }, { name: 'disk.raw', content: disk });

describe('archives', () => {
  it('that are as they should be open', () => {
    expect(descriptorCode(plain)).toBe('opened');
    expect(
      codeOf(
        archiveOf([
          { name: 'x.ovf', content: plain },
          { name: 'disk.raw', content: disk },
        ]),
        'x',
        null,
      ),
    ).toBe('opened');
  });

  it('with names that lead out of them reach nothing outside, and check says so', () => {
    fs.writeFileSync(path.join(folder, '..', 'platter-ova-outside.raw'), disk);
    try {
      for (const name of ['../platter-ova-outside.raw', '/etc/hostname', 'a/../../b', 'C:\\x']) {
        const text = descriptorText([{ href: name, capacity: 512, format: '' }]);
        expect(archiveCode({ name: 'x.ovf', content: text })).toBe('ova/missing-file');
        const bytes = archiveOf([
          { name: 'x.ovf', content: text },
          { name, content: disk.subarray(0, 512) },
        ]);
        expect(codeOf(bytes)).toBe('opened');
        expect(checkAt(driver, at('x.ova')).findings.map(({ code }) => code)).toContain('ova/check-name');
      }
    } finally {
      fs.rmSync(path.join(folder, '..', 'platter-ova-outside.raw'));
    }
  });

  it('beside whose descriptor the disk lies elsewhere are refused', () => {
    for (const [href, code] of [
      ['../disk.raw', 'gate/refused'],
      ['/etc/hostname', 'gate/refused'],
      ['http://example.com/disk.vmdk', 'gate/scheme'],
      ['missing.raw', 'ova/missing-file'],
    ] as const) {
      expect(codeOf(Buffer.from(descriptorText([{ href, capacity: 512, format: '' }])), 'x.ovf')).toBe(code);
    }
    fs.symlinkSync('/etc/hostname', at('link.raw'));
    expect(codeOf(Buffer.from(descriptorText([{ href: 'link.raw', capacity: 512, format: '' }])), 'x.ovf')).toBe(
      'gate/refused',
    );
  });

  it('with sizes beyond the file, beyond numbers, or none at all are refused', () => {
    const huge = Buffer.alloc(12, 0xff);
    huge[0] = 0x80;
    const negative = Buffer.alloc(12, 0xff);
    const words = Buffer.from('99999999999\0');
    for (const size of [0o77777777777, 2 ** 20 + 4096, huge, negative, words]) {
      const code = archiveCode({ name: 'x.ovf', content: plain }, { name: 'disk.raw', content: disk, size });
      expect(code).toMatch(/^ova\/tar-(size|truncated)$/);
    }
  });

  it('in base 256 are read', () => {
    const size = Buffer.alloc(12);
    size[0] = 0x80;
    size.writeUInt32BE(disk.length, 8);
    expect(archiveCode({ name: 'x.ovf', content: plain }, { name: 'disk.raw', content: disk, size })).toBe('opened');
  });

  it('that are cut off anywhere are refused or whole', () => {
    const whole = archiveOf([
      { name: 'x.ovf', content: plain },
      { name: 'disk.raw', content: disk },
    ]);
    const codes = new Set<string>();
    for (const length of [0, 1, 511, 512, 513, 1023, 2048, 2500, 100_000, whole.length - 1025]) {
      codes.add(codeOf(whole.subarray(0, length)));
    }
    expect([...codes].filter((code) => !code.startsWith('ova/') && !code.startsWith('storage/'))).toEqual([]);
    expect(codeOf(whole.subarray(0, whole.length - 1024))).toBe('opened');
  });

  it('with thousands of entries are refused', () => {
    const repeated = (entry: EntryBytes, times: number): Buffer => {
      const one = archiveOf([entry]);
      const part = one.subarray(0, one.length - 1024);
      return Buffer.concat([
        archiveOf([{ name: 'x.ovf', content: plain }]).subarray(0, -1024),
        ...Array.from({ length: times }, () => part),
        Buffer.alloc(1024),
      ]);
    };
    expect(codeOf(repeated({ name: 'f' }, 5000))).toBe('ova/tar-many');
    expect(codeOf(repeated({ name: 'l', type: 'L', content: 'x' }, 17_000))).toBe('ova/tar-many');
  });

  it('with names and records that are too long or broken are refused', () => {
    const long = { name: 'l', type: 'L', content: Buffer.alloc(200_000, 0x61) };
    expect(archiveCode(long, { name: 'x' })).toBe('ova/tar-metadata');
    for (const content of ['8 path=x\n', '999999 path=x\n', 'path=x\n', '10 path xx\n', '0 a=b\n']) {
      expect(archiveCode({ name: 'p', type: 'x', content }, { name: 'x' })).toBe('ova/tar-pax');
    }
    const size = { name: 'p', type: 'x', content: '30 size=9999999999999999999999\n' };
    expect(archiveCode(size, { name: 'x' })).toMatch(/^ova\/tar-(size|pax)$/);
  });

  it('whose entries are twins, links, folders or sparse files are refused where it matters', () => {
    const first = { name: 'x.ovf', content: plain };
    const file = { name: 'disk.raw', content: disk };
    expect(archiveCode(first, file, file)).toBe('ova/duplicate');
    for (const type of ['1', '2', '3', '5', '6', 'S']) {
      expect(archiveCode(first, { name: 'disk.raw', type })).toBe('ova/entry-kind');
    }
    expect(archiveCode({ name: 'readme' })).toBe('ova/no-descriptor');
    const bad = archiveOf([first, file]);
    bad[0] = 0x7a;
    expect(codeOf(bad)).toBe('ova/tar-header');
  });

  it('whose disks name each other, or packages, are refused', () => {
    const rows = [{ href: 'disk.raw', capacity: 512, format: '' }];
    const inner = archiveOf([
      { name: 'x.ovf', content: plain },
      { name: 'disk.raw', content: disk },
    ]);
    const code = archiveCode({ name: 'x.ovf', content: descriptorText(rows) }, { name: 'disk.raw', content: inner });
    expect(code).toBe('ova/nested');
    const looped = descriptorText([{ href: 'disk.raw', capacity: 512, disk: 'ovf:parentRef="d1"' }]);
    const content = (extent: string): string =>
      '# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=00000001\ncreateType="monolithicFlat"\n' +
      `parentFileNameHint="disk.raw"\nRW 1 FLAT "${extent}" 0\n`;
    const codeWith = (extent: string): string =>
      archiveCode(
        { name: 'x.ovf', content: looped },
        { name: 'flat.bin', content: disk },
        { name: 'disk.raw', content: content(extent) },
      );
    expect(codeWith('flat.bin')).toBe('gate/loop');
    // What is outside of the archive is not there.
    for (const extent of ['../disk.raw', '/etc/hostname', 'x.ova']) expect(codeWith(extent)).toBe('vmdk/extent-open');
    expect(() => openImage(at('x.ova'))).toThrow(/not in the archive/);
  });

  it('with a damaged manifest are told of', () => {
    const content = 'SHA256(disk.raw)= 12\n';
    const bytes = archiveOf([
      { name: 'x.ovf', content: plain },
      { name: 'x.mf', content },
      { name: 'disk.raw', content: disk },
    ]);
    expect(codeOf(bytes)).toBe('opened');
    expect(checkAt(driver, at('x.ova')).findings.map(({ code }) => code)).toEqual(['ova/manifest-line']);
    fs.writeFileSync(at('y.ovf'), descriptorText([]));
    const digest = '0'.repeat(40);
    fs.writeFileSync(at('y.mf'), `SHA1(/etc/hostname)= ${digest}\nSHA1(../x)= ${digest}\nSHA1(no)= ${digest}\n`);
    const found = checkAt(driver, at('y.ovf')).findings.map(({ code }) => code);
    expect(found).toEqual(['ova/check-unlisted', 'gate/refused', 'gate/refused', 'ova/check-gone']);
  });
});

describe('descriptors', () => {
  it('with entities, document types and other XML that is none are refused', () => {
    const laughs = Array.from({ length: 10 }, (_, i) => `<!ENTITY l${i + 1} "${`&l${i};`.repeat(10)}">`).join('');
    const doctype = `<!DOCTYPE x [<!ENTITY l0 "ha">${laughs}]>`;
    const body = plain.replace('<?xml version="1.0"?>', '').replace('a machine', '&l10;');
    expect(descriptorCode(`<?xml version="1.0"?>${doctype}${body}`)).toBe('ova/xml');
    const external = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>';
    expect(descriptorCode(`<?xml version="1.0"?>${external}${body.replace('&l10;', '&e;')}`)).toBe('ova/xml');
    expect(descriptorCode(plain.replace('a machine', '&unknown;'))).toBe('ova/xml');
    expect(descriptorCode(plain.replace('</Envelope>', ''))).toBe('ova/xml');
    expect(descriptorCode(plain.replaceAll('Envelope', 'Other'))).toBe('ova/xml');
    expect(descriptorCode(Buffer.from([0x3c, 0xff, 0x00, 0x80]))).toBe('ova/xml');
    expect(descriptorCode('')).toBe('ova/xml');
  });

  it('that are broken are told of as such when the format is stated', () => {
    expect(codeOf(Buffer.from('  <Envelope'), 'z.ovf')).toBe('ova/xml');
    expect(codeOf(Buffer.from('<html></html>'), 'z.ovf')).toBe('ova/xml');
    expect(codeOf(Buffer.from(plain), 'z.ovf', null)).toBe('ova/missing-file');
    const wide = Buffer.from(`\ufeff${plain}`, 'utf16le');
    expect(codeOf(wide, 'z.ovf', null)).toBe('ova/missing-file');
    expect(codeOf(Buffer.from('<html></html>'), 'z.ovf', null)).toBe('opened');
  });

  it('without bounds are refused', () => {
    expect(descriptorCode(plain.replace('<Info>disks</Info>', '<a>'.repeat(50_000)))).toBe('ova/descriptor-many');
    const rows = Array.from({ length: 300 }, () => ({ capacity: 1 }));
    expect(descriptorCode(descriptorText(rows))).toBe('ova/descriptor-many');
    expect(descriptorCode(plain + ' '.repeat(9 * 1024 * 1024))).toBe('ova/too-large');
  });

  it('with numbers that are none, and references to nothing, are refused', () => {
    const of = (capacity: string | number, units?: string): string =>
      descriptorCode(
        descriptorText([{ href: 'disk.raw', capacity, format: '', ...(units === undefined ? {} : { units }) }]),
      );
    for (const capacity of ['-1', '1e3', 'x', '99999999999999999999']) expect(of(capacity)).toBe('ova/value');
    expect(of(9007199254740991, 'byte * 2^40')).toBe('ova/value');
    expect(of(1, 'parsec')).toBe('ova/value');
    expect(of(1, 'byte * 2^99')).toBe('ova/value');
    expect(of('${capacity}')).toBe('opened');
    expect(descriptorCode(plain.replace('ovf:fileRef="f1"', 'ovf:fileRef="f2"'))).toBe('ova/dangling');
    expect(descriptorCode(plain.replace('ovf:id="f1"', 'ovf:id="f1" ovf:chunkSize="0"'))).toBe('ova/value');
    expect(descriptorCode(plain.replace('<References>', '<References><File ovf:href="y" ovf:id="f1"/>'))).toBe(
      'ova/value',
    );
    expect(descriptorCode(descriptorText([{ capacity: 1 }]))).toBe('ova/no-disks');
  });

  it('count in the units of DSP0004', () => {
    expect(unitBytes('byte')).toBe(1);
    expect(unitBytes('byte * 2^30')).toBe(2 ** 30);
    expect(unitBytes('byte*10^9')).toBe(1e9);
    expect(unitBytes('byte * 1024')).toBe(1024);
    expect(unitBytes('GigaBytes')).toBe(2 ** 30);
    expect(unitBytes('byte / 2')).toBeNull();
  });
});
