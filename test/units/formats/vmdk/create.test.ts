// Creating: our files hold what qemu-img's hold but for the content identifier; refusals in its words; measure tells the truth.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { resolve } from '../../../../core/block/read.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { MeasureRequest, OptionValue } from '../../../../core/formats/driver.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { describeWith, mustRun, runPeer } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkByQemu, createDisk, KiB, MiB, openNode, openWritable, writePacked } from './disks.ts';

type Options = Readonly<Record<string, OptionValue>>;

function optionText(options: Options): string {
  return Object.entries(options)
    .map(([name, value]) => `${name}=${value === true ? 'on' : value === false ? 'off' : value}`)
    .join(',');
}

/** Without the content identifier, which is random; qemu-img writes it with as many digits as it needs. */
function comparable(bytes: Buffer): string {
  const embedded = bytes.subarray(0, 4).toString('latin1') === 'KDMV';
  const [start, end] = embedded ? [512, 21 * 512] : [0, bytes.length];
  const text = bytes.subarray(start, end).toString('latin1').replace(/\0+$/, '');
  const rest = [bytes.subarray(0, start), bytes.subarray(end)].map((part) => part.toString('latin1'));
  return rest.join('') + text.replace(/^CID=[0-9a-f]+\n/m, 'CID=\n');
}

describeWith({ peers: ['qemu-img', 'vmdkinfo'] }, 'creating vmdk', () => {
  const folder = scratchFolder('vmdk-create');

  const rows: readonly { size: number; options: Options }[] = [
    { size: 64 * MiB, options: {} },
    { size: 5 * MiB + 512, options: { adapter_type: 'lsilogic', toolsversion: '7' } },
    { size: 9 * 1024 * MiB, options: { zeroed_grain: true, hwversion: '9' } },
    { size: 1024, options: { compat6: true, adapter_type: 'legacyESX' } },
    { size: 20 * MiB, options: { subformat: 'monolithicFlat', adapter_type: 'buslogic', hwversion: 'undefined' } },
    { size: 4100 * MiB, options: { subformat: 'twoGbMaxExtentSparse' } },
    { size: 2048 * MiB, options: { subformat: 'twoGbMaxExtentFlat', adapter_type: 'ide' } },
    { size: 0, options: { subformat: 'monolithicFlat' } },
  ];
  for (const { size, options } of rows) {
    it(`writes the files that qemu-img writes: ${size} ${optionText(options)}`, () => {
      const [ours, theirs] = ['ours', 'theirs'].map((name) => fs.mkdtempSync(path.join(folder, `${name}-`)));
      if (ours === undefined || theirs === undefined) throw new Error('no folders');
      createDisk(ours, 'disk.vmdk', { size, options });
      const more = Object.keys(options).length === 0 ? [] : ['-o', optionText(options)];
      mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', ...more, 'disk.vmdk', String(size)], { cwd: theirs });
      const names = fs.readdirSync(theirs).sort();
      expect(fs.readdirSync(ours).sort()).toEqual(names);
      for (const name of names) {
        const [found, wanted] = [ours, theirs].map((at) => path.join(at, name));
        // qemu-img writes its CID with as many digits as it takes: the length of a text may differ by that.
        const { size: length } = fs.statSync(found ?? '');
        if (length > 4096) expect(length, name).toBe(fs.statSync(wanted ?? '').size);
        if (length > 8 * MiB) continue;
        expect(comparable(fs.readFileSync(found ?? '')) === comparable(fs.readFileSync(wanted ?? '')), name).toBe(true);
      }
    });
  }

  it('a delta records the CID and the name of its parent as qemu-img does', () => {
    const [mine, theirs] = ['mine', 'theirs'].map((name) => fs.mkdtempSync(path.join(folder, `${name}-`)));
    if (mine === undefined || theirs === undefined) throw new Error('no folders');
    createDisk(mine, 'parent.vmdk', { size: MiB, options: { cid: 'deadbeef' } });
    fs.copyFileSync(path.join(mine, 'parent.vmdk'), path.join(theirs, 'parent.vmdk'));
    const ours = createDisk(mine, 'delta.vmdk', { size: MiB, parent: 'parent.vmdk' });
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', 'parent.vmdk', '-F', 'vmdk', 'delta.vmdk'], {
      cwd: theirs,
    });
    const wanted = fs.readFileSync(path.join(theirs, 'delta.vmdk'));
    expect(comparable(fs.readFileSync(ours))).toBe(comparable(wanted));
    expect(fs.readFileSync(ours, 'latin1')).toContain('parentCID=deadbeef');
  });

  it('refuses what qemu-img refuses, in its words', () => {
    createDisk(folder, 'base.vmdk', { size: MiB });
    fs.writeFileSync(path.join(folder, 'base.raw'), Buffer.alloc(512));
    const wrong: readonly { options: Options; backing?: { path: string; format: string } }[] = [
      { options: { adapter_type: 'foo' } },
      { options: { subformat: 'bogus' } },
      { options: { compat6: true, hwversion: '4' } },
      { options: { subformat: 'monolithicFlat', zeroed_grain: true } },
      { options: { subformat: 'twoGbMaxExtentFlat', zeroed_grain: true } },
      { options: { subformat: 'monolithicFlat' }, backing: { path: 'base.vmdk', format: 'vmdk' } },
      { options: {}, backing: { path: 'base.raw', format: 'raw' } },
    ];
    for (const { options, backing } of wrong) {
      const text = optionText(options);
      const peerArgs = ['create', '-q', '-f', 'vmdk', ...(text === '' ? [] : ['-o', text])];
      const below = backing === undefined ? [] : ['-b', backing.path, '-F', backing.format];
      const { status, stderr } = runPeer('qemu-img', [...peerArgs, ...below, 'wrong.vmdk', '1M'], { cwd: folder });
      expect(status).toBe(1);
      const theirs = stderr.trim().replace('qemu-img: wrong.vmdk: ', '');
      const create = (): void =>
        vmdk.create?.({
          storage: new MemoryStorage(),
          name: 'wrong.vmdk',
          size: MiB,
          options,
          backing: backing ?? null,
          createFile: () => new MemoryStorage(),
          job: silentJob,
        });
      expect(create, text).toThrow(theirs);
    }
  });

  it('names that do not fit between quotes are refused, others are written in UTF-8', () => {
    expect(() => createDisk(folder, 'a"b.vmdk', { size: MiB })).toThrow(/cannot be written into a VMDK descriptor/);
    const file = createDisk(folder, '磁盘 é.vmdk', { size: MiB, options: { subformat: 'monolithicFlat' } });
    expect(fs.readFileSync(file, 'utf8')).toContain('encoding="UTF-8"\n');
    openNode(file).close();
    expect(mustRun('qemu-img', ['info', file])).toContain('磁盘 é-flat.vmdk');
    expect(mustRun('vmdkinfo', [file])).toContain('磁盘 é-flat.vmdk');
  });

  it('an identity can be kept, and is found again', () => {
    const uuid = '6000c298-5d08-def2-a014-2e05949dd838';
    const file = createDisk(folder, 'identity.vmdk', { size: MiB, options: { cid: '0badcafe', uuid } });
    const node = openNode(file);
    expect(vmdk.identity?.(node)).toEqual({ disk: uuid, options: { cid: '0badcafe', uuid } });
    node.close();
    expect(mustRun('vmdkinfo', [file])).toContain('0x0badcafe');
    expect(fs.readFileSync(file, 'latin1')).toContain('ddb.uuid = "60 00 c2 98 5d 08 de f2-a0 14 2e 05 94 9d d8 38"');
    expect(() => createDisk(folder, 'identity-2.vmdk', { size: MiB, options: { uuid: 'x' } })).toThrow(
      'invalid parameter value: x',
    );
  });

  it('preallocation sets all grains aside', () => {
    const file = createDisk(folder, 'pre.vmdk', { size: 3 * MiB + 512, options: { preallocation: 'full' } });
    expect(fs.statSync(file).blocks * 512).toBeGreaterThan(3 * MiB);
    const node = openNode(file);
    expect(node.map({ start: 0, length: node.size })).toMatchObject({ kind: 'data', length: node.size });
    node.close();
    expect(checkByQemu(file)).toBe('');
  });
});

describe('measuring vmdk', () => {
  const folder = scratchFolder('vmdk-measure');
  const measure = (size: number, options: Options, data: MeasureRequest['data']) => {
    const found = vmdk.measure?.({ size, options, backing: null, data });
    if (found === undefined) throw new Error('vmdk has no measure');
    return found;
  };

  const total = (name: string): number =>
    fs
      .readdirSync(folder)
      .filter((file) => file.startsWith(name))
      .reduce((sum, file) => sum + fs.statSync(path.join(folder, file)).size, 0);

  it('says exactly how long the files will be', () => {
    for (const subformat of ['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
      const options = { subformat };
      const size = 40 * MiB + 512;
      const name = subformat === 'monolithicSparse' ? 'mono' : 'disk';
      for (const file of fs.readdirSync(folder)) fs.rmSync(path.join(folder, file));
      const node = openWritable(createDisk(folder, `${name}.vmdk`, { size, options }));
      expect(total(name), subformat).toBe(measure(size, options, null).required);
      for (const start of [0, 70 * KiB, 20 * MiB - 5, size - 1]) writeGuest(node, new Uint8Array(1).fill(1), start);
      writeGuest(node, new Uint8Array(10 * KiB).fill(1), 20 * MiB - 5);
      node.flush();
      const runs = [...resolve(node)].filter(({ mapping }) => mapping.kind === 'data');
      expect(total(name), subformat).toBe(measure(size, options, () => runs).required);
      for (let at = 0; at < size; at += MiB) writeGuest(node, new Uint8Array(Math.min(MiB, size - at)).fill(2), at);
      node.flush();
      node.close();
      expect(total(name), subformat).toBe(measure(size, options, () => runs).fullyAllocated);
    }
  });

  it('says how long a stream can get at most', () => {
    const options = { subformat: 'streamOptimized' };
    const size = 40 * MiB;
    const content = new Uint8Array(size);
    for (let i = 0; i < size; i += 4) content[i] = (Math.imul(i, 0x9e3779b1) >>> 13) & 0xff;
    const file = createDisk(folder, 'stream.vmdk', { size, options });
    expect(fs.statSync(file).size).toBe(measure(size, options, null).required);
    const node = openWritable(file);
    writePacked(node, content);
    node.flush();
    node.close();
    const { required, fullyAllocated } = measure(size, options, () => [{ start: 0, length: size }]);
    expect(required).toBe(fullyAllocated);
    expect(fs.statSync(file).size).toBeLessThanOrEqual(required);
  });
});
