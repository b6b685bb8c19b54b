// Packages that tar made of qemu-img's disks, read by every verb of the command line.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, runPlatter, runQemuImg, type Finished } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { descriptorText, makeDisk, manifestText, pack, withoutTar } from '../units/formats/ova/packages.ts';

const MiB = 1024 * 1024;
const folder = scratchFolder('cli-ova');
const at = (...names: string[]): string => path.join(folder, ...names);
const platter = (...args: string[]): Finished =>
  runPlatter(args, { cwd: folder, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } });

function mustPlatter(...args: string[]): string {
  const { status, stdout, stderr } = platter(...args);
  if (status !== 0) throw new Error(`platter ${args.join(' ')}: exit ${status}: ${stderr}`);
  return stdout;
}

describeWith({ peers: ['qemu-img'], unless: withoutTar }, 'packages made elsewhere', () => {
  let one = { raw: '', vmdk: '' };
  let two = { raw: '', vmdk: '' };

  beforeAll(() => {
    one = makeDisk(folder, 'one', 3 * MiB, 1);
    two = makeDisk(folder, 'two', 5 * MiB, 90);
    fs.writeFileSync(at('vm.ovf'), descriptorText([{ href: 'one.vmdk', capacity: 3, units: 'byte * 2^20' }], 'web'));
    fs.writeFileSync(at('vm.mf'), manifestText(folder, ['vm.ovf', 'one.vmdk'], 'SHA1'));
    pack(at('vm.ova'), folder, ['vm.ovf', 'vm.mf', 'one.vmdk']);
    const disks = [
      { href: 'one.vmdk', capacity: 3 * MiB, id: 'system' },
      { href: 'two.vmdk', capacity: 5 * MiB, id: 'data' },
    ];
    fs.writeFileSync(at('both.ovf'), descriptorText(disks));
    pack(at('both.ova'), folder, ['both.ovf', 'one.vmdk', 'two.vmdk']);
  });

  it('work with every verb that reads', () => {
    mustPlatter('convert', '-O', 'qcow2', 'vm.ova', 'out.qcow2');
    expect(runQemuImg(['compare', at('out.qcow2'), one.raw]).status).toBe(0);
    expect(platter('compare', 'vm.ova', 'one.raw').status).toBe(0);
    const places = (name: string): string[] =>
      (JSON.parse(mustPlatter('map', '--output=json', name)) as { start: number; length: number; data: boolean }[]).map(
        ({ start, length, data }) => `${start}+${length} ${data}`,
      );
    expect(places('vm.ova')).toEqual(places('one.vmdk'));
    expect(mustPlatter('measure', '-O', 'qcow2', 'vm.ova')).toBe(mustPlatter('measure', '-O', 'qcow2', 'one.vmdk'));
    mustPlatter('dd', 'if=vm.ova', 'of=part.raw', 'bs=64k', 'skip=8', 'count=24');
    expect(
      Buffer.compare(fs.readFileSync(at('part.raw')), fs.readFileSync(one.raw).subarray(512 * 1024, 1536 * 1024)),
    ).toBe(0);
    mustPlatter('create', '-q', '-f', 'qcow2', '-b', 'vm.ova', '-F', 'ova', 'over.qcow2');
    expect(platter('compare', 'over.qcow2', 'one.raw').status).toBe(0);
  });

  it('are described', () => {
    const text = mustPlatter('info', 'vm.ova');
    expect(text).toContain('file format: ova\nvirtual size: 3 MiB (3145728 bytes)\n');
    for (const line of ['web', 'manifest: vm.mf', 'filename: one.vmdk', 'format: vmdk']) expect(text).toContain(line);
    const json = JSON.parse(mustPlatter('info', '--output=json', 'both.ova')) as Record<string, unknown>;
    expect(json).toMatchObject({
      format: 'ova',
      'virtual-size': 8 * MiB,
      'format-specific': {
        type: 'ova',
        data: {
          disks: [
            { id: 'system', filename: 'one.vmdk', 'virtual-size': 3 * MiB },
            { id: 'data', filename: 'two.vmdk', 'virtual-size': 5 * MiB },
          ],
        },
      },
    });
  });

  it('with several disks are told apart by --disk', () => {
    const { status, stderr } = platter('convert', '-O', 'raw', 'both.ova', 'no.raw');
    expect([status, stderr]).toEqual([1, expect.stringContaining('--disk NAME or N): 1: one.vmdk, 2: two.vmdk')]);
    expect(fs.existsSync(at('no.raw'))).toBe(false);
    mustPlatter('convert', '-O', 'raw', '--disk', '1', '--disk', '2', 'both.ova', 'both.ova', 'joined.raw');
    const joined = Buffer.concat([fs.readFileSync(one.raw), fs.readFileSync(two.raw)]);
    expect(Buffer.compare(fs.readFileSync(at('joined.raw')), joined)).toBe(0);
    expect(platter('compare', '--disk', '', '--disk', '1', 'one.raw', 'both.ova').status).toBe(0);
    expect(
      platter('compare', '--image-opts', 'driver=ova,disk=2,file.filename=both.ova', 'driver=raw,file.filename=two.raw')
        .status,
    ).toBe(0);
    for (const words of [['map', '--output=json'], ['measure'], ['info'], ['check']]) {
      expect([...words, platter(...words, '--disk', 'data', 'both.ova').stderr]).toEqual([...words, '']);
    }
    mustPlatter('dd', '--disk', '2', 'if=both.ova', 'of=dd.raw', 'bs=1M', 'count=1');
    expect(platter('map', '--disk', '3', 'both.ova').stderr).toContain(
      "no disk '3'. Its disks are 1: one.vmdk, 2: two.vmdk",
    );
    expect(platter('map', '--disk', '1', 'one.raw').stderr).toContain("Invalid parameter 'disk'");
  });

  it('whose manifest does not fit are not converted, unless what can be read is wanted', () => {
    const bytes = fs.readFileSync(at('vm.ova'));
    // In the comment of the descriptor that lies in the disk: the content of the disk stays what it is.
    const place = bytes.indexOf('# Disk DescriptorFile');
    expect(place).toBeGreaterThan(0);
    bytes.write('# Disk descriptorfile', place);
    fs.writeFileSync(at('bad.ova'), bytes);
    const { status, stderr } = platter('convert', '-O', 'raw', 'bad.ova', 'bad.raw');
    expect([status, stderr]).toEqual([1, expect.stringContaining("'one.vmdk' is damaged: its SHA1 digest")]);
    expect(fs.existsSync(at('bad.raw'))).toBe(false);
    const check = platter('check', 'bad.ova');
    expect([check.status, check.stderr]).toEqual([2, expect.stringContaining('the SHA1 digest is')]);
    expect(platter('info', 'bad.ova').status).toBe(0);
    mustPlatter('convert', '--salvage', '-O', 'raw', 'bad.ova', 'bad.raw');
    expect(Buffer.compare(fs.readFileSync(at('bad.raw')), fs.readFileSync(one.raw))).toBe(0);
  });
});
