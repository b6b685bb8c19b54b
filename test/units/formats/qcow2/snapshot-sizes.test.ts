// What deleting a snapshot gives back, as it is foretold: against the refcounts that are left when qemu-img deletes it.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { qcow2 } from '../../../../core/formats/qcow2/driver.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { describeWith, mustRun } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';

/** Clusters whose refcount (16 bits) is not zero. */
function counted(file: string, clusterSize: number): number {
  const bytes = fs.readFileSync(file);
  const table = Number(bytes.readBigUInt64BE(48));
  const entries = (bytes.readUInt32BE(56) * clusterSize) / 8;
  let count = 0;
  for (let index = 0; index < entries; index++) {
    const block = Number(bytes.readBigUInt64BE(table + index * 8));
    if (block === 0) continue;
    for (let at = block; at < block + clusterSize; at += 2) if (bytes.readUInt16BE(at) !== 0) count++;
  }
  return count;
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'the size of a snapshot', () => {
  const folder = scratchFolder('snapshot-sizes');
  const sizesOf = (file: string, until = Infinity) => {
    const { node } = openImage(file, {});
    try {
      return qcow2.snapshots?.sizes?.(node, 100, until) ?? [];
    } finally {
      node.close();
    }
  };

  it.each([
    ['plain', 'cluster_size=4k', 4096],
    ['with subclusters', 'cluster_size=16k,extended_l2=on', 16384],
  ])('is what qemu-img gives back: %s', (name, options, clusterSize) => {
    const file = path.join(folder, `${name}.qcow2`);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, file, '32M']);
    const io = (...commands: string[]) => mustRun('qemu-io', [...commands.flatMap((one) => ['-c', one]), file]);
    io('write -P 1 0 4M', 'write -c -P 2 8M 64k', 'write -c -P 3 8256k 64k');
    mustRun('qemu-img', ['snapshot', '-c', 'first', file]);
    io('write -P 4 0 1M', 'write -P 5 20M 512k', 'write -P 6 8M 64k');
    mustRun('qemu-img', ['snapshot', '-c', 'second', file]);
    io('discard 20M 512k', 'write -P 7 3M 2M');
    mustRun('qemu-img', ['snapshot', '-c', 'third', file]);
    const sizes = sizesOf(file);
    expect(sizes.map(({ id }) => id)).toEqual(['1', '2', '3']);
    for (const [index, title] of ['first', 'second', 'third'].entries()) {
      const copy = path.join(folder, `${name}-${title}.qcow2`);
      fs.copyFileSync(file, copy);
      mustRun('qemu-img', ['snapshot', '-d', title, copy]);
      const given = (counted(file, clusterSize) - counted(copy, clusterSize)) * clusterSize;
      expect(sizes[index]?.freed, title).toBe(given);
      expect(given).toBeGreaterThan(0);
    }
  });

  it('is not known where there is no time to find out', () => {
    const file = path.join(folder, 'plain.qcow2');
    expect(sizesOf(file, 0).map(({ freed }) => freed)).toEqual([null, null, null]);
  });
});
