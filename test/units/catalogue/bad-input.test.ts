// What a datastore can do to a scan, and what can happen to the catalogue meanwhile: shown, survived, nothing lost.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore, findDatastore, probeDatastore } from '../../../core/catalogue/datastores.ts';
import { imageRecord, listImages, resolveImage, writeNote, writeTags } from '../../../core/catalogue/images.ts';
import { parentEdge } from '../../../core/catalogue/lineage.ts';
import { listProblems } from '../../../core/catalogue/problems.ts';
import { scan, type ScanResult } from '../../../core/catalogue/scan/scan.ts';
import { silentJob, type Job } from '../../../core/job.ts';
import { describeWith, mustRun, platterCommand } from '../../peers.ts';
import { processorTime } from '../../processor-time.ts';
import { scratchFolder } from '../../scratch.ts';

/** Why no file system can be mounted here; null: it can. */
function mountRefused(): string | null {
  if (process.platform !== 'linux') return 'tmpfs is mounted on Linux only';
  if (process.getuid?.() !== 0) return 'mounting takes root';
  const folder = fs.mkdtempSync('/tmp/platter-mount-');
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder]);
  if (status === 0) execFileSync('umount', [folder]);
  fs.rmdirSync(folder);
  return status === 0 ? null : `mount says: ${String(stderr).trim()}`;
}

const noMount = mountRefused();
const itMounting = (name: string, body: () => void | Promise<void>, time?: number): void => {
  if (noMount === null) it(name, body, time);
  else it.skip(`${name} (skipped: ${noMount})`, body);
};

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'bad input', () => {
  const root = scratchFolder('bad-input');
  const mounted: string[] = [];
  let number = 0;
  let folder: string;
  let store: string;
  let file: string;
  let catalogue: Catalogue;
  const at = (): { cwd: string } => ({ cwd: store });
  const rescan = (job: Job = silentJob): Promise<ScanResult> => scan(catalogue, { datastore: 'store' }, job);
  const make = (...names: string[]): void => {
    for (const name of names) mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', name, '1M'], at());
  };
  const mountHere = (where: string, size: string): void => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', where]);
    mounted.push(where);
  };
  const unmount = (where: string): void => {
    execFileSync('umount', ['-l', where]);
    mounted.splice(mounted.indexOf(where), 1);
  };
  const problems = (): string[] =>
    listProblems(catalogue).map((one) => `${path.relative(store, one.file ?? store)} ${one.code}`);
  /** Does `work` before the file with the number `count` is looked into. */
  const before = (count: number, work: () => void): Job => {
    let steps = 0;
    return {
      progress: () => {},
      throwIfCancelled() {
        if (++steps === count) work();
      },
    };
  };

  beforeEach(() => {
    folder = path.join(root, String(number++));
    store = path.join(folder, 'store');
    file = path.join(folder, 'own', 'catalogue.db');
    fs.mkdirSync(store, { recursive: true });
    catalogue = openCatalogue(file);
    return () => catalogue.close();
  });
  afterAll(() => {
    for (const where of [...mounted]) unmount(where);
  });

  it('links that lead nowhere, round in circles, or to a pipe: shown or passed by, and nothing waits', async () => {
    make('good.qcow2');
    fs.symlinkSync('nowhere', path.join(store, 'dangling.qcow2'));
    fs.symlinkSync('two.qcow2', path.join(store, 'one.qcow2'));
    fs.symlinkSync('one.qcow2', path.join(store, 'two.qcow2'));
    fs.symlinkSync('.', path.join(store, 'round'));
    fs.symlinkSync('/', path.join(store, 'everything'));
    execFileSync('mkfifo', [path.join(store, 'pipe.qcow2')]);
    fs.symlinkSync('pipe.qcow2', path.join(store, 'to-pipe.qcow2'));
    mustRun(
      'qemu-img',
      ['create', '-q', '-u', '-f', 'qcow2', '-b', 'pipe.qcow2', '-F', 'raw', 'on-pipe.qcow2', '1M'],
      at(),
    );
    mustRun(
      'qemu-img',
      ['create', '-q', '-u', '-f', 'qcow2', '-b', '/dev/zero', '-F', 'raw', 'on-zero.qcow2', '1M'],
      at(),
    );
    const server = net.createServer().listen(path.join(store, 'socket.img'));
    await new Promise((resolve) => server.once('listening', resolve));
    addDatastore(catalogue, { path: store, name: 'store' });
    await rescan();
    server.close();
    expect(problems()).toEqual([
      'dangling.qcow2 image/dangling-link',
      'on-pipe.qcow2 problem/parent-missing',
      'on-zero.qcow2 problem/parent-missing',
      'one.qcow2 storage/open',
      'two.qcow2 storage/open',
    ]);
    expect(listImages(catalogue).find(({ path: name }) => name === 'good.qcow2')?.problem).toBeNull();
  });

  it('files without a byte, without an end, and names that are not UTF-8', async () => {
    for (const name of ['zero.qcow2', 'zero.vhd', 'zero.vmdk', 'zero.raw'])
      fs.writeFileSync(path.join(store, name), '');
    make('short.qcow2');
    fs.truncateSync(path.join(store, 'short.qcow2'), 60);
    fs.writeFileSync(Buffer.from(`${store}/bad\xff.qcow2`, 'latin1'), 'x');
    fs.mkdirSync(Buffer.from(`${store}/folder\xfe`, 'latin1'));
    addDatastore(catalogue, { path: store, name: 'store' });
    await rescan();
    const codes = new Set(problems());
    for (const name of ['zero.qcow2', 'zero.vhd', 'zero.vmdk']) expect(codes).toContain(`${name} image/not-as-named`);
    expect([...codes].filter((one) => one.endsWith('image/name-encoding'))).toHaveLength(2);
    expect([...codes].some((one) => one.startsWith('short.qcow2 '))).toBe(true);
  });

  it('a folder that may not be read: shown, and what was known of it is kept', () => {
    fs.mkdirSync(path.join(store, 'closed'));
    make('open.qcow2', 'closed/in.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'closed/in.qcow2', '-F', 'qcow2', 'child.qcow2'], at());
    // Root may read everything: another user scans.
    const isRoot = process.getuid?.() === 0;
    const command = platterCommand();
    const other = isRoot ? ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', ...command] : command;
    const run = (...args: string[]): string => {
      const [program = '', ...rest] = [...other, ...args];
      const { status, stdout, stderr } = spawnSync(program, rest, {
        env: { ...process.env, PLATTER_CATALOGUE: file },
        encoding: 'utf8',
      });
      expect({ args, status, stderr }).toEqual({ args, status: 0, stderr: '' });
      return stdout;
    };
    catalogue.close();
    fs.rmSync(path.dirname(file), { recursive: true });
    fs.mkdirSync(path.dirname(file));
    for (let above = folder; above.startsWith(root); above = path.dirname(above)) fs.chmodSync(above, 0o755);
    if (isRoot) execFileSync('chown', ['-R', '65534:65534', folder]);
    run('datastore', 'add', '-q', store, 'store');
    catalogue = openCatalogue(file);
    const inside = resolveImage(catalogue, 'closed/in.qcow2');
    writeTags(catalogue, resolveImage(catalogue, 'open.qcow2'), { add: ['mine'], remove: [] });
    fs.chmodSync(path.join(store, 'closed'), 0);
    fs.chmodSync(path.join(store, 'open.qcow2'), 0);
    run('datastore', 'scan', '-q', '--everything', 'store');
    expect(problems()).toEqual(expect.arrayContaining(['closed storage/open', 'open.qcow2 storage/open']));
    expect(imageRecord(catalogue, inside)).toMatchObject({ path: 'closed/in.qcow2', format: 'qcow2', gone: false });
    expect(imageRecord(catalogue, resolveImage(catalogue, 'open.qcow2'))).toMatchObject({
      format: 'qcow2',
      virtualSize: 1048576,
      tags: ['mine'],
    });
    fs.chmodSync(path.join(store, 'closed'), 0o755);
    fs.chmodSync(path.join(store, 'open.qcow2'), 0o644);
    run('datastore', 'scan', '-q', 'store');
    expect(problems()).toEqual([]);
    expect(parentEdge(catalogue, resolveImage(catalogue, 'child.qcow2'))).toMatchObject({
      parentId: inside,
      state: 'whole',
    });
  });

  it('a datastore that goes away in the middle of a scan: said, and no image is called gone', async () => {
    fs.mkdirSync(path.join(store, 'sub'));
    make('a.qcow2', 'b.qcow2', 'sub/c.qcow2', 'z.qcow2');
    addDatastore(catalogue, { path: store, name: 'store' });
    await rescan();
    for (const moment of [1, 2, 3, 4]) {
      await expect(rescan(before(moment, () => fs.renameSync(store, `${store}-away`)))).rejects.toMatchObject({
        code: 'datastore/unreachable',
      });
      fs.renameSync(`${store}-away`, store);
      expect(listImages(catalogue).map(({ path: name, gone }) => [name, gone])).toEqual([
        ['a.qcow2', false],
        ['b.qcow2', false],
        ['sub/c.qcow2', false],
        ['z.qcow2', false],
      ]);
    }
    expect(await rescan()).toMatchObject({ gone: 0, problems: 0 });
    fs.rmSync(path.join(store, 'a.qcow2'));
    expect(await rescan()).toMatchObject({ gone: 1 });
  });

  itMounting('a datastore that is unmounted under a scan, or is not mounted when it is scanned', async () => {
    mountHere(store, '16m');
    make('a.qcow2', 'b.qcow2', 'c.qcow2');
    addDatastore(catalogue, { path: store, name: 'store' });
    await rescan();
    writeNote(catalogue, resolveImage(catalogue, 'b.qcow2'), { note: 'keep' });
    await expect(rescan(before(2, () => unmount(store)))).rejects.toMatchObject({ code: 'datastore/unreachable' });
    expect(listImages(catalogue).filter(({ gone }) => !gone)).toHaveLength(3);
    // The empty folder under the mount is there, and is not the datastore; looking at it does not make it so.
    expect(probeDatastore(catalogue, 'store').device?.fileSystem).toBe('tmpfs');
    await expect(rescan()).rejects.toMatchObject({ code: 'datastore/unreachable' });
    expect(listImages(catalogue).filter(({ gone }) => !gone)).toHaveLength(3);
    mountHere(store, '16m');
    make('b.qcow2');
    await rescan();
    expect(listImages(catalogue).map(({ path: name }) => name)).toEqual(['b.qcow2']);
    expect(imageRecord(catalogue, resolveImage(catalogue, 'b.qcow2')).note).toBe('keep');
    unmount(store);
  });

  it('files that change, shrink, grow and go while they are looked at: as they are after the next scan', async () => {
    make('a.qcow2', 'b.qcow2', 'c.qcow2', 'd.qcow2');
    addDatastore(catalogue, { path: store, name: 'store' });
    const job = before(2, () => {
      mustRun('qemu-img', ['resize', '-q', 'b.qcow2', '9M'], at());
      fs.truncateSync(path.join(store, 'c.qcow2'), 10);
      fs.rmSync(path.join(store, 'd.qcow2'));
    });
    // The one that is removed was listed, and is not there any more when it is its turn.
    expect(await rescan(job)).toMatchObject({ files: 3, gone: 0 });
    await rescan();
    expect(listImages(catalogue).map(({ path: name, virtualSize }) => [name, virtualSize])).toEqual([
      ['a.qcow2', 1048576],
      ['b.qcow2', 9 * 1048576],
      ['c.qcow2', null],
    ]);
    expect(problems()).toEqual(['c.qcow2 image/not-as-named']);
  });

  it('a thousand files with one identity: each shown, none taken for another, and quick about it', async () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'vdi', '0000.vdi', '1M'], at());
    for (let copy = 1; copy < 1000; copy++) {
      fs.copyFileSync(path.join(store, '0000.vdi'), path.join(store, `${String(copy).padStart(4, '0')}.vdi`));
    }
    addDatastore(catalogue, { path: store, name: 'store' });
    expect(await rescan()).toMatchObject({ added: 1000, problems: 0 });
    const begin = processorTime();
    const found = listProblems(catalogue);
    expect(processorTime() - begin).toBeLessThan(2000);
    expect(found).toHaveLength(1000);
    expect(new Set(found.map(({ code }) => code))).toEqual(new Set(['problem/duplicate-identity']));
    expect(found[0]?.text).toContain('998 more');
    const marked = resolveImage(catalogue, '0500.vdi');
    writeNote(catalogue, marked, { name: 'the one' });
    fs.renameSync(path.join(store, '0500.vdi'), path.join(store, 'moved.vdi'));
    expect(await rescan()).toMatchObject({ moved: 1, added: 0, gone: 0 });
    expect(imageRecord(catalogue, marked)).toMatchObject({ path: 'moved.vdi', name: 'the one' });
  }, 60_000);

  itMounting(
    'a catalogue on a disk that is full: said, what it holds is whole, and it goes on when there is room',
    async () => {
      const small = path.join(folder, 'small');
      fs.mkdirSync(small);
      mountHere(small, '1m');
      const crowded = openCatalogue(path.join(small, 'catalogue.db'));
      make('seed.qcow2');
      addDatastore(crowded, { path: store, name: 'store' });
      await scan(crowded, { datastore: 'store' }, silentJob);
      writeNote(crowded, resolveImage(crowded, 'seed.qcow2'), { name: 'by hand' });
      for (let copy = 0; copy < 1500; copy++) {
        fs.copyFileSync(path.join(store, 'seed.qcow2'), path.join(store, `copy-${copy}.qcow2`));
      }
      await expect(scan(crowded, { datastore: 'store' }, silentJob)).rejects.toMatchObject({
        code: 'catalogue/storage',
      });
      expect(imageRecord(crowded, resolveImage(crowded, 'seed.qcow2')).name).toBe('by hand');
      crowded.close();
      const again = openCatalogue(path.join(small, 'catalogue.db'));
      expect(again.setAside).toBeNull();
      expect(imageRecord(again, resolveImage(again, 'seed.qcow2')).name).toBe('by hand');
      execFileSync('mount', ['-o', 'remount,size=64m', small]);
      await scan(again, { datastore: 'store' }, silentJob);
      expect(findDatastore(again, 'store')).toMatchObject({ images: 1501, problems: 0 });
      again.close();
      unmount(small);
    },
    60_000,
  );

  it('several programs at once: all that each wrote is there', async () => {
    for (let copy = 0; copy < 40; copy++) make(`${copy}.qcow2`);
    addDatastore(catalogue, { path: store, name: 'store' });
    await rescan();
    const run = (...args: string[]): Promise<{ code: number | null; stderr: string }> =>
      new Promise((resolve) => {
        const [program, ...first] = platterCommand();
        const child = spawn(program, [...first, ...args], {
          env: { ...process.env, PLATTER_CATALOGUE: file },
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        let stderr = '';
        child.stderr.on('data', (part: Buffer) => (stderr += part.toString()));
        child.on('exit', (code) => resolve({ code, stderr }));
      });
    const ended = await Promise.all([
      run('datastore', 'scan', '--everything', 'store'),
      run('datastore', 'scan', '--everything', 'store'),
      run('image', 'tag', path.join(store, '7.qcow2'), 'one'),
      run('image', 'tag', path.join(store, '7.qcow2'), 'two'),
      run('image', 'digest', path.join(store, '9.qcow2')),
    ]);
    expect(ended).toEqual(ended.map(() => ({ code: 0, stderr: expect.any(String) as string })));
    expect(findDatastore(catalogue, 'store')).toMatchObject({ images: 40, problems: 0 });
    expect(imageRecord(catalogue, resolveImage(catalogue, '7.qcow2')).tags).toEqual(['one', 'two']);
    expect(imageRecord(catalogue, resolveImage(catalogue, '9.qcow2')).digests).toHaveLength(1);
  }, 60_000);
});
