// Loose files: opened where they lie, known by themselves, taken over when their folder becomes a datastore.
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore, listDatastores } from '../../../core/catalogue/datastores.ts';
import { moveImage } from '../../../core/catalogue/files.ts';
import { imageRecord, listImages, writeTags } from '../../../core/catalogue/images.ts';
import { forgetLoose, openImageFile } from '../../../core/catalogue/loose.ts';
import { migrate } from '../../../core/catalogue/migrate.ts';
import { scan } from '../../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../../core/job.ts';
import { describeWith, mustRun, runPlatter } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

describeWith({ peers: ['qemu-img'] }, 'a loose file', () => {
  const root = scratchFolder('loose');
  let number = 0;
  let downloads: string;
  let disk: string;
  let catalogue: Catalogue;

  beforeEach(() => {
    downloads = path.join(root, String(++number), 'downloads');
    fs.mkdirSync(path.join(downloads, 'deep'), { recursive: true });
    disk = path.join(downloads, 'disk.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '3M']);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', path.join(downloads, 'private.qcow2'), '1M']);
    catalogue = openCatalogue(path.join(root, String(number), 'catalogue.db'));
  });
  afterEach(() => catalogue.close());

  it('is known by itself: nothing else of its folder is, and no datastore is made', async () => {
    const id = openImageFile(catalogue, disk);
    expect(imageRecord(catalogue, id)).toMatchObject({ file: disk, format: 'qcow2', virtualSize: 3 * 1024 * 1024 });
    expect(listImages(catalogue).map(({ file }) => file)).toEqual([disk]);
    expect(listDatastores(catalogue)).toEqual([]);
    const [store] = listDatastores(catalogue, true);
    expect(store).toMatchObject({ kind: 'loose', path: downloads, images: 1, alert: false });
    mustRun('qemu-img', ['resize', '-q', disk, '5M']);
    expect(await scan(catalogue, { datastore: store?.id ?? '', everything: true }, silentJob)).toMatchObject({
      read: 1,
    });
    expect(listImages(catalogue)).toMatchObject([{ id, virtualSize: 5 * 1024 * 1024 }]);
    mustRun('qemu-img', ['resize', '-q', disk, '7M']);
    expect(openImageFile(catalogue, path.join(downloads, 'deep', '..', 'disk.qcow2'))).toBe(id);
    expect(imageRecord(catalogue, id).virtualSize).toBe(7 * 1024 * 1024);
    fs.rmSync(disk);
    await scan(catalogue, { datastore: store?.id ?? '' }, silentJob);
    expect(listDatastores(catalogue, true)).toEqual([]);
  });

  it('that is no image is refused, and one in a datastore is an image of that', async () => {
    const text = path.join(downloads, 'notes.txt');
    fs.writeFileSync(text, 'no image');
    expect(() => openImageFile(catalogue, text)).toThrow(expect.objectContaining({ code: 'image/none' }));
    expect(() => openImageFile(catalogue, path.join(downloads, 'not there'))).toThrow(
      expect.objectContaining({ code: 'storage/open' }),
    );
    expect(listDatastores(catalogue, true)).toEqual([]);
    const store = addDatastore(catalogue, { path: downloads, name: null });
    const id = openImageFile(catalogue, disk);
    expect(listDatastores(catalogue, true)).toMatchObject([{ id: store, kind: 'folder' }]);
    expect(() => forgetLoose(catalogue, id)).toThrow(expect.objectContaining({ code: 'image/not-loose' }));
    await scan(catalogue, { datastore: store }, silentJob);
    expect(listImages(catalogue)).toHaveLength(2);
  });

  it('is taken over with its tags when its folder, or one above, becomes a datastore', async () => {
    const deep = path.join(downloads, 'deep', 'below.raw');
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', deep, '1M']);
    const ids = [openImageFile(catalogue, disk), openImageFile(catalogue, deep)];
    for (const id of ids) writeTags(catalogue, id, { add: ['mine'], remove: [] });
    const datastore = addDatastore(catalogue, { path: downloads, name: 'all' });
    await scan(catalogue, { datastore }, silentJob);
    expect(listDatastores(catalogue, true)).toHaveLength(1);
    expect(listImages(catalogue).map(({ id, path: name, tags }) => [id, name, tags])).toEqual([
      [ids[1], 'deep/below.raw', ['mine']],
      [ids[0], 'disk.qcow2', ['mine']],
      [expect.any(String), 'private.qcow2', []],
    ]);
  });

  it('can be renamed, moved to a datastore, and forgotten', async () => {
    const id = openImageFile(catalogue, disk);
    await moveImage(catalogue, id, 'renamed.qcow2', silentJob);
    expect(imageRecord(catalogue, id).file).toBe(path.join(downloads, 'renamed.qcow2'));
    const shelf = path.join(root, String(number), 'shelf');
    fs.mkdirSync(shelf);
    const datastore = addDatastore(catalogue, { path: shelf, name: null });
    const other = openImageFile(catalogue, path.join(downloads, 'private.qcow2'));
    await migrate(catalogue, { image: other, datastore, folder: '.', format: null, chain: false }, silentJob);
    mustRun('qemu-img', ['check', path.join(shelf, 'private.qcow2')]);
    forgetLoose(catalogue, id);
    expect(fs.existsSync(path.join(downloads, 'renamed.qcow2'))).toBe(true);
    expect(listImages(catalogue).map(({ file }) => file)).toEqual([path.join(shelf, 'private.qcow2')]);
  });

  it('is not looked for by the command line, which knows it by its path', () => {
    openImageFile(catalogue, disk);
    const env = { env: { PLATTER_CATALOGUE: catalogue.path } };
    expect(JSON.parse(runPlatter(['datastore', 'list', '--output=json'], env).stdout)).toEqual([]);
    expect(runPlatter(['datastore', 'scan'], env).status).toBe(0);
    expect(listImages(catalogue)).toHaveLength(1);
  });
});
