// Every work that a job can do, done by a job in its thread; qemu-img says what came of it.
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../../core/catalogue/datastores.ts';
import { findingsOf } from '../../../core/catalogue/findings.ts';
import { imageRecord, resolveImage } from '../../../core/catalogue/images.ts';
import { JobHost } from '../../../core/workbench/jobs/job-host.ts';
import type { JobRecord } from '../../../core/workbench/jobs/job-store.ts';
import { works, type WorkName } from '../../../core/workbench/jobs/works.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { builtThread } from '../../built-thread.ts';
import { scratchFolder } from '../../scratch.ts';

const MiB = 1024 * 1024;

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'works', () => {
  const root = scratchFolder('works');
  const [one, two] = [path.join(root, 'one'), path.join(root, 'two')];
  const at = { cwd: one };
  const done = new Set<string>();
  let catalogue: Catalogue;
  let host: JobHost;
  const image = (name: string, secret: string | null = null) => ({
    path: path.join(one, name),
    format: null,
    trust: 'files',
    secret,
  });
  const job = async (work: WorkName, params: unknown, secrets: Record<string, string> = {}): Promise<JobRecord> => {
    done.add(work);
    return host.whenOver(host.start(work, params, secrets));
  };
  const succeed = async (work: WorkName, params: unknown, secrets: Record<string, string> = {}): Promise<unknown> => {
    const record = await job(work, params, secrets);
    expect({ work, state: record.state, error: record.error }).toEqual({ work, state: 'done', error: null });
    return record.result;
  };
  const same = (a: string, b: string): void => void mustRun('qemu-img', ['compare', a, b], at);

  beforeAll(() => {
    fs.mkdirSync(one);
    fs.mkdirSync(two);
    catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    host = new JobHost(catalogue, { roots: null, readOnly: false }, undefined, builtThread());
    for (const folder of [one, two]) addDatastore(catalogue, { path: folder, name: null });
  });
  afterAll(async () => {
    await host.close();
    catalogue.close();
  });

  it('make, change and look at images', async () => {
    await succeed('create', {
      target: path.join(one, 'base.qcow2'),
      overwrite: false,
      format: 'qcow2',
      size: 8 * MiB,
      options: { cluster_size: 65536 },
      backing: null,
      trust: 'files',
      secret: null,
    });
    mustRun('qemu-io', ['-c', 'write -P 1 0 2M', 'base.qcow2'], at);
    const overlay = { base: image('base.qcow2'), overwrite: false, format: null, options: {} };
    await succeed('overlay', { ...overlay, target: path.join(one, 'top.qcow2') });
    expect(await job('overlay', { ...overlay, target: path.join(one, 'top.qcow2') })).toMatchObject({
      state: 'failed',
      error: { code: 'image/target-exists' },
    });
    mustRun('qemu-io', ['-c', 'write -P 2 1M 1M', '-c', 'write -z 4M 1M', '-c', 'write -P 0 5M 1M', 'top.qcow2'], at);
    mustRun('qemu-img', ['convert', '-O', 'raw', 'top.qcow2', 'before.raw'], at);
    await succeed('snapshot', { image: image('top.qcow2'), action: { kind: 'create', name: 's' }, force: false });
    expect(mustRun('qemu-img', ['snapshot', '-l', 'top.qcow2'], at)).toContain(' s ');
    expect(await succeed('undo', { image: image('top.qcow2'), dryRun: false, force: false })).toBeDefined();
    expect(mustRun('qemu-img', ['snapshot', '-l', 'top.qcow2'], at)).not.toContain(' s ');
    const allocated = fs.statSync(path.join(one, 'top.qcow2')).size;
    const compact = { image: image('top.qcow2'), zeroUnused: false, rewrite: false, force: false };
    await succeed('compact', { ...compact, estimate: true });
    expect(fs.statSync(path.join(one, 'top.qcow2')).size).toBe(allocated);
    await succeed('compact', { ...compact, estimate: false });
    expect(fs.statSync(path.join(one, 'top.qcow2')).size).toBeLessThan(allocated);
    same('before.raw', 'top.qcow2');
    await succeed('amend', { image: image('top.qcow2'), values: { lazy_refcounts: true }, force: false });
    await succeed('rebase', { image: image('top.qcow2'), backing: null, unsafe: false, compress: false, force: false });
    same('before.raw', 'top.qcow2');
    await succeed('overlay', { ...overlay, base: image('top.qcow2'), target: path.join(one, 'more.qcow2') });
    mustRun('qemu-io', ['-c', 'write -P 9 0 64k', 'more.qcow2'], at);
    await succeed('commit', { image: image('more.qcow2'), base: null, keep: false, rate: 0, force: false });
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 9 0 64k', 'before.raw'], at);
    same('before.raw', 'top.qcow2');
    expect(await succeed('check', { image: image('top.qcow2'), repair: null })).toMatchObject({
      corruptions: 0,
      leaks: 0,
    });
    const compared = { first: image('before.raw'), second: image('top.qcow2'), strict: false };
    expect(await succeed('compare', compared)).toMatchObject({ verdict: 'identical' });
    const measured = { source: image('top.qcow2'), snapshot: null, size: null, format: 'vhdx', options: {} };
    const needed = JSON.parse(
      mustRun('qemu-img', ['measure', '--output=json', '-O', 'qcow2', 'top.qcow2'], at),
    ) as object;
    expect(await succeed('measure', { ...measured, format: 'qcow2' })).toMatchObject({
      required: (needed as { required: number }).required,
    });
    expect(await job('measure', { ...measured, format: 'nonsense' })).toMatchObject({
      error: { code: 'format/unknown-output' },
    });
    const resize = { bytes: MiB, by: 'plus', preallocation: 'off', shrink: false, fixGpt: false, force: false };
    expect(await succeed('resize', { image: image('top.qcow2'), ...resize })).toMatchObject({ size: 9 * MiB });
  });

  it('open what a passphrase opens, and say when it is wrong', async () => {
    const create = {
      target: path.join(one, 'locked.qcow2'),
      overwrite: false,
      format: 'qcow2',
      size: MiB,
      options: { 'encrypt.format': 'luks', 'encrypt.key-secret': 'mine', 'encrypt.iter-time': 10 },
      backing: null,
      trust: 'files',
      secret: 'mine',
    };
    await succeed('create', create, { mine: 'open sesame' });
    const digest = { image: image('locked.qcow2', 'mine'), algorithm: 'sha256' };
    await succeed('digest', digest, { mine: 'open sesame' });
    expect(await job('digest', digest, { mine: 'wrong' })).toMatchObject({ error: { code: 'crypto/password' } });
    const stored = fs.readFileSync(path.join(root, 'catalogue.db')).includes('open sesame');
    const logged =
      fs.existsSync(path.join(root, 'catalogue.db-wal')) &&
      fs.readFileSync(path.join(root, 'catalogue.db-wal')).includes('open sesame');
    expect({ stored, logged }).toEqual({ stored: false, logged: false });
  });

  it('keep dirty bitmaps', async () => {
    await succeed('create', {
      target: path.join(one, 'marked.qcow2'),
      overwrite: false,
      format: 'qcow2',
      size: 8 * MiB,
      options: {},
      backing: null,
      trust: 'files',
      secret: null,
    });
    const marked = image('marked.qcow2');
    const bitmap = (name: string, action: object) => succeed('bitmap', { image: marked, name, action });
    await bitmap('daily', { do: 'add', granularity: 131072, enabled: true });
    await bitmap('resting', { do: 'add', granularity: null, enabled: false });
    mustRun('qemu-io', ['-c', 'write -P 1 0 64k', 'marked.qcow2'], at);
    await bitmap('resting', { do: 'merge', from: 'daily', source: null });
    await bitmap('daily', { do: 'disable' });
    const bitmaps = (): unknown =>
      (
        JSON.parse(mustRun('qemu-img', ['info', '--output=json', 'marked.qcow2'], at)) as {
          'format-specific': { data: { bitmaps?: unknown } };
        }
      )['format-specific'].data.bitmaps;
    expect(bitmaps()).toEqual([
      { flags: [], name: 'daily', granularity: 131072 },
      { flags: [], name: 'resting', granularity: 65536 },
    ]);
    await bitmap('daily', { do: 'clear' });
    await bitmap('daily', { do: 'remove' });
    await bitmap('resting', { do: 'enable' });
    expect(bitmaps()).toEqual([{ flags: ['auto'], name: 'resting', granularity: 65536 }]);
    expect(await job('bitmap', { image: marked, name: 'none', action: { do: 'clear' } })).toMatchObject({
      error: { code: 'bitmap/action' },
    });
    mustRun('qemu-img', ['check', 'marked.qcow2'], at);
  });

  it('merge an image into its parent, and what stood on it stands there', async () => {
    const create = ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b'];
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'm-base.qcow2', '8M'], at);
    mustRun('qemu-io', ['-c', 'write -P 1 0 4M', 'm-base.qcow2'], at);
    mustRun('qemu-img', [...create, 'm-base.qcow2', 'm-middle.qcow2'], at);
    mustRun('qemu-io', ['-c', 'write -P 2 1M 1M', '-c', 'write -z 3M 512k', 'm-middle.qcow2'], at);
    for (const name of ['m-left.qcow2', 'm-right.qcow2']) {
      mustRun('qemu-img', [...create, 'm-middle.qcow2', name], at);
      mustRun('qemu-io', ['-c', 'write -P 3 2M 64k', name], at);
      mustRun('qemu-img', ['convert', '-O', 'raw', name, `${name}.raw`], at);
    }
    await succeed('scan', { datastore: 'one', everything: false });
    const id = (name: string): string => resolveImage(catalogue, name);
    mustRun('qemu-img', [...create, 'm-base.qcow2', 'm-other.qcow2'], at);
    await succeed('scan', { datastore: 'one', everything: false });
    // Another image stands on the parent: its disk would change.
    const refused = await job('merge', { image: id('m-middle.qcow2'), force: false });
    expect(refused.error?.code).toBe('image/has-dependents');
    expect(refused.error?.detail.named).toContain('m-other.qcow2');
    fs.rmSync(path.join(one, 'm-other.qcow2'));
    await succeed('scan', { datastore: 'one', everything: false });
    expect(await succeed('merge', { image: id('m-middle.qcow2'), force: false })).toMatchObject({ relinked: 2 });
    expect(fs.existsSync(path.join(one, 'm-middle.qcow2'))).toBe(false);
    for (const name of ['m-left.qcow2', 'm-right.qcow2']) {
      expect(mustRun('qemu-img', ['info', name], at)).toContain('backing file: m-base.qcow2');
      same(`${name}.raw`, name);
      mustRun('qemu-img', ['check', name], at);
      expect(imageRecord(catalogue, id(name)).parent?.parentId).toBe(id('m-base.qcow2'));
    }
    mustRun('qemu-img', ['snapshot', '-c', 'kept', 'm-left.qcow2'], at);
    await succeed('scan', { datastore: 'one', everything: false });
    expect(await job('merge', { image: id('m-left.qcow2'), force: false })).toMatchObject({
      error: { code: 'merge/snapshots' },
    });
    expect(await job('merge', { image: id('m-base.qcow2'), force: false })).toMatchObject({
      error: { code: 'lineage/no-parent' },
    });
  });

  it('keep the catalogue, and move images about in it', async () => {
    for (const datastore of ['one', 'two']) await succeed('scan', { datastore, everything: false });
    const id = (name: string): string => resolveImage(catalogue, name);
    expect(await succeed('digest-image', { image: id('top.qcow2'), algorithm: 'sha256' })).toMatchObject({
      size: 9 * MiB,
    });
    const leaky = path.join(one, 'leaky.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', leaky, '4M']);
    const bytes = fs.readFileSync(leaky);
    bytes.writeUInt16BE(1, Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48)))) + 2 * 10);
    fs.writeFileSync(leaky, Buffer.concat([bytes, Buffer.alloc(12 * 65536 - bytes.length)]));
    await succeed('scan', { datastore: 'one', everything: false });
    expect(await succeed('check-image', { image: id('leaky.qcow2') })).toMatchObject({ leaks: 1 });
    expect(findingsOf(catalogue, id('leaky.qcow2'))).toMatchObject([{ severity: 'leak', count: 1 }]);
    await succeed('clone', { image: id('top.qcow2'), target: 'clone.qcow2', format: null });
    same('top.qcow2', 'clone.qcow2');
    await succeed('move', { image: id('top.qcow2'), target: 'sub/moved.qcow2' });
    same('sub/moved.qcow2', 'clone.qcow2');
    const migrate = { image: id('sub/moved.qcow2'), datastore: 'two', folder: '.', format: null, chain: false };
    await succeed('migrate', migrate);
    same(path.join(two, 'moved.qcow2'), 'clone.qcow2');
    fs.renameSync(path.join(two, 'moved.qcow2'), path.join(two, 'again.qcow2'));
    for (const datastore of ['one', 'two']) await succeed('scan', { datastore, everything: false });
    await succeed('relink', { image: id('clone.qcow2'), parent: null, force: false });
    same(path.join(two, 'again.qcow2'), 'clone.qcow2');
    expect(await job('delete', { image: id('again.qcow2'), force: false })).toMatchObject({
      error: { code: 'image/has-dependents' },
    });
    await succeed('delete', { image: id('clone.qcow2'), force: false });
    expect(fs.existsSync(path.join(one, 'clone.qcow2'))).toBe(false);
    expect(await job('resume-migration', { migration: 'none' })).toMatchObject({ error: { code: 'migrate/unknown' } });
    expect(imageRecord(catalogue, id('again.qcow2')).history.map(({ what }) => what)).toContain('migrate');
    await succeed('convert', {
      source: { ...image(''), path: path.join(two, 'again.qcow2') },
      snapshot: null,
      target: path.join(one, 'out.vhdx'),
      overwrite: false,
      format: 'vhdx',
      options: {},
      backing: null,
      compress: false,
      salvage: false,
      verify: true,
      keepIdentity: false,
    });
    same(path.join(two, 'again.qcow2'), 'out.vhdx');
    const samples = await succeed('make-samples', { folder: path.join(two, 'samples') });
    expect(samples).toMatchObject({
      folder: path.join(two, 'samples'),
      images: { disk: path.join(two, 'samples', 'sample.qcow2') },
    });
    mustRun('qemu-img', ['check', path.join(two, 'samples', 'sample.qcow2')]);
    expect([...done].sort()).toEqual(Object.keys(works).sort());
  }, 180_000);
});
