// Jobs in their threads: done, refused, cancelled, paused, queued by device, interrupted, out of memory.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { JobHost, type JobNews } from '../../../core/workbench/jobs/job-host.ts';
import { JobStore } from '../../../core/workbench/jobs/job-store.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const plainImage = (file: string): object => ({ path: file, format: null, trust: 'files', secret: null });

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'jobs', () => {
  const root = scratchFolder('jobs');
  const at = { cwd: root };
  let catalogue: Catalogue;
  let host: JobHost;
  const file = (name: string): string => path.join(root, name);
  const conversion = (target: string, source = 'big.raw'): object => ({
    source: plainImage(file(source)),
    snapshot: null,
    target: file(target),
    overwrite: false,
    format: 'qcow2',
    options: {},
    backing: null,
    compress: true,
    salvage: false,
    verify: false,
    keepIdentity: false,
  });
  const news = (id: string): { readonly seen: JobNews[]; readonly stop: () => void } => {
    const seen: JobNews[] = [];
    return { seen, stop: host.onNews((one) => one.id === id && seen.push(one)) };
  };
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
  };

  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', 'small.raw', '4M'], at);
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 3 1M 1M', 'small.raw'], at);
    const big = fs.openSync(file('big.raw'), 'w');
    const noise = Buffer.alloc(1024 * 1024);
    for (let index = 0; index < noise.length; index++) noise[index] = (index * index * 31 + (index >> 3)) & 0xff;
    for (let piece = 0; piece < 256; piece++) fs.writeSync(big, noise.fill(piece, 0, 4096));
    fs.closeSync(big);
    catalogue = openCatalogue(file('catalogue.db'));
    host = new JobHost(catalogue);
  });
  afterAll(async () => {
    await host.close();
    catalogue.close();
  });

  it('are done in a thread and remembered with their result', async () => {
    const id = host.start('convert', conversion('small.qcow2', 'small.raw'));
    const over = await host.whenOver(id);
    expect(over).toMatchObject({ state: 'done', work: 'convert', result: { size: 4 * 1024 * 1024 }, error: null });
    mustRun('qemu-img', ['compare', 'small.raw', 'small.qcow2'], at);
    const digest = await host.whenOver(
      host.start('digest', { image: plainImage(file('small.qcow2')), algorithm: 'sha256' }),
    );
    const expected = spawnSync('sha256sum', [file('small.raw')], { encoding: 'utf8' }).stdout.split(' ')[0];
    expect(digest.result).toMatchObject({ value: expected });
  });

  it('tell what went wrong with its code and place, and do not replace a file unasked', async () => {
    const there = await host.whenOver(host.start('convert', conversion('small.qcow2', 'small.raw')));
    expect(there).toMatchObject({ state: 'failed', error: { code: 'image/target-exists' } });
    const missing = await host.whenOver(host.start('convert', conversion('new.qcow2', 'nothing.raw')));
    expect(missing).toMatchObject({
      state: 'failed',
      error: { code: 'storage/open', where: { file: file('nothing.raw') } },
    });
    expect(fs.existsSync(file('new.qcow2'))).toBe(false);
  });

  it('are refused when their parameters have another shape', () => {
    expect(() => host.start('convert', { ...conversion('x'), compress: 'yes' })).toThrow(/'compress'/);
    expect(() => host.start('convert', { ...conversion('x'), more: 1 })).toThrow(/'more'/);
    expect(() => host.start('check', { image: plainImage('a\0b'), repair: null })).toThrow(/zero byte/);
  });

  it.runIf(process.platform === 'linux')('let the window go first, with all their threads', async () => {
    // The field after the name in brackets that counts as the 19th of /proc/PID/task/TID/stat (proc(5)).
    const niceThreads = (): number =>
      fs.readdirSync('/proc/self/task').filter((thread) => {
        const stat = fs.readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
        return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16] === '10';
      }).length;
    const before = niceThreads();
    const id = host.start('convert', conversion('nice.qcow2'));
    const { seen, stop } = news(id);
    await until(() => seen.some(({ kind }) => kind === 'progress') && niceThreads() >= before + 2);
    host.cancel(id);
    await host.whenOver(id);
    stop();
  });

  it('stop when asked, and leave nothing', async () => {
    const id = host.start('convert', conversion('cancelled.qcow2'));
    const { seen, stop } = news(id);
    await until(() => seen.some(({ kind }) => kind === 'progress'));
    host.cancel(id);
    expect((await host.whenOver(id)).state).toBe('cancelled');
    stop();
    expect(fs.readdirSync(root).filter((name) => name.includes('cancelled'))).toEqual([]);
    expect(() => host.cancel(id)).toThrow(/over/);
    expect(() => host.cancel('nobody')).toThrow(/no job/);
  });

  it('wait while paused, and go on', async () => {
    const id = host.start('convert', conversion('paused.qcow2'));
    const { seen, stop } = news(id);
    await until(() => seen.some(({ kind }) => kind === 'progress'));
    host.pause(id);
    expect(host.job(id).state).toBe('paused');
    // What is under way is finished; then nothing moves.
    const moves = (): number => seen.filter(({ kind }) => kind === 'progress').length;
    let before = -1;
    while (before !== moves()) {
      before = moves();
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    expect(host.job(id).state).toBe('paused');
    host.resume(id);
    expect((await host.whenOver(id)).state).toBe('done');
    stop();
    const rates = seen.flatMap((one) => (one.kind === 'progress' ? [one.rate] : []));
    expect(Math.max(...rates)).toBeGreaterThan(0);
    mustRun('qemu-img', ['compare', 'big.raw', 'paused.qcow2'], at);
  });

  it('that wait in the queue can be taken out of it', async () => {
    const ids = [1, 2, 3, 4, 5, 6].map((number) => host.start('convert', conversion(`queued-${number}.qcow2`)));
    const last = ids.at(-1) ?? '';
    expect(host.job(last).state).toBe('queued');
    const states = ids.map((id) => host.job(id).state);
    expect(states.filter((state) => state === 'running').length).toBeGreaterThan(0);
    for (const id of [...ids].reverse()) host.cancel(id);
    for (const id of ids) expect((await host.whenOver(id)).state).toBe('cancelled');
    host.forget(last);
    expect(() => host.job(last)).toThrow(/no job/);
  });

  it('log what a check finds, up to a limit', async () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'leaky.qcow2', '4M'], at);
    const bytes = fs.readFileSync(file('leaky.qcow2'));
    const blockAt = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
    bytes.writeUInt16BE(1, blockAt + 2 * 10);
    fs.writeFileSync(file('leaky.qcow2'), Buffer.concat([bytes, Buffer.alloc(12 * 65536 - bytes.length)]));
    const id = host.start('check', { image: plainImage(file('leaky.qcow2')), repair: null });
    expect(await host.whenOver(id)).toMatchObject({ state: 'done', result: { leaks: 1, corruptions: 0 } });
    expect(host.lines(id, 0, 10)).toMatchObject([{ number: 1, kind: 'log' }]);
  });

  it('ask the catalogue before a base with overlays is changed', async () => {
    const { addDatastore } = await import('../../../core/catalogue/datastores.ts');
    const store = file('store');
    fs.mkdirSync(store);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'base.qcow2', '4M'], { cwd: store });
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], {
      cwd: store,
    });
    addDatastore(catalogue, { path: store, name: 's' });
    expect(await host.whenOver(host.start('scan', { datastore: 's', everything: false }))).toMatchObject({
      state: 'done',
      result: { added: 2 },
    });
    const growth = (force: boolean): string =>
      host.start('resize', {
        image: plainImage(path.join(store, 'base.qcow2')),
        bytes: 8 * 1024 * 1024,
        by: 'absolute',
        preallocation: 'off',
        shrink: false,
        fixGpt: false,
        force,
      });
    expect(await host.whenOver(growth(false))).toMatchObject({
      state: 'failed',
      error: { code: 'in-place/dependents' },
    });
    expect(await host.whenOver(growth(true))).toMatchObject({ state: 'done' });
  });

  it('of a program that died are called interrupted by the next one', () => {
    const store = new JobStore(catalogue);
    const id = store.add('digest', {});
    const gone = spawnSync(process.execPath, ['-e', '']).pid;
    catalogue.database.run('update job set pid = :pid where id = :id', { id, pid: gone });
    store.setState(id, 'running');
    expect(new JobStore(catalogue).markInterrupted()).toEqual([id]);
    expect(store.one(id)?.state).toBe('interrupted');
    const target = file('half.qcow2');
    const half = store.add('convert', { target });
    catalogue.database.run('update job set pid = :pid where id = :id', { id: half, pid: gone });
    fs.writeFileSync(file('.half.qcow2.partial-0123abcd'), 'half of it');
    fs.writeFileSync(file('.half.qcow2.other'), 'of somebody else');
    expect(host.leftovers(half)).toEqual([]);
    expect(new JobStore(catalogue).markInterrupted()).toEqual([half]);
    expect(host.tidy(half)).toEqual([file('.half.qcow2.partial-0123abcd')]);
    expect(fs.readdirSync(root).filter((name) => name.startsWith('.half'))).toEqual(['.half.qcow2.other']);
  });
});

describe('a job that needs too much memory', () => {
  it('ends with a code, and the program goes on', async () => {
    const root = scratchFolder('jobs-memory');
    fs.writeFileSync(path.join(root, 'a.raw'), Buffer.alloc(1024 * 1024, 5));
    const catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    const work = { image: plainImage(path.join(root, 'a.raw')), algorithm: 'sha512' };
    const poor = new JobHost(catalogue, { roots: null, readOnly: false }, { maxOldGenerationSizeMb: 4 });
    expect(await poor.whenOver(poor.start('digest', work))).toMatchObject({
      state: 'failed',
      error: { code: 'job/memory' },
    });
    const rich = new JobHost(catalogue);
    expect(await rich.whenOver(rich.start('digest', work))).toMatchObject({ state: 'done' });
    await Promise.all([poor.close(), rich.close()]);
    catalogue.close();
  });
});

describe('a closing host', () => {
  it('cancels what runs and what waits', async () => {
    const root = scratchFolder('jobs-close');
    fs.writeFileSync(path.join(root, 'a.raw'), Buffer.alloc(64 * 1024 * 1024, 5));
    const catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    const host = new JobHost(catalogue);
    const ids = [1, 2, 3, 4, 5].map(() =>
      host.start('digest', { image: plainImage(path.join(root, 'a.raw')), algorithm: 'sha512' }),
    );
    await host.close();
    expect(ids.map((id) => host.job(id).state).filter((state) => state !== 'done')).toEqual(ids.map(() => 'cancelled'));
    catalogue.close();
  });
});
