// The walk of docs/seeing.md as a person goes it, and what qemu-img says of it: a leak, a chain of five, two snapshots.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { graveFaults } from './grave-faults.ts';
import { makeSeenImages, walkChain, walkLeak, walkSnapshots, type SeenImages } from './seeing-walk.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'the walk through images', () => {
  const folder = quickFolder('seeing');
  const disks = path.join(folder, 'disks');
  let images: SeenImages;
  let page: Page;

  const bench = useBench(folder, {
    stores: ['disks'],
    prepare() {
      images = makeSeenImages(disks);
    },
  });
  beforeAll(() => {
    ({ page } = bench());
  });
  /** Every place that is worth a picture is one that axe has nothing against. */
  const look = async (name: string): Promise<void> => {
    expect(await graveFaults(page), name).toEqual([]);
  };
  /** 0: nothing is wrong; 3: leaks. */
  const verdict = (name: string): number | null => spawnSync('qemu-img', ['check', path.join(disks, name)]).status;

  it('a leaked cluster: to its refcount, back, and repaired on a copy', async () => {
    expect(verdict('crashed.qcow2')).toBe(3);
    const before = fs.readFileSync(path.join(disks, 'crashed.qcow2'));
    await walkLeak(page, images, look);
    expect(verdict('crashed-repaired.qcow2')).toBe(0);
    expect(fs.readFileSync(path.join(disks, 'crashed.qcow2')).equals(before)).toBe(true);
    // Only the refcount is another one.
    const after = fs.readFileSync(path.join(disks, 'crashed-repaired.qcow2'));
    expect([before.readUInt16BE(images.refcount), after.readUInt16BE(images.refcount)]).toEqual([1, 0]);
  });

  it('sector 2048 of a chain of five comes from the third, as qemu-img map says', async () => {
    await walkChain(page, look);
    const args = ['map', '--output=json', path.join(disks, '5-running.qcow2')];
    const map = JSON.parse(execFileSync('qemu-img', args, { encoding: 'utf8' })) as {
      start: number;
      length: number;
      depth: number;
    }[];
    expect(map.find(({ start, length }) => start <= 1048576 && start + length > 1048576)?.depth).toBe(2);
  });

  it('the differences of two snapshots, one after the other', async () => {
    await walkSnapshots(page, look);
  });
});
