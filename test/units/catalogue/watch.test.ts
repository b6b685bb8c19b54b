// What a watch over datastores hears, by notification and by polling.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { watchDatastores } from '../../../core/catalogue/watch.ts';
import { scratchFolder } from '../../scratch.ts';

const device = (resource: 'local' | 'nas') => ({
  kind: 'disk' as const,
  resource,
  resourceName: '',
  source: '',
  fileSystem: '',
  model: null,
  rotational: null,
  removable: null,
});

it.each(['local', 'nas'] as const)(
  'a watch over a %s datastore hears of new, changed and removed files, once each',
  async (resource) => {
    const folder = scratchFolder('watch');
    fs.mkdirSync(path.join(folder, 'sub'));
    const heard: string[] = [];
    const faults: unknown[] = [];
    const watch = watchDatastores(
      [{ id: 'one', path: folder, device: device(resource) }],
      (id) => heard.push(id),
      (_id, error) => faults.push(error),
      { settle: 150, poll: 100 },
    );
    await watch.ready;
    const heardAfter = async (change: () => void): Promise<number> => {
      const before = heard.length;
      change();
      const deadline = Date.now() + 20_000;
      while (heard.length === before && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
      return heard.length - before;
    };
    const file = path.join(folder, 'sub', 'disk.raw');
    expect(await heardAfter(() => fs.writeFileSync(file, 'a'))).toBe(1);
    expect(await heardAfter(() => fs.writeFileSync(file, 'longer'))).toBe(1);
    expect(await heardAfter(() => fs.rmSync(file))).toBe(1);
    const before = heard.length;
    fs.writeFileSync(path.join(folder, '.disk.raw.partial-00000000'), 'not yet');
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(heard.length).toBe(before);
    await watch.close();
    expect(faults).toEqual([]);
  },
);
