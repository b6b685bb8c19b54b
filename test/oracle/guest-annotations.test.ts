// What the hex view says of the guest's disk: MBR, FAT and NTFS that other programs made, against what sfdisk, minfo, fsck.fat and ntfsinfo read.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { Annotation } from '../../core/bytes/struct.ts';
import { OpenImage } from '../../core/workbench/images/open-image.ts';
import { describeWith, mustRun } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const MiB = 1024 * 1024;
const scratch = scratchFolder('guest-annotations');

function newDisk(name: string, size: number): string {
  const file = path.join(scratch, name);
  fs.writeFileSync(file, '');
  fs.truncateSync(file, size);
  return file;
}

/** The disk as a guest sees it in a qcow2: what is annotated must not depend on where the bytes lie. */
function inside(file: string): OpenImage {
  const image = `${file}.qcow2`;
  mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', file, image]);
  return new OpenImage(image, { format: 'qcow2' });
}

/** The fields of the sector at `at`, by path. */
function fieldsAt(image: OpenImage, at: number): Map<string, Annotation> {
  const rows = new Map<string, Annotation>();
  for (;;) {
    const { annotations, pending } = image.annotations('guest', at, 512);
    for (const row of annotations) rows.set(row.path ?? row.field, row);
    if (!pending) return rows;
  }
}

/** The number that a field shows, in whichever base; NaN where there is no such field. */
const shown = (rows: Map<string, Annotation>, field: string): number => Number(rows.get(field)?.value.split(' ')[0]);
/** The number that stands in `text` where the pattern says. */
const said = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1]);

interface Partition {
  readonly node: string;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly bootable?: boolean;
}

describeWith({ peers: ['qemu-img', 'sfdisk'] }, 'an MBR', () => {
  const script = `label: dos
    start=2048, size=20480, type=83
    start=30000, size=40000, type=c, bootable
    start=100000, size=100000, type=5
    start=102400, size=10000, type=82
    start=120000, size=3000, type=7`;
  let image: OpenImage;
  let id: string;
  let parts: readonly Partition[];
  const numbered = (number: number): Partition | undefined => parts.find(({ node }) => node.endsWith(`mbr${number}`));

  beforeAll(() => {
    const file = newDisk('mbr', 100 * MiB);
    mustRun('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', file], { input: script });
    ({ id, partitions: parts } = (
      JSON.parse(mustRun('sfdisk', ['--json', file])) as {
        partitiontable: { id: string; partitions: Partition[] };
      }
    ).partitiontable);
    image = inside(file);
    return () => image.close();
  });

  /** Record `index` of the sector says what sfdisk says; its first sector counts from `base`. */
  function expectRecord(
    rows: Map<string, Annotation>,
    record: string,
    part: Partition | undefined,
    base: number,
  ): void {
    expect(part, record).toBeDefined();
    expect({
      start: base + shown(rows, `${record}.starting_lba`),
      size: shown(rows, `${record}.size_in_lba`),
      type: shown(rows, `${record}.os_type`),
      active: shown(rows, `${record}.boot_indicator`),
      leads: rows.get(`${record}.starting_lba`)?.target?.offset,
    }).toEqual({
      start: part?.start,
      size: part?.size,
      type: Number.parseInt(part?.type ?? '', 16),
      active: part?.bootable === true ? 0x80 : 0,
      leads: 512 * (part?.start ?? 0),
    });
  }

  it('has the records and the signature that sfdisk reads', () => {
    const rows = fieldsAt(image, 0);
    for (const index of [0, 1, 2]) expectRecord(rows, `mbr.partition[${index}]`, numbered(index + 1), 0);
    expect(shown(rows, 'mbr.partition[3].size_in_lba')).toBe(0);
    expect(shown(rows, 'mbr.disk_signature')).toBe(Number(id));
    expect(shown(rows, 'mbr.signature')).toBe(0xaa55);
  });

  it('leads through the chain of extended records to the logical partitions', () => {
    const base = numbered(3)?.start ?? 0;
    const first = fieldsAt(image, 512 * base);
    expectRecord(first, 'ebr[0].partition[0]', numbered(5), base);
    const second = base + shown(first, 'ebr[0].partition[1].starting_lba');
    expect(first.get('ebr[0].partition[1].starting_lba')?.target).toEqual({ offset: 512 * second });
    expectRecord(fieldsAt(image, 512 * second), 'ebr[1].partition[0]', numbered(6), second);
  });
});

/** A FAT in the first partition of a disk. */
const partitionStart = 2048;

describeWith({ peers: ['qemu-img', 'sfdisk', 'mkfs.fat', 'fsck.fat', 'minfo'] }, 'the boot sector of a FAT', () => {
  it.each([
    ['fat12', '-F 12', 4],
    ['fat16', '-F 16 -s 8', 64],
    ['fat16', '-F 16 -S 4096', 100],
    ['fat32', '-F 32 -s 2', 70],
  ] as const)('%s made with %s: as minfo and fsck.fat read it', (kind, args, size) => {
    const part = newDisk('fat.part', size * MiB);
    mustRun('mkfs.fat', [...args.split(' '), '-n', 'SEEN HERE', '-i', '1badcafe', part]);
    const minfo = mustRun('minfo', ['-i', part, '::']);
    const fsck = mustRun('fsck.fat', ['-n', '-v', part]);
    const file = newDisk('fat', (size + 1) * MiB);
    mustRun('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', file], {
      input: `label: dos\nstart=${partitionStart}, type=c`,
    });
    const disk = fs.openSync(file, 'r+');
    fs.writeSync(disk, fs.readFileSync(part), 0, size * MiB, partitionStart * 512);
    fs.closeSync(disk);

    const image = inside(file);
    const at = partitionStart * 512;
    const rows = fieldsAt(image, at);
    const regions = image.annotations('guest', at, 512).regions;
    image.close();
    expect(regions).toMatchObject([{ start: at, label: `${kind.toUpperCase()} boot sector` }]);
    const value = (field: string): number => shown(rows, `fat.${field}`);
    const text = (field: string): string | undefined => rows.get(`fat.${field}`)?.value;
    const isWide = kind === 'fat32';
    const perSector = value('BPB_BytsPerSec');
    const fatSectors = value(isWide ? 'BPB_FATSz32' : 'BPB_FATSz16');
    expect({
      perSector,
      perCluster: value('BPB_SecPerClus'),
      reserved: value('BPB_RsvdSecCnt'),
      fats: value('BPB_NumFATs'),
      rootEntries: value('BPB_RootEntCnt'),
      small: value('BPB_TotSec16'),
      media: value('BPB_Media'),
      fatSectors: value('BPB_FATSz16'),
      perTrack: value('BPB_SecPerTrk'),
      heads: value('BPB_NumHeads'),
      hidden: value('BPB_HiddSec'),
      big: value('BPB_TotSec32'),
      drive: value('BS_DrvNum'),
      state: value('BS_Reserved1'),
      mark: value('BS_BootSig'),
      serial: value('BS_VolID'),
    }).toEqual({
      perSector: said(minfo, /sector size: (\d+)/),
      perCluster: said(minfo, /cluster size: (\d+)/),
      reserved: said(minfo, /reserved \(boot\) sectors: (\d+)/),
      fats: said(minfo, /fats: (\d+)/),
      rootEntries: said(minfo, /root directory slots: (\d+)/),
      small: said(minfo, /small size: (\d+)/),
      media: said(minfo, /media descriptor byte: (\w+)/),
      fatSectors: said(minfo, /sectors per fat: (\d+)/),
      perTrack: said(minfo, /bootsector[^]*sectors per track: (\d+)/),
      heads: said(minfo, /bootsector[^]*heads: (\d+)/),
      hidden: said(minfo, /hidden sectors: (\d+)/),
      big: said(minfo, /big size: (\d+)/) || 0, // left out for a small volume
      drive: said(minfo, /physical drive id: (\w+)/),
      state: said(minfo, /reserved=(\w+)/),
      mark: said(minfo, /dos4=(\w+)/),
      serial: Number(`0x${/serial number: (\w+)/.exec(minfo)?.[1]}`),
    });
    expect(value('BS_VolID')).toBe(0x1badcafe);
    expect(text('BS_VolLab')).toBe(JSON.stringify(/disk label="(.*)"/.exec(minfo)?.[1]));
    expect(text('BS_FilSysType')).toBe(JSON.stringify(/disk type="(.*)"/.exec(minfo)?.[1]));
    expect(text('BS_OEMName')).toBe(JSON.stringify(/System ID "(.*)"/.exec(fsck)?.[1]));
    expect(perSector * value('BPB_RsvdSecCnt')).toBe(said(fsck, /First FAT starts at byte (\d+)/));
    expect(perSector * fatSectors).toBe(said(fsck, /(\d+) bytes per FAT/));
    expect(value('BPB_TotSec16') || value('BPB_TotSec32')).toBe(said(fsck, /(\d+) sectors total/));
    if (!isWide) return;
    expect({
      fatSectors,
      flags: value('BPB_ExtFlags'),
      root: value('BPB_RootClus'),
      info: value('BPB_FSInfo'),
      backup: value('BPB_BkBootSec'),
    }).toEqual({
      fatSectors: said(minfo, /Big fatlen=(\d+)/),
      flags: said(minfo, /Extended flags=(\w+)/),
      root: said(minfo, /rootCluster=(\d+)/),
      info: said(minfo, /infoSector location=(\d+)/),
      backup: said(minfo, /backup boot sector=(\d+)/),
    });
  });
});

describeWith({ peers: ['qemu-img', 'mkntfs', 'ntfsinfo'] }, 'the boot sector of an NTFS', () => {
  it.each([512, 4096, 65_536])('with clusters of %i bytes: as ntfsinfo reads it', (clusterSize) => {
    const file = newDisk('ntfs', 60 * MiB);
    mustRun('mkntfs', ['-q', '-F', '-f', '-c', String(clusterSize), file]);
    const info = mustRun('ntfsinfo', ['-f', '-m', file]);
    const image = inside(file);
    const rows = fieldsAt(image, 0);
    image.close();
    const value = (field: string): number => shown(rows, `ntfs.${field}`);
    const perSector = value('bytes_per_sector');
    const stated = value('sectors_per_cluster');
    const cluster = perSector * (stated <= 0x80 ? stated : 2 ** (256 - stated));
    /** Bytes of a record: so many clusters, or a power of two. */
    const record = (field: string): number =>
      value(field) < 0x80 ? value(field) * cluster : 2 ** (256 - value(field));
    expect({
      perSector,
      cluster,
      clusters: Math.floor((value('number_of_sectors') * perSector) / cluster),
      mft: value('mft_lcn'),
      copy: value('mftmirr_lcn'),
      fileRecord: record('clusters_per_mft_record'),
      indexRecord: record('clusters_per_index_record'),
    }).toEqual({
      perSector: said(info, /Sector Size: (\d+)/),
      cluster: said(info, /Cluster Size: (\d+)/),
      clusters: said(info, /Volume Size in Clusters: (\d+)/),
      mft: said(info, /LCN of Data Attribute for FILE_MFT: (\d+)/),
      copy: said(info, /LCN of Data Attribute for File_MFTMirr: (\d+)/),
      fileRecord: said(info, /MFT Record Size: (\d+)/),
      indexRecord: said(info, /Index Block Size: (\d+)/),
    });
    expect(cluster).toBe(clusterSize);
    // What the cluster numbers lead to are the file records themselves.
    for (const field of ['mft_lcn', 'mftmirr_lcn']) {
      const offset = rows.get(`ntfs.${field}`)?.target?.offset ?? 0;
      expect(
        fs
          .readFileSync(file)
          .subarray(offset, offset + 4)
          .toString('latin1'),
        field,
      ).toBe('FILE');
    }
  });
});
