// The file of the catalogue: damaged, newer, in use by another program; datastores that overlap.
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCatalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore, listDatastores, renameDatastore } from '../../../core/catalogue/datastores.ts';
import { imageRecord, listImages, writeNote, writeTags } from '../../../core/catalogue/images.ts';
import { scan } from '../../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../../core/job.ts';
import { scratchFolder } from '../../scratch.ts';

describe('the file of the catalogue', () => {
  const root = scratchFolder('catalogue-file');
  let file: string;
  let number = 0;
  beforeEach(() => {
    file = path.join(root, String(++number), 'inner', 'catalogue.db');
  });
  afterEach(() => fs.rmSync(path.join(root, String(number)), { recursive: true, force: true }));

  const aside = (): string[] => fs.readdirSync(path.dirname(file)).filter((name) => name.includes('set-aside'));

  it('is made with its folder', () => {
    openCatalogue(file).close();
    expect(fs.readFileSync(file).subarray(0, 15).toString()).toBe('SQLite format 3');
  });

  it('is set aside, not overwritten, when it is no database', () => {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, 'these are my notes, not a database, and they are long enough to have a header '.repeat(20));
    const catalogue = openCatalogue(file);
    expect(catalogue.setAside?.reason.code).toBe('catalogue/damaged');
    catalogue.close();
    expect(fs.readFileSync(path.join(path.dirname(file), aside()[0] ?? ''), 'utf8')).toContain('these are my notes');
  });

  it('is set aside when pages in it are damaged', () => {
    const catalogue = openCatalogue(file);
    catalogue.database.script('create table filler (body text)');
    for (let row = 0; row < 500; row++) {
      catalogue.database.run('insert into filler (body) values (:body)', { body: 'x'.repeat(400) });
    }
    catalogue.close();
    const bytes = fs.readFileSync(file);
    bytes.fill(0xaa, 8192, bytes.length - 4096);
    fs.writeFileSync(file, bytes);
    const again = openCatalogue(file);
    expect(again.setAside?.reason.code).toBe('catalogue/damaged');
    expect(listDatastores(again)).toEqual([]);
    again.close();
  });

  it('of a newer program is set aside, and gives names, notes and tags back when images are found again', async () => {
    const store = path.join(root, String(number), 'store');
    fs.mkdirSync(store, { recursive: true });
    fs.writeFileSync(path.join(store, 'disk.raw'), Buffer.alloc(4096, 1));
    const catalogue = openCatalogue(file);
    addDatastore(catalogue, { path: store, name: 's' });
    await scan(catalogue, { datastore: 's' }, silentJob);
    const [image] = listImages(catalogue);
    writeNote(catalogue, image?.id ?? '', { name: 'golden', note: 'do not touch' });
    writeTags(catalogue, image?.id ?? '', { add: ['a', 'b c'], remove: [] });
    catalogue.database.script('pragma user_version = 9999');
    catalogue.close();
    const again = openCatalogue(file);
    expect(again.setAside).toMatchObject({ reason: { code: 'catalogue/newer' }, saved: 1 });
    addDatastore(again, { path: store, name: 's' });
    await scan(again, { datastore: 's' }, silentJob);
    const found = imageRecord(again, listImages(again)[0]?.id ?? '');
    expect(found).toMatchObject({ name: 'golden', note: 'do not touch', tags: ['a', 'b c'] });
    again.close();
  });

  it('serves two programs at once', () => {
    const [one, two] = [openCatalogue(file), openCatalogue(file)];
    const folders = ['a', 'b'].map((name) => path.join(root, String(number), name));
    folders.forEach((folder) => fs.mkdirSync(folder));
    addDatastore(one, { path: folders[0] ?? '', name: null });
    addDatastore(two, { path: folders[1] ?? '', name: null });
    expect(listDatastores(one).map(({ name }) => name)).toEqual(['a', 'b']);
    expect(listDatastores(two)).toHaveLength(2);
    one.close();
    two.close();
  });

  it('refuses datastores in datastores, twice, with taken names, and such as are no folders', () => {
    const catalogue = openCatalogue(file);
    const outer = path.join(root, String(number), 'outer');
    fs.mkdirSync(path.join(outer, 'inner'), { recursive: true });
    fs.mkdirSync(`${outer}-2`);
    fs.writeFileSync(path.join(outer, 'file'), '');
    const add = (name: string, called: string | null = null): string =>
      addDatastore(catalogue, { path: name, name: called });
    add(outer);
    expect(() => add(outer)).toThrow(/already/);
    expect(() => add(path.join(outer, 'inner'))).toThrow(/overlaps/);
    expect(() => add(path.dirname(outer))).toThrow(/overlaps/);
    expect(() => add(path.join(outer, 'file'))).toThrow(/not a folder/);
    expect(() => add(path.join(outer, 'nothing'))).toThrow(/No such file/);
    expect(() => add(`${outer}-2`, 'outer')).toThrow(/datastore 'outer' already/);
    add(`${outer}-2`);
    expect(() => renameDatastore(catalogue, 'outer-2', 'outer')).toThrow(/already/);
    renameDatastore(catalogue, 'outer-2', 'other');
    expect(listDatastores(catalogue).map(({ name }) => name)).toEqual(['other', 'outer']);
    catalogue.close();
  });
});
