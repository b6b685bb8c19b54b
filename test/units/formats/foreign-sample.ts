// One of the images of other makers in ../shared/images, unpacked, and what is expected of it.
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { expect } from 'vitest';
import { resolve } from '../../../core/block/read.ts';
import type { FormatDriver } from '../../../core/formats/driver.ts';
import { openImage } from '../../../core/formats/open.ts';
import { sharedFolder } from '../../peers.ts';
import { checkAt, contentOf, regionsOf } from './new-image.ts';

export interface Expected {
  readonly open?: string;
  readonly raw: readonly { size: number; sha256: string | null }[];
  readonly info: { readonly 'cluster-size'?: number };
  readonly map?: readonly { start: number; length: number; zero: boolean; offset?: number }[];
}

interface Case {
  readonly main: string;
  readonly files: Readonly<Record<string, { stored: string }>>;
  readonly expect: Expected;
}

const unpackers: Record<string, (stored: string) => Buffer> = {
  '.gz': (stored) => zlib.gunzipSync(fs.readFileSync(stored)),
  '.bz2': (stored) => execFileSync('bzip2', ['-dc', stored], { maxBuffer: 2 ** 30 }),
};

/** Writes the files of the case to `folder`; gives the path of the image and what is expected. */
export function unpackSample(id: string, folder: string): { main: string; expected: Expected } {
  const source = path.join(sharedFolder() ?? '', 'images', id);
  const found = JSON.parse(fs.readFileSync(path.join(source, 'case.json'), 'utf8')) as Case;
  for (const [name, { stored }] of Object.entries(found.files)) {
    const read = unpackers[path.extname(stored)] ?? fs.readFileSync;
    fs.writeFileSync(path.join(folder, name), read(path.join(source, stored)));
  }
  return { main: path.join(folder, found.main), expected: found.expect };
}

/** Opens the case by its content alone and compares size, digest, map, facts; the check must find nothing. */
export function judgeSample(driver: FormatDriver, id: string, folder: string): void {
  const { main, expected } = unpackSample(id, folder);
  const image = openImage(main);
  expect([image.driver.id, image.probed]).toEqual([driver.id, true]);
  const { node } = image;
  try {
    const accepted = expected.raw.find(({ size }) => size === node.size);
    expect(accepted, `size ${node.size}`).toBeDefined();
    // Larger contents have a sparse digest only, which the suite beside the images looks at.
    if (accepted !== undefined && accepted.sha256 !== null && node.size < 2 ** 29) {
      expect(crypto.createHash('sha256').update(contentOf(node)).digest('hex')).toBe(accepted.sha256);
    }
    expect(driver.facts(node).clusterSize).toBe(expected.info['cluster-size'] ?? null);
    for (const entry of expected.map ?? []) {
      for (const run of resolve(node, { start: entry.start, length: entry.length })) {
        const { mapping } = run;
        if (mapping.kind === 'data') expect(mapping.offset).toBe((entry.offset ?? 0) + run.start - entry.start);
        else expect(entry.zero).toBe(true);
      }
    }
    regionsOf(driver, node);
  } finally {
    node.close();
  }
  expect(checkAt(driver, main).findings).toEqual([]);
  fs.rmSync(main);
}
