// The thread of one lane: packs and unpacks what it is told to, synchronously, one task after the other.
import { parentPort } from 'node:worker_threads';
import { ImageError, type WireError } from '../../errors/image-error.ts';
import { packInto, unpack, unpackInto } from '../packed.ts';
import type { LaneReply, LaneResult, LaneTask, PackTask, UnpackTask } from './lanes.ts';
import { looksIncompressible } from './sample.ts';

function runUnpack(task: UnpackTask): LaneResult {
  const side = new Uint8Array(task.side);
  const data = new Uint8Array(task.data);
  const faults: { item: number; error: WireError }[] = [];
  task.items.forEach((item, index) => {
    try {
      const stored = side.subarray(item.from, item.from + item.stored);
      const where = { file: item.file, offset: item.offset };
      if (item.length === item.unpacked) {
        unpackInto(task.codec, stored, data.subarray(item.to, item.to + item.length), where);
      } else {
        const whole = unpack(task.codec, stored, item.unpacked, where);
        data.set(whole.subarray(item.skip, item.skip + item.length), item.to);
      }
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      faults.push({ item: index, error: error.toWire() });
    }
  });
  return { lengths: [], faults };
}

function runPack(task: PackTask): LaneResult {
  const side = new Uint8Array(task.side);
  const data = Buffer.from(task.data);
  const lengths: number[] = [];
  let end = 0;
  for (const at of task.at) {
    const unit = data.subarray(at, at + task.unit);
    // What must be packed and gains nothing by it is stored in the codec's plain blocks, which costs next to nothing.
    const hopeless = looksIncompressible(unit);
    const codec = hopeless ? { ...task.codec, level: 0 } : task.codec;
    const room = side.subarray(end, task.always ? side.length : end + task.unit - 1);
    const length = hopeless && !task.always ? null : packInto(codec, unit, room);
    lengths.push(length ?? -1);
    end += length ?? 0;
  }
  return { lengths, faults: [] };
}

parentPort?.on('message', ({ id, task }: { id: number; task: LaneTask }) => {
  let reply: LaneReply;
  try {
    reply = { id, ...(task.kind === 'pack' ? runPack(task) : runUnpack(task)) };
  } catch (error) {
    reply = { id, bug: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
  parentPort?.postMessage(reply);
});
