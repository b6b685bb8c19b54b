// `npm start` until the window exists: makes a small disk image, converts it with bin/platter, and shows what the command says of it.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const project = path.resolve(import.meta.dirname, '..');
const command = path.join(project, 'bin', process.platform === 'win32' ? 'platter.cmd' : 'platter');
const MiB = 1024 * 1024;
const sector = 512;

/** A 64 MiB disk: a partition table with one entry, and a "file system" that fills some stretches and leaves others empty. */
function makeDisk(name: string): void {
  const size = 64 * MiB;
  const start = MiB;
  const table = Buffer.alloc(sector);
  table.writeUInt8(0x83, 446 + 4); // a Linux partition
  table.writeUInt32LE(start / sector, 446 + 8);
  table.writeUInt32LE((size - start) / sector, 446 + 12);
  table.writeUInt16LE(0xaa55, 510);
  const file = fs.openSync(name, 'w');
  try {
    fs.ftruncateSync(file, size);
    fs.writeSync(file, table, 0, sector, 0);
    for (const [at, length] of [
      [start, MiB],
      [8 * MiB, 3 * MiB],
      [20 * MiB, 300 * 1024],
      [40 * MiB, 5 * MiB],
    ] as const) {
      const text = `This is the stretch at byte ${at} of the disk.\n`;
      fs.writeSync(file, Buffer.alloc(length, text), 0, length, at);
    }
  } finally {
    fs.closeSync(file);
  }
}

/** Prints the command line, runs it in `folder` and stops at the first failure. */
function run(folder: string, ...args: string[]): void {
  console.log(`\n$ platter ${args.join(' ')}`);
  const { status, signal } = spawnSync(command, args, {
    cwd: folder,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (status !== 0) {
    console.error(`platter ended with ${status ?? signal}`);
    process.exit(1);
  }
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-demo-'));
console.log(
  'Platter has no window yet (it comes later); this is its command at work on a disk that was made just now.',
);
makeDisk(path.join(folder, 'disk.raw'));
run(folder, 'convert', '-O', 'qcow2', 'disk.raw', 'disk.qcow2');
run(folder, 'convert', '-c', '-O', 'qcow2', 'disk.raw', 'small.qcow2');
run(folder, 'info', 'disk.qcow2');
run(folder, 'map', 'disk.qcow2');
run(folder, 'check', 'small.qcow2');
run(folder, 'compare', 'disk.raw', 'small.qcow2');
const bytes = (name: string): string => fs.statSync(path.join(folder, name)).size.toLocaleString('en');
console.log(
  `\nDone: a raw disk of ${bytes('disk.raw')} bytes became a qcow2 image of ${bytes('disk.qcow2')} bytes, compressed ${bytes('small.qcow2')}; the content is the same.`,
);
console.log(`The files are in ${folder}; bin/platter --help lists what else the command does.`);
