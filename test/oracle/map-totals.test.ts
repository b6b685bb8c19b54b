// How much of the guest's disk is stored, and by which image of the chain: the cluster map of every sample against qemu-img map.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openImage } from '../../core/formats/open.ts';
import type { GuestLayer } from '../../core/workbench/map/classes.ts';
import { ImageMap } from '../../core/workbench/map/image-map.ts';
import { levelFor, type Tile } from '../../core/workbench/map/tile.ts';
import { describeWith, missing, mustRun, sharedFolder } from '../peers.ts';
import { samplesIn, unpackSample, type MapEntry, type Sample } from '../samples/case.ts';
import { scratchFolder } from '../scratch.ts';

/** Both programs read it. qemu-img does not look into a VHDX and calls all of it data: nothing to compare with. */
const isMapped = ({ about: { format, expect: said } }: Sample): boolean =>
  format !== 'vhdx' && said.map !== undefined && said.open === undefined;
const rowsOf = (samples: Sample[]): [string, Sample][] =>
  samples.filter(isMapped).map((sample) => [sample.about.id, sample]);

const samplesFolder = path.resolve(import.meta.dirname, '../samples');
const own = rowsOf(
  fs
    .readdirSync(samplesFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => samplesIn(path.join(samplesFolder, name))),
);

const shared = sharedFolder();
const reason = missing({ shared: true, peers: ['qemu-img', 'bzip2'] });

/** Bytes per class of a layer, and the rounds that it took are few. */
function totalsOf(map: ImageMap, layer: GuestLayer, size: number): Map<string, number> {
  const level = levelFor(size, map.unitOf('guest'), 64);
  let tile: Tile;
  let rounds = 0;
  do {
    if (++rounds > 200) throw new Error('the map is never refined');
    tile = map.tile('guest', layer, { level, first: 0, cells: 64 });
  } while (!tile.refined);
  expect(tile.fault).toBeNull();
  return new Map(tile.classes.map((name, index) => [name, tile.totals[index] ?? 0]));
}

const bytesOf = (entries: readonly MapEntry[], test: (entry: MapEntry) => boolean): number =>
  entries.filter(test).reduce((sum, { length }) => sum + length, 0);

function expectAsMapped([name, sample]: [string, Sample], scratch: string): void {
  const folder = path.join(scratch, name);
  fs.mkdirSync(folder);
  const file = unpackSample(sample, folder);
  const { format, main } = sample.about;
  const entries = JSON.parse(
    mustRun('qemu-img', ['map', '--output=json', '-f', format, main], { cwd: folder }),
  ) as MapEntry[];
  const { node, driver } = openImage(file, { format, share: true });
  let layers = 1;
  for (let below = node.backing; below !== null; below = below.backing) layers++;
  const map = new ImageMap(node, driver, layers);
  const state = totalsOf(map, 'state', node.size);
  const of = (...classes: string[]): number => classes.reduce((sum, one) => sum + (state.get(one) ?? 0), 0);
  const isStored = ({ data, zero }: MapEntry): boolean => data && !zero;
  expect({
    size: node.size,
    above: of('data', 'packed'),
    below: of('below'),
    none: of('zero', 'reserved', 'unallocated'),
  }).toEqual({
    size: bytesOf(entries, () => true),
    above: bytesOf(entries, (entry) => isStored(entry) && entry.depth === 0),
    below: bytesOf(entries, (entry) => isStored(entry) && entry.depth > 0),
    none: bytesOf(entries, (entry) => !isStored(entry)),
  });
  if (entries.every(({ present }) => present !== undefined)) {
    const depths = totalsOf(map, 'depth', node.size);
    for (let depth = 0; depth < layers; depth++) {
      const supplied = bytesOf(entries, (entry) => entry.depth === depth && entry.present === true);
      expect(depths.get(`depth-${depth}`), `depth ${depth}`).toBe(supplied);
    }
  }
  node.close();
  fs.rmSync(folder, { recursive: true });
}

describeWith({ peers: ['qemu-img'] }, 'the map of our samples is what qemu-img map says', () => {
  const scratch = scratchFolder('map-totals-own');
  it.each(own)('%s', (...row) => expectAsMapped(row, scratch));
});

if (shared === null || reason !== null) {
  it.skip(`the map of public samples (skipped: ${reason ?? 'no folder'})`, () => {});
} else {
  describe('the map of public samples is what qemu-img map says', () => {
    const scratch = scratchFolder('map-totals');
    it.each(rowsOf(samplesIn(path.join(shared, 'images'))))('%s', (...row) => expectAsMapped(row, scratch));
  });
}
