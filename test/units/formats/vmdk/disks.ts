// Images for the tests of vmdk: made by our own create, by qemu-img, or byte by byte where no program here makes such a one.
import fs from 'node:fs';
import path from 'node:path';
import { openFile } from '../../../../core/block/file.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../../../core/block/node.ts';
import { pack } from '../../../../core/block/packed.ts';
import { readGuest } from '../../../../core/block/read.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { OptionValue } from '../../../../core/formats/driver.ts';
import { openImage, type OpenOptions } from '../../../../core/formats/open.ts';
import { vmdk } from '../../../../core/formats/vmdk/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { mustRun, runPeer } from '../../../peers.ts';
import { difference } from '../../../position-coded.ts';
import type { SeededRandom } from '../../../seeded-random.ts';

export const KiB = 1024;
export const MiB = 1024 * KiB;

export interface NewDisk {
  readonly size: number;
  readonly options?: Readonly<Record<string, OptionValue>>;
  /** A parent in the same folder. */
  readonly parent?: string;
}

/** Creates an image by our driver, in real files. */
export function createDisk(folder: string, name: string, disk: NewDisk): string {
  const file = path.join(folder, name);
  const make = (at: string) => openFile(at, { writable: true, lock: 'none', create: 'new' });
  const storage = make(file);
  const siblings: ReturnType<typeof make>[] = [];
  let parent: BlockNode | null = null;
  try {
    const { parent: parentName } = disk;
    if (parentName !== undefined) parent = openImage(path.join(folder, parentName), { format: 'vmdk' }).node;
    const below = parent;
    vmdk.create?.({
      storage,
      name: file,
      size: disk.size,
      options: disk.options ?? {},
      backing: parentName === undefined ? null : { path: parentName, format: 'vmdk' },
      ...(below === null ? {} : { openBacking: () => below }),
      createFile(sibling) {
        const made = make(path.join(folder, sibling));
        siblings.push(made);
        return made;
      },
      job: silentJob,
    });
  } finally {
    storage.close();
    for (const sibling of siblings) sibling.close();
    parent?.close();
  }
  return file;
}

export function openNode(file: string, options: OpenOptions = {}): BlockNode {
  return openImage(file, { format: 'vmdk', ...options }).node;
}

export function openWritable(file: string, options: OpenOptions = {}): WritableNode {
  const node = openNode(file, { ...options, writable: true });
  if (!isWritable(node)) throw new Error('it was opened read-only');
  return node;
}

export function contentOf(node: BlockNode): Uint8Array {
  const bytes = new Uint8Array(node.size);
  readGuest(node, bytes, 0);
  return bytes;
}

/** Packs each grain of `content` that is not all zero and gives it to the image in order. */
export function writePacked(node: WritableNode, content: Uint8Array): void {
  const { packed } = node;
  if (packed === undefined) throw new Error('the image takes no packed grains');
  for (let start = 0; start < content.length; start += packed.unit) {
    const unit = new Uint8Array(packed.unit);
    unit.set(content.subarray(start, start + packed.unit));
    if (unit.every((byte) => byte === 0)) continue;
    const reserved = packed.reservePacked(start, pack(packed.codec, unit));
    if (reserved === null) throw new Error('a stream must take every grain');
    reserved.place.storage.writeAt(reserved.bytes, reserved.place.offset);
    reserved.place.publish();
  }
}

/** What qemu-img reads out of the image, layers below included. */
export function readByQemu(file: string): Uint8Array {
  const out = `${file}.by-qemu.raw`;
  mustRun('qemu-img', ['convert', '-f', 'vmdk', '-O', 'raw', file, out]);
  const bytes = fs.readFileSync(out);
  fs.rmSync(out);
  return bytes;
}

/** What 7-Zip reads out of it. */
export function readBySevenZip(file: string): Uint8Array {
  const folder = fs.mkdtempSync(`${file}.7z-`);
  try {
    const { status, stdout, stderr } = runPeer('7z', ['x', '-y', '-tvmdk', `-o${folder}`, file], {
      cwd: path.dirname(file),
    });
    if (status !== 0) throw new Error(`7z: exit ${status}: ${stdout} ${stderr}`);
    const [name] = fs.readdirSync(folder);
    return fs.readFileSync(path.join(folder, name ?? ''));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** Null, or where the bytes that qemu-img reads differ. */
export function wrongByQemu(file: string, expected: Uint8Array): string | null {
  return difference(readByQemu(file).subarray(0, expected.length), expected);
}

/** Exit status 0 and no words: what `qemu-img check` must say. */
export function checkByQemu(file: string): string {
  const { status, stdout, stderr } = runPeer('qemu-img', ['check', '-f', 'vmdk', file]);
  return status === 0 ? '' : `exit ${status}: ${stdout}${stderr}`;
}

/** What our own check says, one line each. */
export function checkByUs(file: string): string[] {
  const node = openNode(file, { forRepair: true });
  try {
    return [...(vmdk.check?.(node, silentJob) ?? [])].map(({ severity, text }) => `${severity}: ${text}`);
  } finally {
    node.close();
  }
}

/** The whole of every file must be told, once. Null: it is. */
export function wrongRegions(node: BlockNode): string | null {
  for (const { role, storage } of node.files) {
    let end = 0;
    for (const region of vmdk.regions(node, role)) {
      if (region.start !== end || region.length <= 0) return `${role}: ${region.label} at ${region.start}, not ${end}`;
      end = region.start + region.length;
      for (const row of region.annotate({ start: region.start, length: 600 })) {
        const inside = row.start + row.length > region.start && row.start < end;
        if (!inside) return `${role}: ${row.field} at ${row.start} is outside of ${region.label}`;
      }
    }
    if (end !== storage.size) return `${role}: the regions end at ${end}, the file at ${storage.size}`;
  }
  return null;
}

/** Writes, zeroes and gives back at random; `model` gets the same. Nothing lies below. */
export function changeAtRandom(node: WritableNode, model: Uint8Array, random: SeededRandom, count: number): void {
  for (let i = 0; i < count; i++) {
    const start = random.below(model.length);
    const length = Math.min(model.length - start, 1 + random.below(300 * KiB));
    const kind = random.below(6);
    if (kind < 4) {
      const bytes = new Uint8Array(length).fill(1 + random.below(255));
      writeGuest(node, bytes, start);
      model.set(bytes, start);
    } else {
      const grain = start - (start % (64 * KiB));
      const range = { start: grain, length: Math.min(model.length - grain, 192 * KiB) };
      const done = kind === 4 ? node.zero(range) : node.release(range);
      if (done !== null) model.fill(0, done.start, done.start + done.length);
    }
    if (random.oneIn(5)) node.flush();
  }
}
