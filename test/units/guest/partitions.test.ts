// Partition tables as sfdisk and sgdisk make them, read back; and such that nobody should believe.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import {
  readPartitions,
  readPartitionTable,
  type Partition,
  type PartitionTable,
} from '../../../core/guest/partitions.ts';
import { describeWith, runPeer } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';
import { withImage } from '../formats/new-image.ts';

const folder = scratchFolder('partitions');
const mib = 1024 * 1024;

interface SfdiskTable {
  readonly partitiontable: {
    readonly label: string;
    readonly sectorsize: number;
    readonly partitions: { node: string; start: number; size: number; type: string; name?: string }[];
  };
}

function disk(name: string, size: number): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, '');
  fs.truncateSync(file, size);
  return file;
}

function partition(file: string, script: string): void {
  const done = runPeer('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', file], { input: script });
  expect(done.status, done.stderr).toBe(0);
}

const read = (file: string): readonly Partition[] => withImage(file, { format: 'raw' }, readPartitions);
const table = (file: string): PartitionTable | null => withImage(file, { format: 'raw' }, readPartitionTable);

/** What sfdisk says of the disk, in our terms. */
function asSfdisk(file: string): Partition[] {
  const { partitiontable: found } = JSON.parse(runPeer('sfdisk', ['--json', file]).stdout) as SfdiskTable;
  return found.partitions.map(({ node, start, size, type, name }) => ({
    number: Number(node.slice(file.length)),
    start: start * found.sectorsize,
    length: size * found.sectorsize,
    type: found.label === 'gpt' ? type.toLowerCase() : type.padStart(2, '0'),
    name: name ?? '',
    table: found.label === 'gpt' ? 'gpt' : 'mbr',
  }));
}

function patch(file: string, at: number, bytes: Uint8Array): void {
  const descriptor = fs.openSync(file, 'r+');
  fs.writeSync(descriptor, bytes, 0, bytes.length, at);
  fs.closeSync(descriptor);
}

function readBytes(file: string, at: number, length: number): Buffer {
  return fs.readFileSync(file).subarray(at, at + length);
}

describeWith({ peers: ['sfdisk'] }, 'partitions', () => {
  it('of an MBR: primary ones, the extended one, logical ones', () => {
    const file = disk('mbr', 96 * mib);
    partition(file, 'label: dos\n,16M,83,*\n,8M,c\n,,E\n,8M,L\n,12M,82\n,,7\n');
    const found = read(file);
    expect(found.length).toBe(6);
    expect(found).toEqual(asSfdisk(file));
  });

  it('of a GPT, with gaps in the numbers and names in Unicode', () => {
    const file = disk('gpt', 64 * mib);
    partition(
      file,
      'label: gpt\n1: size=8M, type=U, name="EFI"\n3: size=20M, name="Daten – größer"\n128: size=1M, type=S\n',
    );
    const found = read(file);
    expect(found.map(({ number, name }) => [number, name])).toEqual([
      [1, 'EFI'],
      [3, 'Daten – größer'],
      [128, ''],
    ]);
    expect(found).toEqual(asSfdisk(file));
  });

  it('of a GPT come from the copy that is whole', () => {
    const file = disk('copies', 32 * mib);
    partition(file, 'label: gpt\n1: size=8M, name="first"\n2: size=4M\n');
    const whole = read(file);
    const entry = readBytes(file, 1024, 1);
    patch(file, 1024, Uint8Array.of((entry[0] ?? 0) ^ 0x55));
    expect(table(file)?.gpt?.primary).toBeNull();
    expect(read(file)).toEqual(whole);
    patch(file, 1024, entry);
    patch(file, 32 * mib - 512 + 40, Uint8Array.of(0xff));
    expect(table(file)?.gpt?.primary).not.toBeNull();
    expect(table(file)?.gpt?.backup).toBeNull();
    patch(file, 512 + 40, Uint8Array.of(0xff));
    expect(table(file)).toBeNull();
  });

  it('of a disk that is a file system, of an empty one, of a very small one: none', () => {
    const file = disk('fat', 4 * mib);
    const sector = new Uint8Array(512);
    sector.set(Buffer.from('FAT16   '), 54);
    sector.set([0x80, 1, 1, 0, 6, 1, 1, 1, 63, 0, 0, 0, 100], 446);
    sector.set([0x55, 0xaa], 510);
    patch(file, 0, sector);
    expect(read(file)).toEqual([]);
    sector.fill(0, 54, 62);
    patch(file, 0, sector);
    expect(read(file).length).toBe(1);
    expect(read(disk('empty', 4 * mib))).toEqual([]);
    expect(read(disk('tiny', 512))).toEqual([]);
    expect(read(disk('nothing', 0))).toEqual([]);
  });

  it('a chain of logical partitions that bites its tail ends', () => {
    const file = disk('loop', 16 * mib);
    const boot = new Uint8Array(512);
    boot.set([0, 0, 0, 0, 5, 0, 0, 0, 64, 0, 0, 0, 0, 0x70, 0, 0], 446);
    boot.set([0x55, 0xaa], 510);
    patch(file, 0, boot);
    const link = new Uint8Array(512);
    link.set([0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0], 446);
    link.set([0, 0, 0, 0, 5, 0, 0, 0, 64, 0, 0, 0, 9, 0, 0, 0], 462);
    link.set([0x55, 0xaa], 510);
    patch(file, 64 * 512, link);
    patch(file, 128 * 512, link);
    expect(read(file).map(({ number, start }) => [number, start / 512])).toEqual([
      [1, 64],
      [5, 65],
      [6, 129],
    ]);
  });
});
