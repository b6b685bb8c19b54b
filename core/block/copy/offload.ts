// Copy offloading (`-C`): the host moves the bytes itself, by reflink or in the kernel; what it cannot move is read and written.
import { cloneRange, copyRange } from '../host/transfer.ts';
import type { Place } from '../node.ts';
import { readRun, type Run } from '../read.ts';
import type { GuestOffset } from '../units.ts';
import { writePlace } from '../write.ts';
import type { Piece } from './plan.ts';
import { zeroTarget, type StoreCounts, type StoreRules } from './store.ts';

/** Moves a chunk's pieces from their files straight into the target's. Throws as reading and writing do. */
export function offloadChunk(
  chunk: { readonly start: GuestOffset; readonly pieces: readonly Piece[] },
  rules: StoreRules,
  counts: StoreCounts,
): void {
  const { target } = rules;
  for (const piece of chunk.pieces) {
    if (piece.keep) continue;
    const start = chunk.start + piece.offset;
    if (piece.run === null) {
      zeroTarget(rules, start, piece.length);
      counts.zeroes += piece.length;
      continue;
    }
    let done = 0;
    while (done < piece.length) {
      const place = target.reserve({ start: start + done, length: piece.length - done });
      const length = Math.min(piece.length - done, place.covers.start + place.covers.length - (start + done));
      const whole = place.covers.start === start + done && place.covers.length === length;
      const moved = whole && place.cipher === undefined && moveWhole(piece.run, done, place, length);
      if (moved) place.publish();
      else {
        const bytes = new Uint8Array(done + length);
        readRun(piece.run, bytes);
        writePlace(target, place, bytes.subarray(done), start + done);
      }
      done += length;
    }
    counts.data += piece.length;
  }
}

function moveWhole(run: Run, by: number, place: Place, length: number): boolean {
  const { mapping } = run;
  if (mapping.kind !== 'data' || mapping.cipher !== undefined) return false;
  const from = mapping.offset + by;
  if (cloneRange(mapping.storage, from, place.storage, place.offset, length)) return true;
  let done = 0;
  while (done < length) {
    const count = copyRange(mapping.storage, from + done, place.storage, place.offset + done, length - done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}
