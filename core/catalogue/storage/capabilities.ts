// What the file system under a folder can do: found out by trying it there, with files of a few blocks that are removed again.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { host } from '../../block/host/host.ts';
import { KiB, MiB, TiB } from '../../block/units.ts';
import type { StorageDevice } from './devices.ts';

/** Yes, no, or null: could not be tried. Sizes in bytes. */
export interface Capabilities {
  readonly writable: boolean;
  /** Other machines may have it mounted too. */
  readonly shared: boolean;
  readonly sparse: boolean | null;
  readonly holePunching: boolean | null;
  readonly reflink: boolean | null;
  /** Space can be reserved without being written: thick disks are made at once and zeroed when they are used. */
  readonly lazyThick: boolean | null;
  readonly directIo: boolean | null;
  readonly atomicReplace: boolean | null;
  readonly caseSensitive: boolean | null;
  /** The largest file that could be made, at most 64 TiB are tried. */
  readonly maxFileSize: number | null;
}

const unknown = {
  sparse: null,
  holePunching: null,
  reflink: null,
  lazyThick: null,
  directIo: null,
  atomicReplace: null,
  caseSensitive: null,
  maxFileSize: null,
};

/** Tries everything in `folder`. A folder that cannot be written says only that. Never throws; leaves nothing behind. */
export function probeCapabilities(folder: string, device: StorageDevice | null): Capabilities {
  const shared = device !== null && ['nas', 'san', 'distributed'].includes(device.resource);
  const name = path.join(folder, `.platter-probe-${crypto.randomBytes(6).toString('hex')}`);
  const descriptors: number[] = [];
  const open = (file: string): number => {
    const descriptor = fs.openSync(file, 'wx+', 0o600);
    descriptors.push(descriptor);
    return descriptor;
  };
  try {
    const file = open(name);
    const copy = open(`${name}-b`);
    return {
      writable: true,
      shared,
      sparse: attempt(() => isSparse(file)),
      holePunching: attempt(() => punches(file)),
      reflink: attempt(() => host().cloneRange(file, 0, copy, 0, MiB)),
      lazyThick: attempt(() => reserves(copy)),
      directIo: attempt(() => directIo(name)),
      atomicReplace: attempt(() => replaces(name)),
      caseSensitive: attempt(() => !fs.existsSync(path.join(folder, path.basename(name).toUpperCase()))),
      maxFileSize: attempt(() => largestFile(copy)),
    };
  } catch {
    return { writable: false, shared, ...unknown };
  } finally {
    for (const descriptor of descriptors) fs.closeSync(descriptor);
    for (const ending of ['', '-b', '-c']) fs.rmSync(name + ending, { force: true });
  }
}

function attempt<Result>(trial: () => Result): Result | null {
  try {
    return trial();
  } catch {
    return null;
  }
}

const allocated = (file: number): number => fs.fstatSync(file).blocks * 512;

function isSparse(file: number): boolean {
  fs.ftruncateSync(file, 4 * MiB);
  return allocated(file) < MiB;
}

function punches(file: number): boolean {
  fs.writeSync(file, Buffer.alloc(2 * MiB, 1), 0, 2 * MiB, 0);
  fs.fsyncSync(file);
  const before = allocated(file);
  if (!host().punchHole(file, MiB, MiB)) return false;
  return allocated(file) < before;
}

function reserves(file: number): boolean {
  return host().allocate(file, 0, 4 * MiB) && allocated(file) >= 4 * MiB;
}

/** One sector-aligned page around the host's cache. */
function directIo(name: string): boolean {
  const { O_DIRECT } = fs.constants as { O_DIRECT?: number };
  if (O_DIRECT === undefined) return false;
  let file: number;
  try {
    file = fs.openSync(name, fs.constants.O_RDONLY | O_DIRECT);
  } catch {
    return false;
  }
  fs.closeSync(file);
  return true;
}

function replaces(name: string): boolean {
  fs.writeFileSync(`${name}-c`, 'new');
  fs.renameSync(`${name}-c`, `${name}-b`);
  return fs.readFileSync(`${name}-b`, 'utf8') === 'new';
}

/** Sizes where file systems end: FAT (4 GiB − 1), ext4 with small and usual blocks, ours. */
const sizes = [4 * MiB * KiB - 1, 2 * TiB, 16 * TiB - 4 * KiB, 64 * TiB];

function largestFile(file: number): number {
  let largest = 0;
  for (const size of sizes) {
    try {
      fs.ftruncateSync(file, size);
      largest = size;
    } catch {
      break;
    }
  }
  fs.ftruncateSync(file, 0);
  return largest;
}
