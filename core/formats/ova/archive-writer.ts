// Our own archive: descriptor, manifest, disk, in this order. The disk is written in its place; what stands before it has room and is filled in at the end.
import crypto from 'node:crypto';
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { manifestLine } from './manifest.ts';
import { blockSize } from './spec.ts';
import { fileHeader } from './tar-header.ts';

const algorithm = 'SHA256';

/** Where everything is. `descriptorRoom`: bytes of the descriptor, blanks at its end included. */
export interface ArchivePlan {
  readonly descriptorName: string;
  readonly diskName: string;
  readonly descriptorRoom: number;
}

/** Byte of the archive where the disk begins. */
export function diskStart(plan: ArchivePlan): HostOffset {
  return 3 * blockSize + plan.descriptorRoom + alignUp(manifestOf(plan, '', '').length, blockSize);
}

/** Room for the descriptor: whole blocks, so that only the text is followed by blanks. */
export function roomFor(longestText: string): number {
  return alignUp(Buffer.byteLength(longestText) + 1, blockSize);
}

function manifestOf(plan: ArchivePlan, descriptorDigest: string, diskDigest: string): Buffer {
  const line = (name: string, digest: string): string =>
    manifestLine({ name, algorithm, digest: digest.padEnd(64, '0') });
  return Buffer.from(line(plan.descriptorName, descriptorDigest) + line(plan.diskName, diskDigest));
}

/**
 * Writes all but the disk, whose `diskSize` bytes are in their place already and have this SHA-256, and the end of the archive behind it.
 * Throws `ova/descriptor-room`, `storage/*`.
 */
export function finishArchive(
  storage: Storage,
  plan: ArchivePlan,
  end: { readonly text: string; readonly diskSize: number; readonly diskDigest: string },
): void {
  const text = Buffer.from(end.text.trimEnd());
  if (text.length >= plan.descriptorRoom) throw new ImageError('ova/descriptor-room', {}, { file: storage.name });
  const descriptor = Buffer.alloc(plan.descriptorRoom, ' ');
  descriptor.set(text);
  descriptor.write('\n', descriptor.length - 1);
  const digest = crypto.createHash('sha256').update(descriptor).digest('hex');
  const manifest = manifestOf(plan, digest, end.diskDigest);
  const before = Buffer.alloc(diskStart(plan));
  let at = 0;
  const put = (bytes: Uint8Array): void => {
    before.set(bytes, at);
    at = alignUp(at + bytes.length, blockSize);
  };
  put(fileHeader(plan.descriptorName, descriptor.length));
  put(descriptor);
  put(fileHeader(plan.descriptorName.replace(/\.ovf$/, '.mf'), manifest.length));
  put(manifest);
  put(fileHeader(plan.diskName, end.diskSize));
  storage.writeAt(before, 0);
  const diskEnd = diskStart(plan) + end.diskSize;
  // Padding of the last block, then two blocks of zeroes.
  const tail = new Uint8Array(alignUp(diskEnd, blockSize) - diskEnd + 2 * blockSize);
  storage.writeAt(tail, diskEnd);
  storage.truncate(diskEnd + tail.length);
}
