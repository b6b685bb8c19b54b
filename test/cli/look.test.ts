// regions and hexdump: every byte once, and field values that other programs say too (qemu-img, libvhdi, libvmdk, sfdisk, sgdisk, dumpe2fs).
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { locate } from '../../core/operations/locate.ts';
import { describeWith, itWith, mustRun, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

interface Field {
  readonly path: string;
  readonly start: number;
  readonly length: number;
  readonly value: string;
  readonly fault: string | null;
  readonly target?: { readonly offset: number };
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'regions and hexdump', () => {
  const folder = scratchFolder('look');
  const at = { cwd: folder };
  const json = (...args: string[]): never => {
    const { status, stdout, stderr } = runPlatter([...args, '--output=json'], at);
    expect(status, stderr).toBe(0);
    return JSON.parse(stdout) as never;
  };
  const fields = (name: string, ...args: string[]): ReadonlyMap<string, Field> => {
    const { fields: all } = json('hexdump', '--annotate', ...args, name) as { readonly fields: readonly Field[] };
    return new Map(all.map((field) => [field.path, field]));
  };
  /** The number that begins a value: `65536 (0x10000)`. */
  const number = (found: ReadonlyMap<string, Field>, name: string): number =>
    Number.parseInt(found.get(name)?.value ?? '', 10);

  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', 'disk.raw', '64M'], at);
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 65 40M 64k', 'disk.raw'], at);
    const formats = {
      'disk.qcow2': 'qcow2',
      'disk.vhd': 'vpc',
      'disk.vhdx': 'vhdx',
      'disk.vmdk': 'vmdk',
      'disk.vdi': 'vdi',
    };
    for (const [name, format] of Object.entries(formats)) {
      mustRun('qemu-img', ['convert', '-f', 'raw', '-O', format, 'disk.raw', name], at);
    }
  });

  it.each(['disk.qcow2', 'disk.vhd', 'disk.vhdx', 'disk.vmdk', 'disk.vdi', 'disk.raw'])(
    '%s: every byte once',
    (name) => {
      const regions = json('regions', name) as { readonly start: number; readonly length: number }[];
      let end = 0;
      for (const { start, length } of regions) {
        expect(start).toBe(end);
        end += length;
      }
      expect(end).toBe(fs.statSync(path.join(folder, name)).size);
    },
  );

  it.each([
    ['disk.qcow2', 'header.size'],
    ['disk.vhd', 'footer.current_size'],
    ['disk.vhdx', 'virtual_disk_size.VirtualDiskSize'],
    ['disk.vdi', 'header.disk_size'],
  ])('%s: the size is the one that qemu-img says', (name, field) => {
    const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', name], at)) as Record<string, number>;
    const found = name === 'disk.vhdx' ? fields(name, '--at=virtual_disk_size', '-n', '64') : fields(name, '-n', '512');
    expect(number(found, field)).toBe(info['virtual-size']);
  });

  it('a qcow2 header says what qemu-img says, and its pointers lead to entries that map data where qemu-img does', () => {
    const found = fields('disk.qcow2', '-n', '112');
    const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', 'disk.qcow2'], at)) as Record<string, number>;
    expect(2 ** number(found, 'header.cluster_bits')).toBe(info['cluster-size']);
    const l1 = found.get('header.l1_table_offset')?.target?.offset ?? 0;
    expect(fields('disk.qcow2', '--at=L1[0]', '-n', '8').get('L1[0]')?.start).toBe(l1);
    const map = JSON.parse(mustRun('qemu-img', ['map', '--output=json', 'disk.qcow2'], at)) as {
      start: number;
      offset?: number;
    }[];
    const data = map.find(({ start }) => start === 40 * 1024 * 1024);
    const entry = fields('disk.qcow2', '--at=L2[0][640]', '-n', '8').get('L2[0][640]');
    expect(entry?.target?.offset).toBe(data?.offset);
  });

  it('block tables lead to the bytes of the guest', () => {
    for (const [name, place, room] of [
      ['disk.vhd', 'BAT[20]', 512],
      ['disk.vdi', 'map[40]', 0],
    ] as const) {
      const entry = fields(name, `--at=${place}`, '-n', '4').get(place);
      const bytes = fs.readFileSync(path.join(folder, name));
      expect(
        bytes.subarray((entry?.target?.offset ?? 0) + room, (entry?.target?.offset ?? 0) + room + 4),
        name,
      ).toEqual(Buffer.from('AAAA'));
    }
  });

  itWith({ peers: ['vhdiinfo'] }, 'a VHD footer says what vhdiinfo says', () => {
    const said = mustRun('vhdiinfo', ['disk.vhd'], at);
    const found = fields('disk.vhd', '-n', '2048');
    expect(said.toLowerCase()).toContain(found.get('footer.unique_id')?.value.toLowerCase());
    expect(number(found, 'footer.disk_type')).toBe(3);
    expect(said).toMatch(/Dynamic/);
  });

  itWith({ peers: ['vmdkinfo'] }, 'a VMDK descriptor says what vmdkinfo says', () => {
    const found = fields('disk.vmdk', '-n', '4K');
    const cid = found.get('descriptor.CID')?.value ?? '';
    expect(mustRun('vmdkinfo', ['disk.vmdk'], at)).toContain(`0x${cid.padStart(8, '0')}`);
    expect(number(found, 'header.capacity') * 512).toBe(64 * 1024 * 1024);
  });

  describe('in the guest', () => {
    itWith(
      { peers: ['sfdisk', 'sgdisk', 'mke2fs', 'dumpe2fs'] },
      'GPT, MBR and ext say what their own tools say',
      () => {
        fs.writeFileSync(path.join(folder, 'gpt.raw'), '');
        fs.truncateSync(path.join(folder, 'gpt.raw'), 32 * 1024 * 1024);
        mustRun('sgdisk', ['-o', '-n', '1:2048:20479', '-c', '1:first', '-n', '2:20480:40959', 'gpt.raw'], at);
        mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', 'gpt.raw', 'gpt.vhdx'], at);
        const table = (
          JSON.parse(mustRun('sfdisk', ['--json', 'gpt.raw'], at)) as {
            partitiontable: { id: string; partitions: { start: number; size: number; uuid: string }[] };
          }
        ).partitiontable;
        const found = fields('gpt.vhdx', '--guest', '-n', '2K');
        expect(found.get('gpt.disk_guid')?.value.toLowerCase()).toBe(`{${table.id.toLowerCase()}}`);
        for (const [index, { start, size, uuid }] of table.partitions.entries()) {
          expect(number(found, `gpt.entry[${index}].starting_lba`)).toBe(start);
          expect(number(found, `gpt.entry[${index}].ending_lba`)).toBe(start + size - 1);
          expect(found.get(`gpt.entry[${index}].unique_partition_guid`)?.value).toBe(`{${uuid.toLowerCase()}}`);
          expect(found.get(`gpt.entry[${index}].starting_lba`)?.target?.offset).toBe(start * 512);
        }
        expect(found.get('gpt.entry[0].partition_name')?.value).toBe('"first"');
        mustRun('mke2fs', ['-q', '-F', '-t', 'ext4', '-L', 'mine', 'ext.raw', '16M'], at);
        mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', 'ext.raw', 'ext.qcow2'], at);
        const said = mustRun('dumpe2fs', ['-h', 'ext.raw'], at);
        const value = (name: string): string => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(said)?.[1] ?? '';
        const ext = fields('ext.qcow2', '--guest', '--at=1024', '-n', '1K');
        expect(number(ext, 'ext.s_inodes_count')).toBe(Number(value('Inode count')));
        expect(number(ext, 'ext.s_blocks_count_lo')).toBe(Number(value('Block count')));
        expect(ext.get('ext.s_uuid')?.value).toBe(value('Filesystem UUID'));
        expect(ext.get('ext.s_volume_name')?.value).toBe(JSON.stringify(value('Filesystem volume name')));
      },
    );
  });

  it('places are read as people write them, and refused with a reason', () => {
    const around = {
      size: 64 * 1024 * 1024,
      here: 512,
      sector: 512,
      cluster: 65536,
      named: () => null,
      names: ['L1[i]'],
    };
    const offset = (text: string): number => locate(text, around);
    const same = [
      '40M',
      '0x2800000',
      'lba 81920',
      'cluster 640',
      'cluster 639 + 64K',
      '62.5%',
      'end - 24M',
      '41942528 + 512',
      's81920',
      'c640',
      '2800000h',
      '$2800000',
      '0x280_0000',
      '41,943,040',
      '40MB',
      '(lba 80000 + 1920 * 512)',
      '2 * (10M + 10M)',
      '80M / 2',
      '27fffff + 1',
    ];
    expect(same.map(offset)).toEqual(same.map(() => 40 * 1024 * 1024));
    expect(['+0x200', '-512', 'start', 'here', '1.5K'].map(offset)).toEqual([1024, 0, 0, 512, 1536]);
    const refused = {
      '': /nothing/,
      '40 X': /neither a number nor a name/,
      '65M': /behind the end/,
      '-1K': /before the start/,
    };
    for (const [text, message] of Object.entries(refused)) expect(() => offset(text), text).toThrow(message);
    expect(() => offset('1.0001K')).toThrow(/whole number/);
    for (const text of ['5 +', '(5', '* 2', '5 +* 2']) expect(() => offset(text), text).toThrow(/missing/);
    expect(() => offset('5)')).toThrow(/not expected/);
    expect(() => offset('5 / 0')).toThrow(/divided by 0/);
    // A part by its name, a table by its first entry: the footer is what the file ends with, by the format's definition.
    const first = (name: string, text: string, ...more: string[]): string =>
      runPlatter(['hexdump', `--at=${text}`, '-n', '8', ...more, name], at).stdout.split(' ')[0] ?? '';
    const vhd = fs.statSync(path.join(folder, 'disk.vhd')).size;
    expect(Number.parseInt(first('disk.vhd', 'footer'), 16)).toBe(vhd - 512);
    expect(first('disk.vhd', 'bat')).toBe(first('disk.vhd', 'BAT[0]'));
    expect(first('disk.qcow2', 'l1')).toBe(first('disk.qcow2', 'L1[0]'));
    expect(first('disk.vmdk', 'descriptor')).toBe('00000200');
    expect(() => offset('L1[5]')).toThrow(/no entry L1\[5\]/);
    const said = runPlatter(['hexdump', '--at=BAT[0]', 'disk.qcow2'], at).stderr;
    expect(said).toMatch(/no table 'BAT\[0\]'.*there are L1\[i\]/);
  });

  it('finds what other programs wrote, from either end, and says when there is nothing', () => {
    const find = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
      runPlatter(['hexdump', '--guest', '-n', '16', ...args, 'disk.vmdk'], at);
    const line = '02800000  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  |AAAAAAAAAAAAAAAA|';
    expect(find('--find=41 4? 41').stdout).toContain(line);
    expect(find('--find=aaaa', '--as=utf-8', '-i', '--all').stdout.split('\n')).toHaveLength(65536 / 4 + 1);
    expect(find('--find=4?', '--backwards').stdout).toMatch(/^0280ffff {2}41 00/);
    expect(find('--find=41', '--backwards', '--at=40M')).toMatchObject({ status: 1, stdout: '' });
    expect(find('--find=42')).toMatchObject({ status: 1, stderr: expect.stringContaining('not found') as string });
    expect(find('--find=4').stderr).toMatch(/two digits each/);
    expect(find('--all').stderr).toMatch(/belongs to --find/);
  });

  it('a snapshot is shown as it was, and repeated lines once', () => {
    mustRun('qemu-img', ['snapshot', '-c', 'before', 'disk.qcow2'], at);
    mustRun('qemu-io', ['-c', 'write -P 66 40M 64k', 'disk.qcow2'], at);
    const dump = (...args: string[]): string =>
      runPlatter(['hexdump', '--at=40M', '-n', '64', ...args, 'disk.qcow2'], at).stdout;
    expect(dump('--guest')).toMatch(/^02800000 {2}42 42 .*\n\*\n02800040\n$/);
    expect(dump('-l', 'before')).toMatch(/^02800000 {2}41 41 /);
  });
});
