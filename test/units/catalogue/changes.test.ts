// What the catalogue does to images: relinks, moves, deletes, clones, digests and migrates them; qemu-img says what came of it.
import { spawn } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../../core/catalogue/datastores.ts';
import { currentDigest, digestImage } from '../../../core/catalogue/digests.ts';
import { cloneImage, deleteImage, moveImage } from '../../../core/catalogue/files.ts';
import { imageRecord, resolveImage, writeNote } from '../../../core/catalogue/images.ts';
import { parentEdge } from '../../../core/catalogue/lineage.ts';
import { interruptedMigrations, migrate, resumeMigration } from '../../../core/catalogue/migrate.ts';
import { relink } from '../../../core/catalogue/relink.ts';
import { scan } from '../../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../../core/job.ts';
import { describeWith, mustRun, runPlatter } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const project = path.resolve(import.meta.dirname, '../../..');
const kills = process.env.PLATTER_LONG === '1' ? 60 : 6;

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'the catalogue', () => {
  const root = scratchFolder('changes');
  let number = 0;
  let folder: string;
  let one: string;
  let two: string;
  let catalogue: Catalogue;
  const closing: Catalogue[] = [];
  afterAll(() => closing.forEach((each) => each.close()));
  const id = (name: string): string => resolveImage(catalogue, name);
  const state = (name: string): string | undefined => parentEdge(catalogue, id(name))?.state;
  const content = (file: string): string => {
    const raw = path.join(folder, 'content.raw');
    mustRun('qemu-img', ['convert', '-O', 'raw', file, raw]);
    return crypto.createHash('sha256').update(fs.readFileSync(raw)).digest('hex');
  };
  const scanAll = async (): Promise<void> => {
    for (const datastore of ['one', 'two']) await scan(catalogue, { datastore }, silentJob);
  };

  beforeEach(async () => {
    folder = path.join(root, String(++number));
    [one, two] = [path.join(folder, 'one'), path.join(folder, 'two')];
    fs.mkdirSync(path.join(one, 'sub'), { recursive: true });
    fs.mkdirSync(two);
    const at = { cwd: one };
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'base.qcow2', '6M'], at);
    mustRun('qemu-io', ['-c', 'write -P 1 0 1M', 'base.qcow2'], at);
    mustRun('qemu-img', ['snapshot', '-c', 'kept', 'base.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2'], at);
    mustRun('qemu-io', ['-c', 'write -P 2 1M 1M', 'mid.qcow2'], at);
    for (const name of ['sub/a.qcow2', 'sub/b.qcow2']) {
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', '../mid.qcow2', '-F', 'qcow2', name], at);
      mustRun('qemu-io', ['-c', `write -P ${name.charCodeAt(4)} 2M 64k`, name], at);
    }
    catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
    closing.push(catalogue);
    addDatastore(catalogue, { path: one, name: 'one' });
    addDatastore(catalogue, { path: two, name: 'two' });
    await scanAll();
  });

  it('relinks a child to its moved parent, and not to just anything', async () => {
    const before = content(path.join(one, 'sub/a.qcow2'));
    fs.mkdirSync(path.join(two, 'x'));
    fs.renameSync(path.join(one, 'mid.qcow2'), path.join(two, 'x', 'moved.qcow2'));
    mustRun('qemu-img', [
      'rebase',
      '-u',
      '-b',
      path.join(one, 'base.qcow2'),
      '-F',
      'qcow2',
      path.join(two, 'x', 'moved.qcow2'),
    ]);
    await scanAll();
    expect(state('sub/a.qcow2')).toBe('missing');
    const wrong = id('base.qcow2');
    await expect(
      relink(catalogue, { image: id('sub/a.qcow2'), parent: wrong, force: false }, silentJob),
    ).rejects.toMatchObject({
      code: 'lineage/not-the-parent',
    });
    await relink(catalogue, { image: id('sub/a.qcow2'), parent: null, force: false }, silentJob);
    expect(state('sub/a.qcow2')).toBe('whole');
    expect(content(path.join(one, 'sub/a.qcow2'))).toBe(before);
    await expect(relink(catalogue, { image: wrong, parent: null, force: false }, silentJob)).rejects.toMatchObject({
      code: 'lineage/no-parent',
    });
  });

  it('moves an image with its children following, and takes it back when one cannot', async () => {
    const before = content(path.join(one, 'sub/a.qcow2'));
    const mid = id('mid.qcow2');
    await moveImage(catalogue, mid, 'deep/er/middle.qcow2', silentJob);
    expect(fs.existsSync(path.join(one, 'mid.qcow2'))).toBe(false);
    expect(content(path.join(one, 'sub/a.qcow2'))).toBe(before);
    expect([state('sub/a.qcow2'), state('sub/b.qcow2'), state('deep/er/middle.qcow2')]).toEqual([
      'whole',
      'whole',
      'whole',
    ]);
    expect(id('deep/er/middle.qcow2')).toBe(mid);
    expect(imageRecord(catalogue, mid).history[0]).toMatchObject({ what: 'move' });
    await expect(moveImage(catalogue, mid, 'base.qcow2', silentJob)).rejects.toMatchObject({
      code: 'image/target-exists',
    });
    await expect(moveImage(catalogue, mid, '../two/x.qcow2', silentJob)).rejects.toMatchObject({
      code: 'image/outside-datastore',
    });
    // A child that a machine uses cannot be told: everything goes back.
    const lock = spawn('qemu-io', [path.join(one, 'sub/b.qcow2')], { stdio: ['pipe', 'pipe', 'ignore'] });
    await new Promise((resolve) => lock.stdout.once('data', resolve));
    await expect(moveImage(catalogue, mid, 'again.qcow2', silentJob)).rejects.toMatchObject({ code: 'storage/locked' });
    const ended = new Promise((resolve) => lock.on('exit', resolve));
    lock.stdin.end('quit\n');
    await ended;
    expect(fs.existsSync(path.join(one, 'again.qcow2'))).toBe(false);
    expect(content(path.join(one, 'sub/a.qcow2'))).toBe(before);
    expect(content(path.join(one, 'sub/b.qcow2'))).not.toBe(before);
  });

  it('moves split images to folders, not to names', async () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', 'v.vmdk', '4M'], {
      cwd: one,
    });
    await scanAll();
    await expect(moveImage(catalogue, id('v.vmdk'), 'w.vmdk', silentJob)).rejects.toMatchObject({
      code: 'image/parts-named',
    });
    await moveImage(catalogue, id('v.vmdk'), 'sub/v.vmdk', silentJob);
    mustRun('qemu-img', ['info', 'sub/v.vmdk'], { cwd: one });
    expect(fs.readdirSync(one).filter((name) => name.endsWith('.vmdk'))).toEqual([]);
  });

  it('deletes what nobody stands on', () => {
    expect(() => deleteImage(catalogue, id('base.qcow2'), false)).toThrow(/3 other image/);
    deleteImage(catalogue, id('sub/b.qcow2'), false);
    expect(fs.existsSync(path.join(one, 'sub/b.qcow2'))).toBe(false);
    expect(() => id('sub/b.qcow2')).toThrow(/no image/);
    deleteImage(catalogue, id('mid.qcow2'), true);
    expect(state('sub/a.qcow2')).toBe('missing');
  });

  it('clones by an overlay', async () => {
    const clone = await cloneImage(catalogue, id('sub/a.qcow2'), 'sub/clone.qcow2', null, silentJob);
    expect(parentEdge(catalogue, clone)).toMatchObject({ state: 'whole', reference: 'a.qcow2' });
    expect(content(path.join(one, 'sub/clone.qcow2'))).toBe(content(path.join(one, 'sub/a.qcow2')));
    await expect(cloneImage(catalogue, clone, 'mid.qcow2', null, silentJob)).rejects.toMatchObject({
      code: 'image/target-exists',
    });
  });

  it('keeps digests, and knows when they are of an earlier state', async () => {
    const image = id('sub/a.qcow2');
    const { value } = await digestImage(catalogue, image, 'sha256', silentJob);
    expect(value).toBe(content(path.join(one, 'sub/a.qcow2')));
    expect(currentDigest(catalogue, image, 'sha256')).toBe(value);
    mustRun('qemu-io', ['-c', 'write -P 9 3M 64k', path.join(one, 'sub/a.qcow2')]);
    await scanAll();
    expect(currentDigest(catalogue, image, 'sha256')).toBeNull();
  });

  it('migrates one image of a chain, in its format with its snapshots, and relinks its children', async () => {
    const contents = ['sub/a.qcow2', 'sub/b.qcow2'].map((name) => content(path.join(one, name)));
    const base = id('base.qcow2');
    writeNote(catalogue, base, { note: 'golden' });
    await migrate(catalogue, { image: base, datastore: 'two', folder: 'bases', format: null, chain: false }, silentJob);
    expect(fs.existsSync(path.join(one, 'base.qcow2'))).toBe(false);
    expect(mustRun('qemu-img', ['snapshot', '-l', path.join(two, 'bases/base.qcow2')])).toContain('kept');
    expect(['sub/a.qcow2', 'sub/b.qcow2'].map((name) => content(path.join(one, name)))).toEqual(contents);
    expect(imageRecord(catalogue, base)).toMatchObject({ datastore: 'two', path: 'bases/base.qcow2', note: 'golden' });
    expect(state('mid.qcow2')).toBe('whole');
    await scanAll();
    expect(imageRecord(catalogue, base)).toMatchObject({ datastore: 'two', note: 'golden', gone: false });
  });

  it('migrates a whole chain into another format', async () => {
    deleteImage(catalogue, id('sub/b.qcow2'), false);
    const before = content(path.join(one, 'sub/a.qcow2'));
    const { files } = await migrate(
      catalogue,
      { image: id('sub/a.qcow2'), datastore: 'two', folder: '.', format: 'vmdk', chain: true },
      silentJob,
    );
    expect(files.map((file) => path.basename(file))).toEqual(['base.vmdk', 'mid.vmdk', 'a.vmdk']);
    expect(content(path.join(two, 'a.vmdk'))).toBe(before);
    expect(fs.readdirSync(one, { recursive: true }).filter((name) => String(name).endsWith('.qcow2'))).toEqual([]);
    expect(parentEdge(catalogue, id('a.vmdk'))?.state).toBe('whole');
  });

  it('refuses to migrate what could not be whole afterwards, and touches nothing', async () => {
    const to = { datastore: 'two', folder: '.', chain: false };
    await expect(migrate(catalogue, { image: id('mid.qcow2'), format: 'raw', ...to }, silentJob)).rejects.toMatchObject(
      {
        code: 'migrate/no-backing',
      },
    );
    for (const [format, base, child] of [['vpc', 'p.vhd', 'c.vhd']] as const) {
      runPlatter(['create', '-q', '-f', format, base, '4M'], { cwd: one });
      runPlatter(['create', '-q', '-f', format, '-b', base, '-F', format, child], { cwd: one });
    }
    await scanAll();
    await expect(migrate(catalogue, { image: id('p.vhd'), format: 'qcow2', ...to }, silentJob)).rejects.toMatchObject({
      code: 'migrate/child-format',
    });
    fs.writeFileSync(path.join(two, 'mid.qcow2'), '');
    await expect(migrate(catalogue, { image: id('mid.qcow2'), format: null, ...to }, silentJob)).rejects.toMatchObject({
      code: 'image/target-exists',
    });
    await expect(
      migrate(catalogue, { image: id('mid.qcow2'), format: null, ...to, folder: '../..' }, silentJob),
    ).rejects.toMatchObject({
      code: 'image/outside-datastore',
    });
    expect(fs.readdirSync(two)).toEqual(['mid.qcow2']);
  });

  it('removes no source whose copy reads otherwise: the damage is found, the copy goes, the chain stays', async () => {
    const tops = ['sub/a.qcow2', 'sub/b.qcow2'].map((name) => path.join(one, name));
    const contents = tops.map(content);
    for (const [image, format, ending] of [
      ['mid.qcow2', null, 'qcow2'],
      ['base.qcow2', 'raw', 'raw'],
      ['base.qcow2', null, 'qcow2'],
    ] as const) {
      const copy = path.join(two, image.replace(/qcow2$/, ending));
      let damaged = 0;
      const job = {
        throwIfCancelled: () => {},
        progress() {
          // The copy has its name when it is complete: from then on the disk under it may fail.
          if (damaged > 0 || !fs.existsSync(copy)) return;
          damaged++;
          const file = fs.openSync(copy, 'r+');
          // Every 64 KiB, in the middle: guest data somewhere, metadata nowhere (it stands at the beginning of its cluster).
          const { size } = fs.fstatSync(file);
          for (let at = 32768; at < size; at += 65536) fs.writeSync(file, 'damage', at);
          fs.closeSync(file);
        },
      };
      const asked = { image: id(image), datastore: 'two', folder: '.', format, chain: false };
      await expect(migrate(catalogue, asked, job)).rejects.toMatchObject({ code: 'migrate/differs' });
      expect(damaged).toBe(1);
      expect(fs.readdirSync(two)).toEqual([]);
      expect(imageRecord(catalogue, id(image))).toMatchObject({ datastore: 'one', gone: false });
      expect(interruptedMigrations(catalogue)).toEqual([]);
      mustRun('qemu-img', ['check', path.join(one, image)]);
      expect(tops.map(content)).toEqual(contents);
    }
  });

  it(`survives ${kills} kills during a migration: every chain whole at each, and resumed it ends right`, async () => {
    const tops = ['sub/a.qcow2', 'sub/b.qcow2'].map((name) => path.join(one, name));
    const contents = tops.map(content);
    const script = path.join(project, 'test', 'units', 'catalogue', 'migrate-script.ts');
    const database = path.join(folder, 'catalogue.db');
    let killed = 0;
    let resumed = 0;
    for (let round = 0; killed < kills && round < kills * 3; round++) {
      const [from, to] = round % 2 === 0 ? ['one', 'two'] : ['two', 'one'];
      const base = id('base.qcow2');
      expect(imageRecord(catalogue, base).datastore).toBe(from);
      const child = spawn(process.execPath, [script, database, base, to], { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, (round * 37) % 220));
      const wasAlive = child.kill('SIGKILL') && child.exitCode === null;
      if (child.exitCode === null && child.signalCode === null)
        await new Promise((resolve) => child.once('exit', resolve));
      if (wasAlive && child.signalCode === 'SIGKILL') killed++;
      // Whatever happened: every disk reads as before, through whichever chain it has now.
      expect(tops.map(content)).toEqual(contents);
      for (const { id: migration } of interruptedMigrations(catalogue)) {
        resumed++;
        await resumeMigration(catalogue, migration, silentJob);
      }
      await scanAll();
      expect(tops.map(content)).toEqual(contents);
      if (imageRecord(catalogue, base).datastore === from) {
        await migrate(catalogue, { image: base, datastore: to, folder: '.', format: null, chain: false }, silentJob);
      }
      expect(fs.readdirSync(path.join(folder, from)).filter((name) => name.includes('base'))).toEqual([]);
      mustRun('qemu-img', ['check', path.join(folder, to, 'base.qcow2')]);
    }
    expect(killed).toBeGreaterThanOrEqual(kills);
    expect(resumed).toBeGreaterThan(0);
  }, 600_000);
});
