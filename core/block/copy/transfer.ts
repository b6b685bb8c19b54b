// Overlapped transfers on a descriptor: promises that end when all bytes are there, or with a coded error.
import fs from 'node:fs';
import { fromSystem } from '../../errors/image-error.ts';
import { startWriteback } from '../host/transfer.ts';
import type { Storage } from '../storage.ts';
import { alignDown, type HostOffset, MiB } from '../units.ts';

/** Fills `length` bytes of `into` at `at` from `offset` of `storage`. Throws `storage/read`, `storage/short-read`. */
export function transferIn(
  storage: Storage,
  into: Buffer,
  at: number,
  length: number,
  offset: HostOffset,
): Promise<void> {
  const { descriptor } = storage;
  if (descriptor === null || length <= smallTransfer) {
    return attempt(() => storage.readAt(into.subarray(at, at + length), offset));
  }
  return new Promise((resolve, reject) => {
    const step = (done: number): void => {
      fs.read(descriptor, into, at + done, length - done, offset + done, (error, count) => {
        if (error !== null) reject(coded('storage/read', error, storage, offset + done));
        else if (count === 0) {
          // The file ends here: the storage knows how to say why.
          attempt(() => storage.readAt(into.subarray(at + done, at + length), offset + done)).then(resolve, reject);
        } else if (done + count === length) resolve();
        else step(done + count);
      });
    };
    step(0);
  });
}

/** Writes `pieces` one after the other from `offset` of `storage`. Throws `storage/write`. */
export function transferOut(storage: Storage, pieces: readonly Buffer[], offset: HostOffset): Promise<void> {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const { descriptor } = storage;
  if (descriptor === null || total <= smallTransfer || !storage.writable) {
    return attempt(() => {
      let at = offset;
      for (const piece of pieces) {
        storage.writeAt(piece, at);
        at += piece.length;
      }
    });
  }
  return new Promise((resolve, reject) => {
    const step = (rest: readonly Buffer[], at: HostOffset): void => {
      fs.writev(descriptor, rest, at, (error, count) => {
        if (error !== null) {
          reject(coded('storage/write', error, storage, at));
          return;
        }
        storage.noteWritten?.(at, count);
        if (at + count < offset + total) step(dropBytes(rest, count), at + count);
        else {
          // The disk works while the copy goes on: the flush at the end then finds little left to do.
          const window = alignDown(offset, writebackWindow);
          if (offset + total >= window + writebackWindow) startWriteback(storage, window, writebackWindow);
          resolve();
        }
      });
    };
    step(pieces, offset);
  });
}

/** The disk is set to work on stretches of this size: smaller ones cost the file system more than they gain. */
const writebackWindow = 16 * MiB;

/** Below this a synchronous call costs less than handing the work to another thread. */
const smallTransfer = 16 * 1024;

function attempt(action: () => void): Promise<void> {
  return new Promise((resolve) => {
    action();
    resolve();
  });
}

function coded(code: 'storage/read' | 'storage/write', error: Error, storage: Storage, offset: HostOffset): Error {
  try {
    return fromSystem(code, error, { file: storage.name, offset });
  } catch {
    return error;
  }
}

function dropBytes(pieces: readonly Buffer[], count: number): Buffer[] {
  const rest: Buffer[] = [];
  let drop = count;
  for (const piece of pieces) {
    if (drop >= piece.length) drop -= piece.length;
    else {
      rest.push(drop === 0 ? piece : piece.subarray(drop));
      drop = 0;
    }
  }
  return rest;
}
