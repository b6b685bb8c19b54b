// Any host, with nothing but Node: every byte is data, nothing is punched, shared or locked.
import fs from 'node:fs';
import type { HostCalls } from './calls.ts';

/** The calls of a host where koffi does not load. */
export const fallbackCalls: HostCalls = {
  name: 'fallback',
  extentAt: () => null,
  punchHole: () => false,
  zeroRange: () => false,
  allocate: () => false,
  cloneRange: () => false,
  copyRange: () => 0,
  startWriteback: () => {},
  dropCache: () => {},
  adviseSequential: () => {},
  shapeNew: () => {},
  lock: () => null,
  deviceSize: sizeByReading,
  deviceSectorSize: () => 512,
  zeroDevice: () => false,
};

/** The size of a device found by reading single bytes: doubling until nothing comes, then halving the gap; some 100 reads. */
function sizeByReading(descriptor: number): number {
  const byte = new Uint8Array(1);
  const isThere = (offset: number): boolean => fs.readSync(descriptor, byte, 0, 1, offset) === 1;
  if (!isThere(0)) return 0;
  let there = 0;
  let beyond = 512;
  while (isThere(beyond) && beyond < 2 ** 52) {
    there = beyond;
    beyond *= 2;
  }
  while (beyond - there > 1) {
    const middle = there + Math.floor((beyond - there) / 2);
    if (isThere(middle)) there = middle;
    else beyond = middle;
  }
  return beyond;
}
