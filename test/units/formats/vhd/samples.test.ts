// Real VHDs made by other programs: what they hold, what they are, or that they are refused.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { expect, it } from 'vitest';
import { resolve } from '../../../../core/block/read.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { vhd } from '../../../../core/formats/vhd/driver.ts';
import { describeWith, sharedFolder } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkAt, contentOf, regionsOf, withImage } from '../new-image.ts';

interface Case {
  readonly main: string;
  readonly files: Readonly<Record<string, { stored: string }>>;
  readonly expect: {
    readonly open?: string;
    readonly raw: readonly { size: number; sha256: string | null }[];
    readonly info: { readonly 'cluster-size'?: number };
    readonly map?: readonly { start: number; length: number; zero: boolean; offset?: number }[];
  };
}

const cases = [
  'vhd-disk2vhd',
  'vhd-qemu-100k',
  'vhd-qemu-ext2-a',
  'vhd-qemu11-fixed',
  'vhd-virtualpc',
  'vhd-win10-fixed',
  'vhd-yvhdt-fixed',
];

const unpackers: Record<string, (stored: string) => Buffer> = {
  '.gz': (stored) => zlib.gunzipSync(fs.readFileSync(stored)),
  '.bz2': (stored) => execFileSync('bzip2', ['-dc', stored], { maxBuffer: 2 ** 30 }),
};

function unpack(id: string, folder: string): { main: string; expected: Case['expect'] } {
  const source = path.join(sharedFolder() ?? '', 'images', id);
  const found = JSON.parse(fs.readFileSync(path.join(source, 'case.json'), 'utf8')) as Case;
  for (const [name, { stored }] of Object.entries(found.files)) {
    const read = unpackers[path.extname(stored)] ?? fs.readFileSync;
    fs.writeFileSync(path.join(folder, name), read(path.join(source, stored)));
  }
  return { main: path.join(folder, found.main), expected: found.expect };
}

describeWith({ shared: true, peers: ['bzip2'] }, 'VHDs of other makers', () => {
  const folder = scratchFolder('vhd-samples');

  for (const id of cases) {
    it(`${id} is a VHD of the right size and content`, () => {
      const { main, expected } = unpack(id, folder);
      const image = openImage(main);
      expect([image.driver.id, image.probed]).toEqual(['vpc', true]);
      const { node } = image;
      try {
        const accepted = expected.raw.find(({ size }) => size === node.size);
        expect(accepted, `size ${node.size}`).toBeDefined();
        if (accepted !== undefined && accepted.sha256 !== null) {
          expect(crypto.createHash('sha256').update(contentOf(node)).digest('hex')).toBe(accepted.sha256);
        }
        expect(vhd.facts(node).clusterSize).toBe(expected.info['cluster-size'] ?? null);
        for (const entry of expected.map ?? []) {
          for (const run of resolve(node, { start: entry.start, length: entry.length })) {
            if (run.mapping.kind === 'data')
              expect(run.mapping.offset).toBe((entry.offset ?? 0) + run.start - entry.start);
            else expect(entry.zero).toBe(true);
          }
        }
        regionsOf(vhd, node);
      } finally {
        node.close();
      }
      expect(checkAt(vhd, main).findings).toEqual([]);
      fs.rmSync(main);
    });
  }

  it('a differencing disk whose parent is missing is refused by the identity of the parent', () => {
    const { main } = unpack('vhd-win10-diff-orphan', folder);
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
});
