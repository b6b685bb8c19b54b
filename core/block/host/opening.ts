// Opening a file or a block device and nothing else, without ever waiting for somebody.
import fs from 'node:fs';
import { fromSystem, ImageError } from '../../errors/image-error.ts';

export interface OpeningOptions {
  readonly writable: boolean;
  readonly create?: 'new' | undefined;
  readonly mode?: number | undefined;
}

/** An open descriptor and what stands behind it. `size` is that of the file; a device must be asked. */
export interface Opened {
  readonly descriptor: number;
  readonly size: number;
  readonly device: boolean;
  readonly identity: string;
}

/** Looks at what the name stands for, opens it without waiting, and looks again: in between it may have become something else. */
export function openChecked(path: string, name: string, options: OpeningOptions, extraFlags: number): Opened {
  // Such a name can stand in an image; the system would cut it at the zero.
  if (path.includes('\0')) {
    throw new ImageError('storage/open', { errno: 'EINVAL', reason: 'Invalid argument' }, { file: name });
  }
  let descriptor: number | null = null;
  try {
    if (options.create !== 'new') refuseOthers(fs.statSync(path), name);
    const access = options.writable || options.create === 'new' ? openFlag('O_RDWR') : openFlag('O_RDONLY');
    const create = options.create === 'new' ? openFlag('O_CREAT') | openFlag('O_EXCL') : 0;
    const flags = access | create | extraFlags | openFlag('O_NONBLOCK') | openFlag('O_NOCTTY');
    descriptor = fs.openSync(path, flags, options.mode ?? 0o666);
    const stat = fs.fstatSync(descriptor, { bigint: true });
    refuseOthers(stat, name);
    const device = stat.isBlockDevice();
    return { descriptor, size: Number(stat.size), device, identity: identityOf(stat) };
  } catch (error) {
    if (descriptor !== null) fs.closeSync(descriptor);
    throw fromSystem('storage/open', error, { file: name });
  }
}

function refuseOthers(stat: fs.Stats | fs.BigIntStats, name: string): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  if (stat.isDirectory()) throw new ImageError('storage/directory', { name }, { file: name });
  const found = stat.isFIFO()
    ? 'a named pipe'
    : stat.isSocket()
      ? 'a socket'
      : stat.isCharacterDevice()
        ? 'a character device'
        : 'something else';
  throw new ImageError('storage/not-a-file', { name, found }, { file: name });
}

/** A flag of `open`; 0 where the host has no such flag. */
export function openFlag(name: keyof typeof fs.constants & `O_${string}`): number {
  const value: number | undefined = fs.constants[name];
  return value ?? 0;
}

/** The same for two names of one file: what a storage calls `identity`. */
function identityOf(stat: fs.BigIntStats): string {
  return stat.isBlockDevice() ? `device:${stat.rdev}` : `${stat.dev}:${stat.ino}`;
}

/** The identity of what a name leads to, without opening it; null where nothing can be seen. */
export function identityOfName(path: string): string | null {
  try {
    return identityOf(fs.statSync(path, { bigint: true }));
  } catch {
    return null; // opening it will say why
  }
}
