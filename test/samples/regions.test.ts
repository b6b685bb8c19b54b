// The regions of every sample, ours and the foreign ones: each byte of each file once, annotations within their region, bounded work.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { pathOf } from '../../core/bytes/struct.ts';
import { isImageError } from '../../core/errors/image-error.ts';
import { findDriver } from '../../core/formats/registry.ts';
import { openImage } from '../../core/formats/open.ts';
import type { BlockNode } from '../../core/block/node.ts';
import type { FormatDriver, Region } from '../../core/formats/driver.ts';
import { guestRegions } from '../../core/guest/structures.ts';
import { missing, sharedFolder } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { type Sample, samplesIn, unpackSample } from './case.ts';

const root = import.meta.dirname;
const own = fs
  .readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name }) => samplesIn(path.join(root, name)));
const shared = missing({ shared: true, peers: ['bzip2'] }) === null ? sharedFolder() : null;
const foreign = shared === null ? [] : samplesIn(path.join(shared, 'images'));

/** Where each region starts and ends is as it must be, and so are the annotations at its start and its end. */
function expectWhole(regions: Iterable<Region>, size: number): number {
  let at = 0;
  let notes = 0;
  for (const region of regions) {
    if (region.start !== at || region.length <= 0) throw new Error(`${region.label}: at ${region.start}, not ${at}`);
    const end = region.start + region.length;
    const tail = Math.max(region.start, end - 4096);
    for (const window of [
      { start: at, length: Math.min(region.length, 65536) },
      { start: tail, length: end - tail },
    ]) {
      for (const note of region.annotate(window)) {
        notes++;
        if (note.length <= 0 || note.start + note.length <= window.start || note.start >= window.start + window.length)
          throw new Error(`${region.label}: ${pathOf(note)} at ${note.start} lies outside of the window`);
        if (pathOf(note) === '' || note.structure === '') throw new Error(`${region.label}: a note without a name`);
        if (note.target !== undefined && (!Number.isSafeInteger(note.target.offset) || note.target.offset < 0))
          throw new Error(`${region.label}: ${pathOf(note)} leads to ${note.target.offset}`);
      }
    }
    at = end;
  }
  expect(at).toBe(size);
  return notes;
}

function expectFiles(driver: FormatDriver, node: BlockNode): void {
  for (const { role, storage } of node.files) {
    const notes = expectWhole(driver.regions(node, role), storage.size);
    // A raw disk has no structures of its own, neither have the extents and data files beside an image.
    if (driver.id !== 'raw' && role === 'file' && storage.size > 0) expect(notes, role).toBeGreaterThan(0);
  }
}

describe.each([
  ['own', own],
  ['foreign', foreign],
] as const)('regions of %s samples', (name, samples) => {
  if (samples.length === 0) {
    it.skip(`${name} samples (skipped: no folder ../shared/images beside the project)`, () => {});
    return;
  }
  const scratch = scratchFolder(`regions-${name}`);
  const readable = samples.filter(({ about }) => findDriver(about.format) !== null);
  it.each(readable.map((sample): [string, Sample] => [sample.about.id, sample]))('%s', (id, sample) => {
    const folder = path.join(scratch, id);
    fs.mkdirSync(folder);
    try {
      unpackSample(sample, folder);
      let opened;
      try {
        opened = openImage(path.join(folder, sample.about.main), { format: sample.about.format, share: true });
      } catch (error) {
        const mayRefuse = sample.about.expect.open !== undefined;
        if (isImageError(error) && mayRefuse) return;
        throw error;
      }
      const { driver, node } = opened;
      try {
        expectFiles(driver, node);
        expectWhole(guestRegions(node), node.size);
      } finally {
        node.close();
      }
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });
});
