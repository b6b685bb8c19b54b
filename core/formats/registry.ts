// The drivers in the order in which they are asked whether a file is theirs; raw takes what is left.
import type { Storage } from '../block/storage.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver } from './driver.ts';
import { isForeignName, refuseForeign, refuseForeignName } from './foreign.ts';
import { luks } from './luks/driver.ts';
import { ovaDriver } from './ova/driver.ts';
import { qcow } from './qcow/driver.ts';
import { qcow2 } from './qcow2/driver.ts';
import { qed } from './qed/driver.ts';
import { raw } from './raw/driver.ts';
import { vdi } from './vdi/driver.ts';
import { vhd } from './vhd/driver.ts';
import { vhdx } from './vhdx/driver.ts';
import { vmdk } from './vmdk/driver.ts';

const drivers: readonly FormatDriver[] = [
  vhd,
  qcow2,
  luks,
  qcow,
  vhdx,
  vmdk,
  vdi,
  qed,
  ovaDriver((storage, format) => (format === null ? probeStorage(storage) : driverNamed(format))),
  raw,
];

const headLength = 64 * 1024;
const tailLength = 1024;

export function allDrivers(): readonly FormatDriver[] {
  return drivers;
}

/** The driver called `name`, or null. */
export function findDriver(name: string): FormatDriver | null {
  return drivers.find((driver) => driver.id === name) ?? null;
}

/** Names that QEMU has for what is no format: an image may say them of the layer below. */
const hostDrivers: readonly string[] = ['file', 'host_device', 'host_cdrom'];

/** May `name` stand in an image as the format of the layer below, whether it is opened here or not? */
export function isFormatName(name: string): boolean {
  return findDriver(name) !== null || isForeignName(name) || hostDrivers.includes(name);
}

/** The driver called `name`. Throws `format/unknown`, `format/foreign-name`. */
export function driverNamed(name: string): FormatDriver {
  const driver = findDriver(name);
  if (driver === null) refuseForeignName(name);
  if (driver === null) throw new ImageError('format/unknown', { name });
  return driver;
}

/**
 * The driver whose format these first and last bytes are. A guest decides how its disk begins and ends: a fixed VHD may look like
 * qcow2 from the front, a qcow2 like a VHD from behind. Where two formats claim a file nothing is guessed: `format/ambiguous`. What is
 * known by name only is refused: `format/foreign`.
 */
export function probe(head: Uint8Array, tail: Uint8Array, size?: number): FormatDriver {
  const [first, second] = drivers.filter((driver) => driver.probe(head, tail, size));
  if (first !== undefined && second !== undefined) {
    throw new ImageError('format/ambiguous', { first: first.id, second: second.id });
  }
  if (first === undefined) refuseForeign(head, tail, size ?? head.length);
  return first ?? raw;
}

/** The driver for the content of `storage`. Throws as `probe`, and `storage/*`. */
export function probeStorage(storage: Storage): FormatDriver {
  const head = new Uint8Array(Math.min(headLength, storage.size));
  storage.readAt(head, 0);
  const tail = new Uint8Array(Math.min(tailLength, storage.size));
  storage.readAt(tail, storage.size - tail.length);
  return probe(head, tail, storage.size);
}

/** The driver called `name`, for a new image. Throws `format/unknown-output`, `format/no-create` for foreign formats. */
export function createDriverNamed(name: string): FormatDriver {
  const driver = findDriver(name);
  if (driver === null && isForeignName(name)) throw new ImageError('format/no-create', { name });
  if (driver === null) throw new ImageError('format/unknown-output', { name });
  return driver;
}
