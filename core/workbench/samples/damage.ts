// Damage on purpose: a qcow2 image as a crash may leave it, with clusters that nobody uses and one that is used and not counted.
import fs from 'node:fs';
import { headerV3 } from '../../formats/qcow2/spec.ts';

/** Clusters that are counted as used and that nothing points to. */
export const lostClusters = 3;

/**
 * Damages the image at `file`: a qcow2 of version 3 with refcounts of 16 bits, whose refcounts fit one block, as `create` makes a small one.
 * `qemu-img check` finds `lostClusters` leaks and two corruptions: a cluster in use whose refcount is 0, and its mark "refcount is exactly one".
 */
export function damage(file: string): void {
  const descriptor = fs.openSync(file, 'r+');
  try {
    const read = (at: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      fs.readSync(descriptor, bytes, 0, length, at);
      return bytes;
    };
    const offset = (at: number): number => Number(read(at, 8).readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
    const header = headerV3.parse(read(0, headerV3.size), { file });
    const cluster = 2 ** header.cluster_bits;
    const refcounts = offset(header.refcount_table_offset);
    const setRefcount = (index: number, count: number): void => {
      fs.writeSync(descriptor, Buffer.from([count >> 8, count & 0xff]), 0, 2, refcounts + index * 2);
    };
    const clusters = Math.ceil(fs.fstatSync(descriptor).size / cluster);
    for (let n = 0; n < lostClusters; n++) setRefcount(clusters + n, 1);
    fs.ftruncateSync(descriptor, (clusters + lostClusters) * cluster);
    setRefcount(firstData(read(offset(header.l1_table_offset), cluster)) / cluster, 0);
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Where the first cluster of guest data that an L2 table points to lies. */
function firstData(table: Buffer): number {
  for (let at = 0; at < table.length; at += 8) {
    const found = Number(table.readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n);
    if (found !== 0) return found;
  }
  throw new Error('the image to be damaged holds nothing');
}
