// A small collection of images as a person might have it, the same each time: for pictures of the window and for what is looked at on every page.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { openCatalogue } from '../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../core/catalogue/datastores.ts';
import { resolveImage } from '../../core/catalogue/images.ts';
import { scan } from '../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../core/job.ts';

const MiB = 1024 * 1024;

/** The images that the pictures are about. */
export const shownImages = {
  base: 'debian12-base.qcow2',
  top: 'web-01.qcow2',
  crashed: 'archive/crashed.qcow2',
  template: 'win11-template.vhdx',
} as const;
export type ShownImage = keyof typeof shownImages;

export interface Collection {
  readonly disks: string;
  /** The id of an image in the catalogue. */
  readonly ids: Readonly<Record<ShownImage, string>>;
}

/** Makes the images in `folder`/disks by qemu-img and enters them in `folder`/catalogue.db. */
export async function makeCollection(folder: string): Promise<Collection> {
  const disks = path.join(folder, 'disks');
  fs.mkdirSync(path.join(disks, 'archive'), { recursive: true });
  const run = (program: string, ...args: string[]): void => {
    execFileSync(program, args, { cwd: disks, stdio: ['ignore', 'ignore', 'inherit'] });
  };
  const convert = (format: string, target: string, ...options: string[]): void =>
    run('qemu-img', 'convert', '-O', format, ...options, 'scratch.raw', target);
  const overlay = (name: string, below: string): void =>
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', name);

  makeDisk(path.join(disks, 'scratch.raw'));
  convert('qcow2', shownImages.base);
  run('qemu-img', 'snapshot', '-c', 'installed', shownImages.base);
  run('qemu-io', '-c', 'write -P 7 90M 3M', shownImages.base);
  run('qemu-img', 'snapshot', '-c', 'before the upgrade', shownImages.base);
  run('qemu-io', '-c', 'write -P 9 30M 2M', shownImages.base);
  for (const name of ['web-01', 'web-02', 'db-01']) overlay(`${name}.qcow2`, shownImages.base);
  run('qemu-io', '-c', 'write -P 5 2M 6M', '-c', 'write -z 12M 4M', '-c', 'write -P 6 300M 9M', shownImages.top);
  run('qemu-io', '-c', 'write -P 5 8M 3M', 'web-02.qcow2');
  run('qemu-io', '-c', 'write -P 5 400M 18M', 'db-01.qcow2');
  overlay('web-01-test.qcow2', shownImages.top);
  convert('vhdx', shownImages.template);
  convert('vmdk', 'archive/appliance.vmdk', '-o', 'subformat=streamOptimized');
  convert('vdi', 'archive/lab.vdi');
  convert('vpc', 'archive/old-sap.vhd');
  overlay('staging.qcow2', shownImages.base);
  run('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', 'debian11-base.qcow2', '-F', 'qcow2', 'staging.qcow2');
  convert('qcow2', shownImages.crashed);
  leak(path.join(disks, shownImages.crashed));

  const catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
  addDatastore(catalogue, { path: disks, name: 'disks' });
  await scan(catalogue, { datastore: 'disks', everything: false }, silentJob);
  const id = (name: ShownImage): string => resolveImage(catalogue, path.join(disks, shownImages[name]));
  const ids = { base: id('base'), top: id('top'), crashed: id('crashed'), template: id('template') };
  catalogue.close();
  return { disks, ids };
}

/** 1 GiB with an MBR of two partitions, the signs of ext4 and LVM in them, and 36 MiB that compress badly, so that what is stored has a size. */
function makeDisk(file: string): void {
  const handle = fs.openSync(file, 'w');
  fs.ftruncateSync(handle, 1024 * MiB);
  let seed = 7;
  for (const [at, length] of [
    [MiB, 24 * MiB],
    [80 * MiB, 12 * MiB],
  ] as const) {
    const bytes = Buffer.alloc(length);
    for (let index = 0; index < length; index += 4) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0;
      bytes.writeInt32LE(seed, index);
    }
    fs.writeSync(handle, bytes, 0, length, at);
  }
  const table = Buffer.alloc(512);
  for (const [index, [start, sectors, type]] of [
    [2048, 256 * 2048, 0x83],
    [257 * 2048, 700 * 2048, 0x8e],
  ].entries()) {
    const entry = 446 + index * 16;
    table[entry] = index === 0 ? 0x80 : 0;
    table[entry + 4] = type ?? 0;
    table.writeUInt32LE(start ?? 0, entry + 8);
    table.writeUInt32LE(sectors ?? 0, entry + 12);
  }
  table.writeUInt16LE(0xaa55, 510);
  fs.writeSync(handle, table, 0, 512, 0);
  const ext4 = Buffer.alloc(1024);
  ext4.writeUInt32LE(16_384, 0); // inodes
  ext4.writeUInt32LE(65_536, 4); // blocks
  ext4.writeUInt32LE(2, 24); // of 4 KiB
  ext4.writeUInt32LE(32_768, 32);
  ext4.writeUInt32LE(8192, 40);
  ext4.writeUInt16LE(0xef53, 56);
  ext4.writeUInt16LE(1, 58);
  ext4.writeUInt32LE(1, 76);
  ext4.writeUInt16LE(256, 88);
  ext4.writeUInt32LE(0x3c, 92); // with a journal
  ext4.writeUInt32LE(0x2c2, 96); // extents, 64 bits, flexible groups
  ext4.write('root', 120);
  fs.writeSync(handle, ext4, 0, 1024, MiB + 1024);
  const lvm = Buffer.alloc(512);
  lvm.write('LABELONE', 0);
  lvm.writeBigUInt64LE(1n, 8);
  lvm.writeUInt32LE(32, 20);
  lvm.write('LVM2 001', 24);
  fs.writeSync(handle, lvm, 0, 512, 257 * MiB + 512);
  fs.closeSync(handle);
}

/** Two clusters that nothing uses: what a crash leaves behind. */
function leak(file: string): void {
  const handle = fs.openSync(file, 'r+');
  const word = (at: number): number => {
    const bytes = Buffer.alloc(8);
    fs.readSync(handle, bytes, 0, 8, at);
    return Number(bytes.readBigUInt64BE());
  };
  const block = word(word(48));
  const clusters = Math.ceil(fs.fstatSync(handle).size / 65536);
  for (const cluster of [clusters, clusters + 1]) fs.writeSync(handle, Buffer.from([0, 1]), 0, 2, block + cluster * 2);
  fs.ftruncateSync(handle, (clusters + 2) * 65536);
  fs.closeSync(handle);
}
