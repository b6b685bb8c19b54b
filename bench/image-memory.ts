// What the threads of one open image take of memory: each view of a very large image in a process of its own, the peak above what the process
// held before it opened the image.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ImageHost } from '../core/workbench/images/image-host.ts';
import type { MapAnswer } from '../core/workbench/images/image-thread.ts';
import type { MapLayer } from '../core/workbench/map/classes.ts';
import { levelFor } from '../core/workbench/map/tile.ts';

const views: readonly (readonly [file: string, view: string, layer: MapLayer])[] = [
  ['small.qcow2', 'guest', 'state'],
  ['full-1T.qcow2', 'guest', 'state'],
  ['full-1T.qcow2', 'guest', 'shared'],
  ['full-1T.qcow2', 'file', 'kinds'],
  ['sparse-64T.vhdx', 'guest', 'state'],
  ['sparse-64T.vhdx', 'file', 'kinds'],
];

/** Megabytes that the kernel says of this process. */
function memory(field: 'VmRSS' | 'VmHWM'): number {
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(fs.readFileSync('/proc/self/status', 'utf8'))?.[1];
  return Number(kilobytes) / 1000;
}

/** The map at several scales and windows of bytes over all of the image, as somebody asks who looks around in it. */
async function lookAround(file: string, view: string, layer: MapLayer): Promise<void> {
  const host = new ImageHost({ roots: null, readOnly: true });
  const before = memory('VmRSS');
  const { id, guestSize, files, mapUnits } = await host.open(
    { path: file, format: null, trust: 'files', allow: [], secret: null },
    {},
    true,
  );
  const [size, unit] = view === 'guest' ? [guestSize, mapUnits.guest] : [files[0]?.length ?? 0, mapUnits.file];
  const cells = 4096;
  for (let level = levelFor(size, unit, cells); level >= 0; level -= 3) {
    for (let exact = false; !exact;) {
      const tile = (await host.askUntil(undefined, id, 'map', view, layer, { level, first: 0, cells })) as MapAnswer;
      exact = tile.refined;
    }
    const start = Math.min(size - 65536, unit * 2 ** level * cells);
    await host.askUntil(undefined, id, 'annotations', view, start, 65536);
    await host.askUntil(undefined, id, 'bytes', view, start, 65536);
  }
  console.log(String(Math.round(memory('VmHWM') - before)));
  await host.closeAll();
}

const [, , folder, name, view, layer] = process.argv;
if (folder !== undefined && name !== undefined && view !== undefined && layer !== undefined) {
  await lookAround(path.join(folder, name), view, layer as MapLayer);
} else {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-bench-memory-'));
  const create = (...args: string[]): void => void execFileSync('qemu-img', ['create', '-q', ...args], { cwd: work });
  create('-f', 'qcow2', 'small.qcow2', '64M');
  create('-f', 'qcow2', '-o', 'preallocation=metadata', 'full-1T.qcow2', '1T');
  create('-f', 'vhdx', 'sparse-64T.vhdx', '64T');
  console.log('| image, view, layer | both threads, at most | target for each |\n| --- | --- | --- |');
  for (const one of views) {
    const peak = execFileSync(process.execPath, [import.meta.filename, work, ...one], { encoding: 'utf8' }).trim();
    console.log(`| ${one.join(', ')} | ${peak} MB | ≤ 200 MB |`);
  }
  fs.rmSync(work, { recursive: true, force: true });
}
