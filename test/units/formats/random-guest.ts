// A guest that writes, zeroes and discards at random, with a plain buffer that gets the same.
import type { WritableNode } from '../../../core/block/node.ts';
import { readGuest } from '../../../core/block/read.ts';
import { writeGuest } from '../../../core/block/write.ts';
import { difference, positionCoded } from '../../position-coded.ts';
import type { SeededRandom } from '../../seeded-random.ts';

export interface GuestOptions {
  readonly random: SeededRandom;
  /** Number that its bytes carry. */
  readonly layer: number;
  readonly steps: number;
  /** Longest write in bytes. */
  readonly longest: number;
  /** Offsets and lengths are multiples of this. Default 1. */
  readonly align?: number;
  /** It zeroes and discards too; what the node leaves undone it writes. Default true. */
  readonly zeroes?: boolean;
  /** What a discarded byte reads as: that of the layer below. Default zeroes. */
  readonly below?: Uint8Array;
}

/** Does `steps` random things to `node`, whose content `model` follows; reads back between them. Throws with the origin of a wrong byte. */
export function guestAtWork(node: WritableNode, model: Uint8Array, options: GuestOptions): void {
  const { random, layer, align = 1 } = options;
  for (let step = 0; step < options.steps; step++) {
    const start = random.below(Math.floor(node.size / align)) * align;
    const longest = random.oneIn(4) ? options.longest : Math.min(options.longest, 16 * 512);
    const length = Math.min(node.size - start, (1 + random.below(Math.ceil(longest / align))) * align);
    const deed = options.zeroes === false ? 0 : random.below(8);
    if (deed === 1) zero(node, model, start, length, random.oneIn(3));
    else if (deed === 2) discard(node, model, start, length, options.below);
    else {
      const bytes = positionCoded(start, length, layer);
      writeGuest(node, bytes, start);
      model.set(bytes, start);
    }
    if (random.oneIn(16)) node.flush();
    if (random.oneIn(8)) compareSome(node, model, random);
  }
}

function zero(node: WritableNode, model: Uint8Array, start: number, length: number, keepSpace: boolean): void {
  model.fill(0, start, start + length);
  for (let at = start; at < start + length;) {
    const done = node.zero({ start: at, length: start + length - at }, keepSpace);
    if (done !== null && (done.start !== at || done.length <= 0))
      throw new Error(`zeroed ${done.start}+${done.length}`);
    const next = done === null ? Math.min(start + length, at - (at % 512) + 512) : at + done.length;
    if (done === null) writeGuest(node, new Uint8Array(next - at), at);
    at = next;
  }
}

function discard(node: WritableNode, model: Uint8Array, start: number, length: number, below?: Uint8Array): void {
  const done = node.release({ start, length });
  if (done === null) return;
  if (done.start !== start || done.length <= 0 || done.length > length) throw new Error(`gave back ${done.start}`);
  if (below === undefined) model.fill(0, start, start + done.length);
  else {
    model.fill(0, start, start + done.length);
    model.set(below.subarray(start, start + done.length), start);
  }
}

function compareSome(node: WritableNode, model: Uint8Array, random: SeededRandom): void {
  const start = random.below(node.size);
  const length = Math.min(node.size - start, 1 + random.below(100_000));
  const found = new Uint8Array(length);
  readGuest(node, found, start);
  const wrong = difference(found, model.subarray(start, start + length), start);
  if (wrong !== null) throw new Error(wrong);
}
