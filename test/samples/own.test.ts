// The project's own samples: small images made by qemu-img, each with its recipe; they need nothing outside the project.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openImage } from '../../core/formats/open.ts';
import { findDriver } from '../../core/formats/registry.ts';
import { describeWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { type Sample, samplesIn } from './case.ts';
import { digestOfNode } from './readers.ts';
import { askQemu, follow, readHead, recipeFolders } from './rebuild.ts';
import { describeSample } from './suite.ts';

const root = import.meta.dirname;
const suites = fs.readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());

for (const suite of suites) {
  const samples = samplesIn(path.join(root, suite.name)).filter(({ about }) => findDriver(about.format) !== null);
  if (samples.length === 0) continue;
  describe(`own samples: ${suite.name}`, () => {
    const scratch = scratchFolder(`own-${suite.name}`);
    for (const sample of samples) describeSample(sample, scratch);
  });
}

describe('own samples', () => {
  it('have a recipe and are small', () => {
    const recipes = recipeFolders();
    for (const folder of suites.flatMap(({ name }) =>
      samplesIn(path.join(root, name)).map((sample) => sample.folder),
    )) {
      expect(recipes, folder).toContain(folder);
      for (const name of fs.readdirSync(folder)) {
        expect(fs.statSync(path.join(folder, name)).size, `${folder}/${name}`).toBeLessThan(4096);
      }
    }
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'recipes followed anew', () => {
  const scratch = scratchFolder('recipes');
  const samples: Sample[] = suites.flatMap(({ name }) => samplesIn(path.join(root, name)));
  for (const { folder, about } of samples) {
    if (findDriver(about.format) === null || about.expect.open !== undefined) continue;
    it(`${about.format} ${about.id}: qemu-img and we read the same`, () => {
      const place = path.join(scratch, `${about.format}-${about.id}`);
      fs.mkdirSync(place);
      const recipe = path.join(folder, 'recipe.sh');
      const head = readHead(recipe);
      follow(recipe, place);
      const asked = askQemu(head, place);
      expect(asked.raw).toEqual(about.expect.raw);
      const { node } = openImage(path.join(place, head.main), { format: head.format });
      expect(digestOfNode(node, 1024 * 1024).sd64k).toBe(asked.raw[0]?.sd64k);
      node.close();
    });
  }
});
