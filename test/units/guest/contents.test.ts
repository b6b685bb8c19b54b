// What is said of a guest's disk, against what blkid and sfdisk say of the same one; tables that contradict themselves; nonsense in their place.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { diskContents, type DiskContents } from '../../../core/guest/contents.ts';
import { describeWith, mustRun, runPeer } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';
import { withImage } from '../formats/new-image.ts';

const MiB = 1024 * 1024;
const folder = scratchFolder('contents');

function disk(name: string, size: number): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, '');
  fs.truncateSync(file, size);
  return file;
}

const contents = (file: string): DiskContents => withImage(file, { format: 'raw' }, diskContents);

/** Makes a file system in a file of its own and lays it into the disk. */
function fill(file: string, start: number, size: number, make: (part: string) => void): void {
  const part = disk(`part-${start}`, size);
  make(part);
  const target = fs.openSync(file, 'r+');
  const bytes = fs.readFileSync(part);
  fs.writeSync(target, bytes, 0, bytes.length, start);
  fs.closeSync(target);
}

/** What blkid says of a stretch of the disk. */
function blkid(file: string, start: number, size: number): { type: string; label: string } {
  const { stdout } = runPeer('blkid', ['-p', '-O', String(start), '-S', String(size), '-o', 'export', file]);
  const value = (name: string): string =>
    new RegExp(`^${name}=(.*)$`, 'm').exec(stdout)?.[1]?.replaceAll('\\', '') ?? '';
  return { type: value('TYPE'), label: value('LABEL') };
}

describeWith({ peers: ['sgdisk', 'blkid', 'mke2fs', 'mkfs.fat', 'mkswap'] }, 'the contents of a disk', () => {
  it('are its partitions, their file systems and labels', () => {
    const file = disk('gpt', 200 * MiB);
    const parts = [
      ['ef00', 'EFI', 34],
      ['8300', 'root', 64],
      ['8200', 'swap', 16],
      ['8e00', 'volumes', 8],
    ] as const;
    const args = parts.flatMap(([type, name, size], index) => [
      `--new=${index + 1}:0:+${size}M`,
      `--typecode=${index + 1}:${type}`,
      `--change-name=${index + 1}:${name}`,
    ]);
    mustRun('sgdisk', [...args, file]);
    const found = contents(file);
    expect([found.table, found.parts.length, found.remarks]).toEqual(['gpt', 4, []]);
    const [efi, root, swap] = found.parts;
    if (efi === undefined || root === undefined || swap === undefined) throw new Error('partitions are missing');
    fill(file, efi.start, efi.length, (part) => mustRun('mkfs.fat', ['-F', '32', '-n', 'ESP', part]));
    fill(file, root.start, root.length, (part) => mustRun('mke2fs', ['-q', '-t', 'ext4', '-L', 'my root', part]));
    fill(file, swap.start, swap.length, (part) => mustRun('mkswap', ['-q', '-L', 'pages', part]));
    const named = contents(file).parts;
    expect(named.map(({ use, name, fileSystem, label }) => [use, name, fileSystem, label])).toEqual([
      ['efi', 'EFI', 'fat32', 'ESP'],
      ['linux', 'root', 'ext4', 'my root'],
      ['swap', 'swap', 'swap', 'pages'],
      ['lvm', 'volumes', null, null],
    ]);
    const said = named.slice(0, 3).map(({ start, length }) => blkid(file, start, length));
    expect(said).toEqual([
      { type: 'vfat', label: 'ESP' },
      { type: 'ext4', label: 'my root' },
      { type: 'swap', label: 'pages' },
    ]);
  });

  it('say when the backup is lost, is not at the end, and when the primary is lost', () => {
    const file = disk('damaged', 64 * MiB);
    mustRun('sgdisk', ['--new=1:0:+16M', file]);
    const codes = (): string[] => contents(file).remarks.map(({ code }) => code);
    expect(codes()).toEqual([]);
    fs.truncateSync(file, 80 * MiB);
    expect(codes()).toEqual(['gpt-backup-not-at-end']);
    expect(runPeer('sgdisk', ['--verify', file]).stdout).toContain('at the end of the disk');
    fs.truncateSync(file, 63 * MiB);
    expect(codes()).toEqual(['gpt-backup-lost']);
    fs.truncateSync(file, 64 * MiB);
    mustRun('sgdisk', ['--move-second-header', file]);
    const handle = fs.openSync(file, 'r+');
    fs.writeSync(handle, Buffer.alloc(512, 0xaa), 0, 512, 512);
    fs.closeSync(handle);
    expect(codes()).toEqual(['gpt-primary-lost']);
  });

  it('say when partitions overlap or reach beyond the disk, and of a disk without a table what it is as a whole', () => {
    const file = disk('mbr', 32 * MiB);
    const script = 'label: dos\nstart=2048,size=20480,type=83\nstart=30000,size=20480,type=7\n';
    const made = runPeer('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', file], { input: script });
    expect(made.status, made.stderr).toBe(0);
    const handle = fs.openSync(file, 'r+');
    const start = Buffer.alloc(4);
    start.writeUInt32LE(10_000);
    fs.writeSync(handle, start, 0, 4, 446 + 16 + 8);
    fs.closeSync(handle);
    expect(contents(file).remarks).toEqual([{ code: 'overlap', partition: 2 }]);
    fs.truncateSync(file, 12 * MiB);
    expect(contents(file).remarks.map(({ code }) => code)).toContain('beyond-end');
    const whole = disk('whole', 32 * MiB);
    expect(contents(whole)).toMatchObject({ table: null, parts: [] });
    mustRun('mke2fs', ['-q', '-t', 'ext4', '-L', 'whole', whole]);
    expect(contents(whole).parts).toMatchObject([
      { number: null, length: 32 * MiB, fileSystem: 'ext4', label: 'whole' },
    ]);
  });

  it('of nonsense are nothing, and end', () => {
    const file = disk('nonsense', 4 * MiB);
    const bytes = Buffer.alloc(4 * MiB);
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
    bytes.writeUInt16LE(0xaa55, 510);
    fs.writeFileSync(file, bytes);
    const { parts, remarks } = contents(file);
    expect(parts.length + remarks.length).toBeLessThan(20);
  });
});
