// Several programs and one catalogue: scans of the same folder at the same time, and what is taken away under them.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore, removeDatastore } from '../../../core/catalogue/datastores.ts';
import { listImages, resolveImage, writeTags } from '../../../core/catalogue/images.ts';
import { scan } from '../../../core/catalogue/scan/scan.ts';
import { openDatabase } from '../../../core/catalogue/sqlite.ts';
import { silentJob, type Job } from '../../../core/job.ts';
import { describeWith, mustRun, platterCommand } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

describeWith({ peers: ['qemu-img'] }, 'several programs and one catalogue', () => {
  const root = scratchFolder('together');
  let number = 0;
  let folder: string;
  let store: string;
  let one: Catalogue;
  let two: Catalogue;
  const image = (name: string): void => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', name, '1M'], { cwd: store });
  };
  const many = (count: number): string[] =>
    Array.from({ length: count }, (_, index) => {
      const name = `disk-${String(index).padStart(3, '0')}.qcow2`;
      if (index === 0) image(name);
      else fs.copyFileSync(path.join(store, 'disk-000.qcow2'), path.join(store, name));
      return name;
    });
  const paths = (): string[] => listImages(one).map((entry) => entry.path);
  const scanWith = (catalogue: Catalogue, job: Job = silentJob) => scan(catalogue, { datastore: 'store' }, job);
  /** Does something once, when the scan has begun to look at files. */
  const meanwhile = (what: () => void): Job => {
    let done = false;
    return {
      ...silentJob,
      throwIfCancelled() {
        if (!done) what();
        done = true;
      },
    };
  };

  beforeEach(() => {
    folder = path.join(root, String(++number));
    store = path.join(folder, 'store');
    fs.mkdirSync(store, { recursive: true });
    one = openCatalogue(path.join(folder, 'catalogue.db'));
    two = openCatalogue(path.join(folder, 'catalogue.db'));
    addDatastore(one, { path: store, name: 'store' });
    return () => {
      one.close();
      two.close();
    };
  });

  it('scans at the same time, and every file is entered once', async () => {
    const names = many(20);
    const results = await Promise.all([scanWith(one), scanWith(two)]);
    expect(paths()).toEqual(names);
    expect(results.map(({ files }) => files)).toEqual([20, 20]);
    expect(results.reduce((sum, { added }) => sum + added, 0)).toBe(20);
  });

  it('keeps the id of a moved image that the other scan took for a new one', async () => {
    image('old.qcow2');
    image('other.qcow2');
    await scanWith(one);
    const id = resolveImage(one, 'old.qcow2');
    fs.renameSync(path.join(store, 'old.qcow2'), path.join(store, 'new.qcow2'));
    // What another program did that saw only the new name.
    const asNew = () =>
      two.database.run(
        `insert into image (id, datastore_id, path, file_length, allocated, device, inode, mtime_ns, first_seen, read_at)
         select 'stranger', datastore_id, 'new.qcow2', file_length, allocated, '0', '0', mtime_ns, 0, 0 from image where id = :id`,
        { id },
      );
    await scanWith(one, meanwhile(asNew));
    expect(paths()).toEqual(['new.qcow2', 'other.qcow2']);
    expect(resolveImage(one, 'new.qcow2')).toBe(id);
  });

  it('keeps the row that a person has written to when two are of one file', async () => {
    image('old.qcow2');
    await scanWith(one);
    fs.renameSync(path.join(store, 'old.qcow2'), path.join(store, 'new.qcow2'));
    const asNew = () => {
      two.database.run(
        `insert into image (id, datastore_id, path, file_length, allocated, device, inode, mtime_ns, first_seen, read_at)
         select 'stranger', datastore_id, 'new.qcow2', file_length, allocated, '0', '0', mtime_ns, 0, 0 from image`,
      );
      writeTags(two, 'stranger', { add: ['mine'], remove: [] });
    };
    await scanWith(one, meanwhile(asNew));
    expect(listImages(one)).toMatchObject([{ id: 'stranger', path: 'new.qcow2', tags: ['mine'], format: 'qcow2' }]);
  });

  it('enters anew what the other forgot while it was looked at, and leaves alone what the other found elsewhere', async () => {
    image('a.qcow2');
    image('b.qcow2');
    await scanWith(one);
    mustRun('qemu-img', ['resize', '-q', 'a.qcow2', '2M'], { cwd: store });
    fs.renameSync(path.join(store, 'b.qcow2'), path.join(folder, 'b.qcow2'));
    const b = resolveImage(one, 'b.qcow2');
    const other = () => {
      two.database.run(`delete from image where path = 'a.qcow2'`);
      two.database.run(`update image set path = 'moved/b.qcow2' where id = :b`, { b });
    };
    await scanWith(one, meanwhile(other));
    expect(paths()).toEqual(['a.qcow2', 'moved/b.qcow2']);
    expect(listImages(one)[0]).toMatchObject({ virtualSize: 2 * 1024 * 1024 });
  });

  it('says that the datastore is unknown when it is removed under the scan', async () => {
    many(3);
    const removed = scanWith(
      one,
      meanwhile(() => removeDatastore(two, 'store')),
    );
    await expect(removed).rejects.toMatchObject({ code: 'datastore/unknown' });
  });

  it('codes whatever the database refuses', () => {
    const database = openDatabase(path.join(folder, 'catalogue.db'));
    expect(() => database.run(`insert into image_tag (image_id, tag) values ('nobody', 'x')`)).toThrow(
      expect.objectContaining({ code: 'catalogue/meanwhile' }),
    );
    expect(() => database.run('select from nothing')).toThrow(expect.objectContaining({ code: 'catalogue/refused' }));
    database.close();
  });

  it('scans from three processes while files come', async () => {
    many(60);
    const scanned = Array.from({ length: 3 }, () => run(['datastore', 'scan', 'store']));
    for (let index = 0; index < 20; index++) {
      fs.renameSync(path.join(store, `disk-0${20 + index}.qcow2`), path.join(store, `moved-${20 + index}.qcow2`));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const { code, stderr } of await Promise.all(scanned))
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    await scanWith(one);
    expect(paths().sort()).toEqual(fs.readdirSync(store).sort());
  }, 60_000);

  function run(args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
    const [program, ...first] = platterCommand();
    const child = spawn(program, [...first, ...args], {
      env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
    return new Promise((resolve) => child.on('exit', (code) => resolve({ code, stderr })));
  }
});
