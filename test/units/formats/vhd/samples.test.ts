// Real VHDs made by other programs: what they hold, what they are, or that they are refused.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { describeWith, itWith, mustRun } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { judgeSample, unpackSample } from '../foreign-sample.ts';
import { checkAt, contentAt, createImage, withImage, writing } from '../new-image.ts';

const cases = [
  'vhd-disk2vhd',
  'vhd-qemu-100k',
  'vhd-qemu-ext2-a',
  'vhd-qemu11-fixed',
  'vhd-virtualpc',
  'vhd-win10-fixed',
  'vhd-yvhdt-fixed',
];

describeWith({ shared: true, peers: ['bzip2'] }, 'VHDs of other makers', () => {
  const folder = scratchFolder('vhd-samples');

  for (const id of cases) {
    it(`${id} is a VHD of the right size and content`, () => judgeSample(vhd, id, folder));
  }

  it('a differencing disk whose parent is missing is refused by the identity of the parent', () => {
    const { main } = unpackSample('vhd-win10-diff-orphan', folder);
    for (const options of [{}, { format: 'vpc' }, { withBacking: false }]) {
      expect(() => openImage(main, options)).toThrow(/5fa21a55-f394-aa4d-9958-1951a67d5540.*fat-parent\.vhd/);
    }
    expect(checkAt(vhd, main).findings.map(({ code }) => code)).toEqual(['vhd/parent-missing']);
    const locators = withImage(main, { withBacking: false, writable: true }, (node) => {
      const parent = vhd.facts(node).further?.parent;
      return typeof parent === 'object' && 'locators' in parent ? parent.locators : null;
    });
    expect(locators).toEqual([
      { platform: 'W2ku', name: 'C:\\Projects\\dfvfs\\test_data\\fat-parent.vhd' },
      { platform: 'W2ru', name: '.\\fat-parent.vhd' },
    ]);
  });

  itWith(
    { peers: ['7z'] },
    'the same disk of Windows finds a parent of that identity, and 7-Zip reads the same',
    () => {
      const { main } = unpackSample('vhd-win10-diff-orphan', folder);
      const uuid = '5fa21a55-f394-aa4d-9958-1951a67d5540';
      const parent = path.join(folder, 'fat-parent.vhd');
      createImage(vhd, parent, { size: 4 * MiB, options: { force_size: true, uuid } });
      writing(parent, (node) => writeGuest(node, positionCoded(0, 4 * MiB, 1), 0));
      const content = contentAt(main);
      expect(Buffer.compare(content, positionCoded(0, 4 * MiB, 1))).not.toBe(0);
      const out = path.join(folder, 'out');
      mustRun('7z', ['x', '-tVHD', `-o${out}`, main]);
      const [extracted] = fs.readdirSync(out);
      expect(difference(content, fs.readFileSync(path.join(out, extracted ?? '')))).toBe(null);
      fs.rmSync(parent);
    },
  );
});
