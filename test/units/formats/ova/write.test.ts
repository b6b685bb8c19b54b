// Parts of writing packages that a command line does not show well: large sizes, the digest on the way, options, the schema of the descriptor.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { DigestWindow } from '../../../../core/formats/ova/digest-window.ts';
import { diskStart, finishArchive } from '../../../../core/formats/ova/archive-writer.ts';
import {
  controllers,
  envelope,
  systems,
  type ControllerName,
  type SystemName,
} from '../../../../core/formats/ova/envelope.ts';
import { tarEntries } from '../../../../core/formats/ova/tar.ts';
import { driverNamed } from '../../../../core/formats/registry.ts';
import { describeWith, runProgram } from '../../../peers.ts';
import { findProgram } from '../../../peer-packages.ts';
import { scratchFolder } from '../../../scratch.ts';
import { createIn } from '../new-image.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('the digest of a disk that is written', () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);

  it('is right when it is written in order behind what stood there', () => {
    const storage = new MemoryStorage(bytes.subarray(0, 2000));
    const window = new DigestWindow(storage, 1000, 1000, 'w');
    window.note(bytes.subarray(2000, 3000), 1000);
    storage.writeAt(bytes.subarray(2000, 3000), 2000);
    window.writeAt(bytes.subarray(3000), 2000);
    expect(window.digest()).toBe(sha256(bytes.subarray(1000)));
  });

  it('is right when it is written in any order', () => {
    const storage = new MemoryStorage(bytes.subarray(0, 1000));
    const window = new DigestWindow(storage, 1000, 0, 'w');
    window.writeAt(bytes.subarray(1000, 5000), 0);
    window.writeAt(Uint8Array.of(1, 2, 3), 10);
    window.truncate(3500);
    const expected = bytes.slice(1000, 4500);
    expected.set([1, 2, 3], 10);
    expect(window.digest()).toBe(sha256(expected));
    expect(window.size).toBe(3500);
  });
});

describe('the archive', () => {
  it('has sizes in base 256 from 8 GiB on, which our reader and the header of GNU tar agree on', () => {
    const size = 9 * 2 ** 30 + 512;
    const plan = { descriptorName: 'a.ovf', diskName: 'a.vmdk', descriptorRoom: 512 };
    // Only what stands before the disk is kept.
    const storage = new MemoryStorage();
    const head: Uint8Array[] = [];
    storage.writeAt = (from) => void head.push(Uint8Array.from(from));
    storage.truncate = () => {};
    finishArchive(storage, plan, { text: '<x/>', diskSize: size, diskDigest: '' });
    const before = head[0] ?? new Uint8Array();
    expect(before.length).toBe(diskStart(plan));
    const field = before.subarray(before.length - 512 + 124, before.length - 512 + 136);
    expect(Buffer.from(field).toString('hex')).toBe('800000000000000240000200');
    const source = {
      name: '',
      size: before.length + size + 1024,
      readAt(into: Uint8Array, offset: number): void {
        into.fill(0);
        into.set(before.subarray(offset, offset + into.length));
      },
    };
    expect([...tarEntries(source)].map((entry) => [entry.name, entry.size])).toEqual([
      ['a.ovf', 512],
      ['a.mf', expect.any(Number)],
      ['a.vmdk', size],
    ]);
  });
});

describe('options', () => {
  const made = (options: Record<string, string | number>, name = 'vm.ova'): string => {
    const storage = new MemoryStorage();
    createIn(driverNamed('ova'), storage, name, { size: 1024 * 1024, options });
    return Buffer.from(storage.bytes()).toString('latin1');
  };

  it('that make no sense are refused by name', () => {
    for (const [name, value] of [
      ['cpus', 0],
      ['cpus', 1.5],
      ['memory', 1000],
      ['memory', 0],
      ['controller', 'nvme'],
      ['controller', 'constructor'],
      ['os', 'beos'],
      ['name', ''],
      ['name', 'a\nb'],
      ['name', '\ud800'],
      ['name', 'x'.repeat(256)],
    ] as const) {
      expect(() => made({ [name]: value })).toThrow(`Parameter '${name}' does not accept`);
    }
    expect(() => made({ cid: 'x' })).toThrow();
  });

  it('and names of files come out as names that every unpacker takes', () => {
    expect(made({}, '/a/b/../-weird näme;$(x).ova').slice(0, 20)).toBe('weird_n_me_x_.ovf\0\0\0');
    expect(made({}, '...').slice(0, 11)).toBe('machine.ovf');
    expect(made({ name: '</Name>', cid: '0badcafe' })).toMatch(/&lt;\/Name&gt;[^]*CID=0badcafe/);
  });
});

/** The schema with what it imports beside it: not ours to hand on. */
const schema = process.env.PLATTER_OVF_SCHEMA ?? '';
const withoutSchema =
  schema === '' || !fs.existsSync(schema)
    ? 'PLATTER_OVF_SCHEMA does not name the schema DSP8023 of the DMTF'
    : findProgram('xmllint') === null
      ? 'there is no xmllint'
      : null;

describeWith({ unless: withoutSchema }, 'the schema of the DMTF', () => {
  const folder = scratchFolder('ova-schema');

  it.each(Object.keys(controllers) as ControllerName[])('accepts the descriptor (%s)', (controller) => {
    const file = path.join(folder, `${controller}.ovf`);
    const facts = { file: 'a.vmdk', fileSize: 2 ** 40, capacity: 2 ** 41, populated: 7, id: 'vm', cpus: 4 };
    fs.writeFileSync(file, envelope({ ...facts, name: 'A & "b" <c>', memoryMiB: 4096, controller, os: 'other64' }));
    const { status, stderr } = runProgram('xmllint', ['--nonet', '--noout', '--schema', schema, file]);
    expect([status, stderr]).toEqual([0, `${file} validates\n`]);
  });

  it.each(Object.keys(systems) as SystemName[])('accepts the descriptor (%s)', (os) => {
    const file = path.join(folder, `${os}.ovf`);
    const facts = { file: 'a', fileSize: 1, capacity: 1, populated: 1, id: 'v', cpus: 1, name: 'n', memoryMiB: 1 };
    fs.writeFileSync(file, envelope({ ...facts, controller: 'ide', os }));
    expect(runProgram('xmllint', ['--nonet', '--noout', '--schema', schema, file]).status).toBe(0);
  });

  it('refuses another order: it is really asked', () => {
    const file = path.join(folder, 'bad.ovf');
    const facts = { file: 'a', fileSize: 1, capacity: 1, populated: 1, id: 'v', cpus: 1, name: 'n', memoryMiB: 1 };
    fs.writeFileSync(
      file,
      envelope({ ...facts, controller: 'ide', os: 'other' }).replace('<Info>A virtual machine</Info>', ''),
    );
    expect(runProgram('xmllint', ['--nonet', '--noout', '--schema', schema, file]).status).not.toBe(0);
  });
});
