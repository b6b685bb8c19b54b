// Everything that a reader, a checker and a writer do with an image, on one mutant in memory. Ends with an answer or an ImageError.
import { MemoryStorage } from '../../core/block/memory.ts';
import { type BlockNode, isWritable } from '../../core/block/node.ts';
import { readGuest, resolve } from '../../core/block/read.ts';
import type { Provision, Storage } from '../../core/block/storage.ts';
import { writeGuest } from '../../core/block/write.ts';
import { ImageError, isImageError } from '../../core/errors/image-error.ts';
import type { FormatDriver, OpenGate } from '../../core/formats/driver.ts';
import { driverNamed, probe } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';

/** A disk of limited size: what grows beyond it is refused as a full disk would. */
class SmallDisk extends MemoryStorage {
  readonly #limit: number;

  constructor(initial: Uint8Array, name: string, limit: number) {
    super(initial, name);
    this.#limit = limit;
  }

  override writeAt(from: Uint8Array, offset: number): void {
    this.#room(offset + from.length);
    super.writeAt(from, offset);
  }

  override truncate(size: number): void {
    this.#room(size);
    super.truncate(size);
  }

  override zeroAt(offset: number, length: number): void {
    this.#room(offset + length);
    super.zeroAt(offset, length);
  }

  override provide(offset: number, length: number, how: Provision): void {
    this.#room(offset + length);
    super.provide(offset, length, how);
  }

  #room(size: number): void {
    if (size <= this.#limit) return;
    throw new ImageError('storage/write', { errno: 'ENOSPC', reason: 'No space left on device' }, { file: this.name });
  }
}

const roomForGrowth = 32 * 1024 * 1024;
const runLimit = 4000;
const readLength = 64 * 1024;

/** Files that the image names: one of zeroes, whatever the name. */
function gateWithoutFiles(): OpenGate {
  const gate: OpenGate = {
    openImage: () =>
      driverNamed('raw').open(zeroes('below'), {
        writable: false,
        gate,
        withBacking: true,
        runtime: {},
        forRepair: false,
      }),
    openFile: () => zeroes('extent'),
  };
  return gate;
}

function zeroes(name: string): Storage {
  return new SmallDisk(new Uint8Array(1024 * 1024), name, roomForGrowth);
}

/** Swallows an ImageError, which is an answer; anything else is a finding and goes on. */
function answer(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (!isImageError(error)) throw error;
    return false;
  }
}

/** Throws whatever is not an ImageError. */
export function exercise(driver: FormatDriver, bytes: Uint8Array, writing: boolean): void {
  probe(bytes.subarray(0, 64 * 1024), bytes.subarray(Math.max(0, bytes.length - 1024)));
  const open = (writable: boolean, forRepair: boolean): BlockNode =>
    driver.open(new SmallDisk(bytes, 'mutant', bytes.length + roomForGrowth), {
      writable,
      gate: gateWithoutFiles(),
      withBacking: true,
      runtime: {},
      forRepair,
    });
  answer(() => look(driver, open(false, false)));
  answer(() => check(driver, open(false, true)));
  if (writing) answer(() => change(open(true, false)));
}

function look(driver: FormatDriver, node: BlockNode): void {
  answer(() => driver.facts(node));
  answer(() => {
    let runs = 0;
    for (const run of resolve(node)) {
      if (runs++ > runLimit) break;
      if (runs % 16 === 0) answer(() => read(node, run.start, Math.min(run.length, readLength)));
    }
  });
  for (const start of [0, Math.floor(node.size / 2), Math.max(0, node.size - readLength)]) {
    answer(() => read(node, start, Math.min(readLength, node.size - start)));
  }
  answer(() => {
    let regions = 0;
    for (const region of driver.regions(node)) {
      if (regions++ > runLimit) break;
      if (regions < 50) region.annotate({ start: region.start, length: Math.min(region.length, 4096) });
    }
  });
  if (driver.snapshots !== undefined) {
    const { snapshots } = driver;
    answer(() => {
      for (const { id } of snapshots.list(node).slice(0, 4)) {
        answer(() => {
          const view = snapshots.open(node, id);
          answer(() => read(view, 0, Math.min(readLength, view.size)));
          view.close();
        });
      }
    });
  }
  node.close();
}

function read(node: BlockNode, start: number, length: number): void {
  readGuest(node, new Uint8Array(length), start);
}

function check(driver: FormatDriver, node: BlockNode): void {
  if (driver.check !== undefined) {
    const findings = driver.check(node, silentJob);
    while (findings.next().done !== true);
  }
  node.close();
}

function change(node: BlockNode): void {
  if (isWritable(node)) {
    const { size } = node;
    for (const start of [0, Math.floor(size / 3), Math.max(0, size - 70_000)]) {
      const length = Math.min(70_000, size - start);
      answer(() => writeGuest(node, new Uint8Array(length).fill(0x5a), start));
    }
    answer(() => node.zero({ start: 0, length: Math.min(size, 1024 * 1024) }));
    answer(() => node.flush());
  }
  node.close();
}
