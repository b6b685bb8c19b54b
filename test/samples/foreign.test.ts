// The real images in ../shared/images, made by other tools: each one of a format that we have opens, or is refused, as recorded there.
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findDriver } from '../../core/formats/registry.ts';
import { missing, sharedFolder } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { samplesIn } from './case.ts';
import { describeSample } from './suite.ts';

const shared = sharedFolder();
const reason = missing({ shared: true, peers: ['bzip2'] });

if (shared === null || reason !== null) {
  it.skip(`foreign images (skipped: ${reason ?? 'no folder'})`, () => {});
} else {
  const samples = samplesIn(path.join(shared, 'images'));
  const ours = samples.filter(({ about }) => findDriver(about.format) !== null);
  describe('foreign images', () => {
    it('are there', () => {
      expect(ours.length).toBeGreaterThan(0);
    });
    const scratch = scratchFolder('foreign');
    for (const sample of ours) describeSample(sample, scratch);
  });
}
