// `platter serve` as a browser meets it: who is let in, every call of the contract over a real WebSocket, and how it ends.
import { createORPCClient } from '@orpc/client';
import { RPCLink } from '@orpc/client/websocket';
import type { ContractRouterClient } from '@orpc/contract';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { openCatalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../../core/catalogue/datastores.ts';
import { resolveImage, writeNote, writeTags } from '../../../core/catalogue/images.ts';
import { scan } from '../../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../../core/job.ts';
import { contract, type Contract } from '../../../core/workbench/contract.ts';
import type { JobNews } from '../../../core/workbench/jobs/job-host.ts';
import { describeWith, mustRun, platterCommand } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

type Client = ContractRouterClient<Contract>;

interface Served {
  readonly child: ChildProcess;
  readonly url: URL;
  readonly stderr: () => string;
}

async function serve(folder: string, args: readonly string[]): Promise<Served> {
  const [program, ...first] = platterCommand();
  const child = spawn(program, [...first, 'serve', ...args], {
    env: { ...process.env, PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
  const url = await new Promise<string>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (part: Buffer) => {
      text += part.toString();
      if (text.includes('\n')) resolve(text.split('\n')[0] ?? '');
    });
    child.on('exit', (code) => reject(new Error(`serve ended with ${code}: ${stderr}`)));
  });
  return { child, url: new URL(url), stderr: () => stderr };
}

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

function get(url: URL, place: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: url.hostname, port: url.port, path: place, method, headers }, (response) => {
      let body = '';
      response.on('data', (part: Buffer) => (body += part.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    request.on('error', reject);
    request.end();
  });
}

async function cookieOf({ url }: Served): Promise<string> {
  const { headers } = await get(url, url.pathname + url.search);
  return headers['set-cookie']?.[0]?.split(';')[0] ?? '';
}

function connect(served: Served, headers: Record<string, string>): Promise<WebSocket> {
  const socket = new WebSocket(`ws://${served.url.host}/rpc`, { headers });
  return new Promise((resolve, reject) => {
    socket.on('open', () => resolve(socket));
    socket.on('error', reject);
  });
}

async function clientOf(served: Served): Promise<{ client: Client; socket: WebSocket }> {
  const socket = await connect(served, { Cookie: await cookieOf(served), Origin: served.url.origin });
  return { client: createORPCClient(new RPCLink({ websocket: socket as unknown as globalThis.WebSocket })), socket };
}

/** Every call of the contract, as `group.name`. */
const calls = Object.entries(contract).flatMap(([group, members]) =>
  Object.keys(members).map((name) => `${group}.${name}`),
);

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'platter serve', () => {
  const root = scratchFolder('serve');
  const store = path.join(root, 'store');
  const at = { cwd: store };
  const used = new Set<string>();
  let served: Served;
  let client: Client;
  let socket: WebSocket;
  const image = (name: string) => ({
    path: path.join(store, name),
    format: null,
    trust: 'files' as const,
    secret: null,
  });
  /** The client, noting which calls were made. */
  const watched = (raw: Client): Client =>
    new Proxy(raw, {
      get: (groups, group: string) =>
        new Proxy(groups[group as keyof Client], {
          get(members, name: string) {
            used.add(`${group}.${name}`);
            return members[name as keyof typeof members];
          },
        }),
    });

  beforeAll(async () => {
    fs.mkdirSync(store);
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', 'disk.raw', '8M'], at);
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 65 1M 64k', '-c', 'write -P 66 5M 4k', 'disk.raw'], at);
    mustRun('qemu-img', ['convert', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', 'top.qcow2'], at);
    mustRun('qemu-io', ['-c', 'write -P 67 2M 64k', '-c', 'write -z 5M 64k', 'top.qcow2'], at);
    fs.writeFileSync(path.join(root, 'secret.raw'), Buffer.alloc(4096, 1));
    mustRun(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-b', path.join(root, 'secret.raw'), '-F', 'raw', 'thief.qcow2'],
      at,
    );
    fs.symlinkSync(path.join(root, 'secret.raw'), path.join(store, 'link.raw'));
    served = await serve(root, ['--root', store]);
    const connected = await clientOf(served);
    client = watched(connected.client);
    ({ socket } = connected);
  });
  afterAll(() => {
    socket.close();
    served.child.kill('SIGTERM');
  });

  it('prints an address on loopback with a token, which becomes a cookie that scripts cannot read', async () => {
    expect(served.url.hostname).toBe('127.0.0.1');
    const answer = await get(served.url, served.url.pathname + served.url.search);
    expect(answer).toMatchObject({ status: 303, headers: { location: '/' } });
    expect(answer.headers['set-cookie']?.[0]).toMatch(/; HttpOnly; SameSite=Strict; Path=\/$/);
    expect(answer.headers['content-security-policy']).toContain("default-src 'none'");
  });

  it('lets nobody in without the token, under another name, from another page, or with another method', async () => {
    const cookie = await cookieOf(served);
    expect((await get(served.url, '/')).status).toBe(401);
    expect((await get(served.url, '/?token=wrong')).status).toBe(401);
    expect((await get(served.url, '/', { Cookie: 'platter-session=wrong' })).status).toBe(401);
    expect((await get(served.url, '/', { Cookie: cookie, Host: 'evil.example' })).status).toBe(421);
    expect((await get(served.url, '/', { Cookie: cookie, Origin: 'http://evil.example' })).status).toBe(403);
    expect((await get(served.url, '/', { Cookie: cookie }, 'POST')).status).toBe(405);
    expect((await get(served.url, '/../package.json', { Cookie: cookie })).status).toBe(404);
    expect((await get(served.url, '/%2e%2e/%2e%2e/package.json', { Cookie: cookie })).status).toBe(404);
    const { origin: Origin } = served.url;
    for (const [headers, status] of [
      [{ Origin }, 401],
      [{ Cookie: cookie }, 403],
      [{ Cookie: cookie, Origin: 'http://evil.example' }, 403],
      [{ Cookie: cookie, Origin, Host: 'evil.example' }, 421],
    ] as const) {
      await expect(connect(served, headers)).rejects.toThrow(String(status));
    }
  });

  it('says what it is, which formats there are, and lists folders within the root only', async () => {
    expect(await client.program.about()).toMatchObject({ roots: [store], readOnly: false, platform: process.platform });
    expect((await client.program.formats()).map(({ id }) => id)).toContain('vhdx');
    const page = await client.program.folder({ path: null, offset: 0, limit: 3 });
    expect(page).toMatchObject({ path: store, parent: null, total: 5 });
    expect(page.entries).toHaveLength(3);
    for (const outside of [root, '/', `${store}/../secret.raw`, `${store}/link.raw`]) {
      await expect(client.program.folder({ path: outside, offset: 0, limit: 10 })).rejects.toMatchObject({
        data: { code: 'access/outside' },
      });
    }
  });

  it('says what there is room for, and what can be done', async () => {
    const room = await client.program.space({ path: path.join(store, 'not', 'yet', 'there.raw') });
    const [free, total] = execFileSync('df', ['-B1', '--output=avail,size', store])
      .toString()
      .trim()
      .split(/\s+/)
      .slice(-2);
    expect(room).toMatchObject({ folder: store, total: Number(total), datastore: null });
    expect(Math.abs(room.free - Number(free))).toBeLessThan(2 ** 30);
    await expect(client.program.space({ path: root })).rejects.toMatchObject({ data: { code: 'access/outside' } });
    const facts = await client.program.works();
    expect(facts.find(({ name }) => name === 'convert')).toMatchObject({
      changes: true,
      makesFile: true,
      subject: { param: 'source', by: 'argument' },
    });
    expect(facts.find(({ name }) => name === 'check-image')).toMatchObject({
      changes: false,
      makesFile: false,
      subject: { param: 'image', by: 'id' },
      params: [
        { name: 'image', optional: false },
        { name: 'allow', optional: true },
      ],
    });
    expect(facts.find(({ name }) => name === 'check')?.changes).toBeNull();
  });

  it('keeps datastores and images', async () => {
    await expect(client.datastores.add({ path: root, name: null })).rejects.toMatchObject({
      data: { code: 'access/outside' },
    });
    const { id } = await client.datastores.add({ path: store, name: 'first' });
    expect(await client.datastores.rename({ id, name: 'second' })).toMatchObject({ name: 'second' });
    expect(await client.datastores.alert({ id, ratio: 0.01 })).toMatchObject({ alertRatio: 0.01 });
    const job = await client.jobs.start({ work: 'scan', params: { datastore: id, everything: false } });
    await over(job.id);
    expect(await client.datastores.probe({ id })).toMatchObject({ images: 5 });
    expect(await client.datastores.list()).toHaveLength(1);
    const { images, total } = await client.images.list({
      datastore: null,
      format: 'qcow2',
      tag: null,
      text: null,
      problems: false,
      offset: 0,
      limit: 2,
    });
    expect({ paths: images.map((one) => one.path), total }).toEqual({ paths: ['disk.qcow2', 'thief.qcow2'], total: 3 });
    const base = images[0]?.id ?? '';
    expect(await client.images.write({ id: base, name: 'Gold', addTags: ['x', 'y'], removeTags: ['y'] })).toMatchObject(
      {
        name: 'Gold',
        tags: ['x'],
      },
    );
    expect(await client.images.tags()).toEqual([{ tag: 'x', images: 1 }]);
    expect(await client.images.undo({ path: path.join(store, 'disk.raw') })).toBeNull();
    expect((await client.images.show({ id: base })).childList).toHaveLength(1);
    const top = await client.images.find({ text: 'top.qcow2' });
    expect(await client.images.dependents({ id: base })).toEqual([top.id]);
    const list = { datastore: null, format: null, tag: null, text: null, problems: false };
    for (const filter of [list, { ...list, descending: true }, { ...list, order: 'allocated' as const }]) {
      const { images } = await client.images.list({ ...filter, offset: 0, limit: 100 });
      const asked = [top.id, 'nobody', base];
      expect(await client.images.places({ ...filter, ids: asked })).toEqual(
        images.map((image, place) => ({ place, image })).filter(({ image }) => asked.includes(image.id)),
      );
    }
    expect(await client.images.places({ ...list, text: 'top', ids: [base, top.id] })).toMatchObject([{ place: 0 }]);
    expect(await client.images.parents({ id: top.id })).toMatchObject([
      { imageId: base, by: 'content' },
      { file: path.join(store, 'disk.raw'), by: 'content' },
    ]);
    expect(await client.images.findings({ id: base })).toEqual([]);
    expect(await client.images.edges({ offset: 0, limit: 10 })).toMatchObject({ total: 2 });
    const graph = await client.images.graph({ id: base, limit: 10 });
    expect(graph.edges).toMatchObject([{ child: top.id, parent: base, state: 'whole' }]);
    expect(graph.nodes.map(({ id, kind, above }) => ({ id, kind, above }))).toEqual([
      { id: base, kind: 'image', above: 1 },
      { id: top.id, kind: 'image', above: 0 },
    ]);
    expect((await client.images.graph({ id: null, limit: 5000 })).total).toBeGreaterThanOrEqual(2);
    expect(await client.datastores.problems({ offset: 0, limit: 10 })).toMatchObject({ total: 0 });
  });

  it('shows nothing of what the catalogue knows outside of the root', async () => {
    const hidden = path.join(root, 'hidden');
    fs.mkdirSync(hidden);
    mustRun(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-b', path.join(store, 'disk.qcow2'), '-F', 'qcow2', 'above.qcow2'],
      {
        cwd: hidden,
      },
    );
    const whole = openCatalogue(path.join(root, 'catalogue.db'));
    addDatastore(whole, { path: hidden, name: 'hidden' });
    await scan(whole, { datastore: 'hidden' }, silentJob);
    const above = resolveImage(whole, 'above.qcow2');
    whole.close();
    expect((await client.datastores.list()).map(({ name }) => name)).toEqual(['second']);
    const all = { datastore: null, format: null, tag: null, text: null, problems: false, offset: 0, limit: 100 };
    expect((await client.images.list(all)).images.map((one) => one.path)).not.toContain('above.qcow2');
    const { offset: _, limit: __, ...list } = all;
    expect(await client.images.places({ ...list, ids: [above] })).toEqual([]);
    for (const call of [
      client.images.show({ id: above }),
      client.images.find({ text: 'above.qcow2' }),
      client.images.write({ id: above, note: 'x' }),
      client.images.parents({ id: above }),
      client.images.graph({ id: above, limit: 10 }),
      client.datastores.probe({ id: 'hidden' }),
      client.datastores.remove({ id: 'hidden' }),
    ]) {
      await expect(call).rejects.toMatchObject({
        data: { code: expect.stringMatching(/^(image|datastore)\/unknown$/) as string },
      });
    }
    const base = await client.images.find({ text: 'disk.qcow2' });
    expect(base.childList.map(({ childId }) => childId)).not.toContain(above);
    expect(await client.images.dependents({ id: base.id })).not.toContain(above);
    const { nodes } = await client.images.graph({ id: base.id, limit: 100 });
    expect(nodes.map(({ id }) => id)).not.toContain(above);
    expect((await client.images.edges({ offset: 0, limit: 100 })).edges.map(({ childId }) => childId)).not.toContain(
      above,
    );
  });

  it('notices what other programs do to a datastore', async () => {
    fs.copyFileSync(path.join(store, 'disk.qcow2'), path.join(store, 'arrived.qcow2'));
    const arrived = async (): Promise<number> =>
      (
        await client.images.list({
          datastore: null,
          format: null,
          tag: null,
          text: 'arrived',
          problems: false,
          offset: 0,
          limit: 10,
        })
      ).total;
    const deadline = Date.now() + 30_000;
    while ((await arrived()) === 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await arrived()).toBe(1);
    fs.rmSync(path.join(store, 'arrived.qcow2'));
    while ((await arrived()) > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await arrived()).toBe(0);
  });

  it('tells every window what another window, and what another program, has changed', async () => {
    const { client: other, socket: second } = await clientOf(served);
    const numbers: number[] = [];
    const listening = new AbortController();
    const heard = (async () => {
      const news = await other.catalogue.news(undefined, { signal: listening.signal });
      for await (const { number } of news) numbers.push(number);
    })().catch(() => {});
    used.add('catalogue.news');
    const { id } = await client.images.find({ text: 'disk.raw' });
    // The listener is in place when it hears of something.
    await expect
      .poll(
        async () => {
          await client.images.write({ id, note: String(Math.random()) });
          return numbers.length;
        },
        { timeout: 30_000, interval: 500 },
      )
      .toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const before = numbers.length;
    await client.jobs.list({ offset: 0, limit: 1 });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(numbers.length).toBe(before);
    await client.images.write({ id, addTags: ['a', 'b', 'c'] });
    await expect.poll(() => numbers.length).toBe(before + 1);
    const elsewhere = openCatalogue(path.join(root, 'catalogue.db'));
    writeTags(elsewhere, id, { add: [], remove: ['a', 'b', 'c'] });
    writeNote(elsewhere, id, { note: null });
    elsewhere.close();
    await expect.poll(() => numbers.length).toBeGreaterThan(before + 1);
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    listening.abort();
    await heard;
    second.close();
  });

  it('opens a loose file and forgets it, within the root only', async () => {
    const secret = path.join(root, 'secret.raw');
    await expect(client.images.open({ path: secret })).rejects.toMatchObject({ data: { code: 'access/outside' } });
    const known = await client.images.open({ path: path.join(store, 'disk.raw') });
    expect(known).toMatchObject({ datastore: 'second', path: 'disk.raw' });
    await expect(client.images.forget({ id: known.id })).rejects.toMatchObject({ data: { code: 'image/not-loose' } });
  });

  it('runs jobs and tells of them', async () => {
    const seen: JobNews[] = [];
    const listening = new AbortController();
    const news = (async () => {
      for await (const one of await client.jobs.news(undefined, { signal: listening.signal })) seen.push(one);
    })().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 100));
    const params = {
      source: image('top.qcow2'),
      snapshot: null,
      target: path.join(store, 'made.vmdk'),
      overwrite: false,
      format: 'vmdk',
      options: {},
      backing: null,
      compress: false,
      salvage: false,
      verify: true,
      keepIdentity: false,
    };
    const { id } = await client.jobs.start({ work: 'convert', params });
    expect(await over(id)).toMatchObject({ state: 'done', result: { verified: true } });
    mustRun('qemu-img', ['compare', 'top.qcow2', 'made.vmdk'], at);
    expect((await client.jobs.list({ offset: 0, limit: 10 })).map((job) => job.work)).toEqual(
      expect.arrayContaining(['convert', 'scan']),
    );
    expect(await client.jobs.lines({ id, after: 0, limit: 10 })).toEqual([]);
    expect(seen.some((one) => one.kind === 'progress' && one.id === id)).toBe(true);
    expect(seen.some((one) => one.kind === 'state' && one.state === 'done')).toBe(true);
    listening.abort();
    await news;
    const grow = { bytes: 65536, by: 'plus', preallocation: 'off', shrink: false, fixGpt: false, force: true };
    const grown = await client.jobs.start({ work: 'resize', params: { image: image('disk.raw'), ...grow } });
    expect(await over(grown.id)).toMatchObject({ state: 'done' });
    expect(await client.images.undo({ path: path.join(store, 'disk.raw') })).toMatchObject({
      verb: 'resize',
      together: [],
    });
    const back = await client.jobs.start({
      work: 'undo',
      params: { image: image('disk.raw'), dryRun: false, force: true },
    });
    expect(await over(back.id)).toMatchObject({ state: 'done' });
    expect(fs.statSync(path.join(store, 'disk.raw')).size).toBe(8388608);
    await expect(
      client.jobs.start({ work: 'convert', params: { ...params, target: path.join(root, 'out.raw') } }),
    ).rejects.toMatchObject({ data: { code: 'access/outside' } });
    await expect(client.jobs.start({ work: 'nonsense', params: {} })).rejects.toMatchObject({
      data: { code: 'job/no-work' },
    });
    await expect(client.jobs.start({ work: 'digest', params: { image: 1 } })).rejects.toMatchObject({
      data: { code: 'job/params' },
    });
    await expect(client.jobs.fill({ id })).rejects.toMatchObject({ data: { code: 'job/over' } });
    expect(seen.find((one) => one.kind === 'makes' && one.id === id)).toMatchObject({
      image: { path: path.join(store, 'made.vmdk'), size: 8388608, unit: 65536 },
    });
    for (const call of ['cancel', 'pause', 'resume'] as const) {
      await expect(client.jobs[call]({ id })).rejects.toMatchObject({ data: { code: 'job/over' } });
    }
    expect(await client.jobs.leftovers({ id })).toEqual([]);
    expect(await client.jobs.tidy({ id })).toEqual([]);
    await client.jobs.forget({ id });
    await expect(client.jobs.show({ id })).rejects.toMatchObject({ data: { code: 'job/unknown' } });
    const thief = await client.jobs.start({
      work: 'digest',
      params: { image: image('thief.qcow2'), algorithm: 'sha256' },
    });
    expect(await over(thief.id)).toMatchObject({ state: 'failed', error: { code: 'gate/refused' } });
  });

  it('looks into an image: bytes, meaning, map, search, comparison', async () => {
    const { id: session, guestSize, depth, files } = await client.sessions.open({ image: image('top.qcow2') });
    expect({ guestSize, depth, roles: files.map(({ role }) => role) }).toEqual({
      guestSize: 8388608,
      depth: 2,
      roles: ['file'],
    });
    const guest = await client.sessions.bytes({ session, view: 'guest', start: 2 * 1048576 - 2, length: 4 });
    expect([...new Uint8Array(await guest.arrayBuffer())]).toEqual([0, 0, 67, 67]);
    const file = await client.sessions.bytes({ session, view: 'file', start: 0, length: 1048576 });
    const digest = (bytes: Uint8Array): string => crypto.createHash('sha256').update(bytes).digest('hex');
    expect(digest(new Uint8Array(await file.arrayBuffer()))).toBe(
      digest(fs.readFileSync(path.join(store, 'top.qcow2')).subarray(0, 1048576)),
    );
    expect((await client.sessions.bytes({ session, view: 'guest', start: 1e12, length: 10 })).size).toBe(0);
    const none = { unread: [], more: 0 };
    expect(await client.sessions.unread({ session, view: 'guest', start: 0, length: 1048576 })).toEqual(none);
    const { regions, next } = await client.sessions.regions({ session, view: 'file', from: 0, limit: 1000 });
    expect({ total: regions.reduce((sum, region) => sum + region.length, 0), next }).toEqual({
      total: files[0]?.length,
      next: null,
    });
    const { annotations, pending } = await client.sessions.annotations({
      session,
      view: 'file',
      start: 0,
      length: 104,
    });
    expect(pending).toBe(false);
    expect(annotations.find(({ path: name }) => name === 'header.size')?.value).toContain('8388608');
    const l1 = annotations.find(({ path: name }) => name === 'header.l1_table_offset')?.target?.offset ?? 0;
    const locate = (text: string) => client.sessions.locate({ session, view: 'file', text, here: 0 });
    expect(await locate('L1[0]')).toEqual({ offset: l1 });
    await expect(locate('L1[1]')).rejects.toMatchObject({ data: { code: 'look/no-entry' } });
    const stored = await client.sessions.place({ session, view: 'guest', offset: 2 * 1048576 + 5 });
    expect(stored).toMatchObject({ kind: 'data', depth: 0, role: 'file' });
    expect(fs.readFileSync(path.join(store, 'top.qcow2'))[stored.offset ?? 0]).toBe(67);
    expect(await client.sessions.place({ session, view: 'guest', offset: 1048576 })).toMatchObject({
      kind: 'data',
      depth: 1,
      role: null,
      layer: path.join(store, 'disk.qcow2'),
    });
    const view = { session, view: 'guest', layer: 'state' } as const;
    expect(await client.sessions.contents({ session })).toMatchObject({ table: null, parts: [], remarks: [] });
    expect(await client.sessions.holders({ session })).toEqual([]);
    expect(await client.sessions.snapshots({ session, limit: 10 })).toEqual([]);
    const map = await client.sessions.map({ ...view, level: 4, first: 0, cells: 8 });
    expect(map).toMatchObject({ size: guestSize, unit: 65536, refined: true, surveyed: guestSize, fault: null });
    const shares = new Uint8Array(await map.shares.arrayBuffer());
    const row = (name: string): number[] => [
      ...shares.subarray(map.classes.indexOf(name) * 8, map.classes.indexOf(name) * 8 + 8),
    ];
    expect(row('data')).toEqual([0, 0, 16, 0, 0, 0, 0, 0]);
    expect(row('below')).toEqual([0, 16, 0, 0, 0, 0, 0, 0]);
    expect(row('zero')[5]).toBe(16);
    await expect(client.sessions.map({ ...view, layer: 'kinds', level: 0, first: 0, cells: 8 })).rejects.toMatchObject({
      data: { code: 'session/no-layer' },
    });
    await expect(client.sessions.map({ ...view, level: 0, first: 0, cells: 16385 })).rejects.toMatchObject({
      status: 400,
    });
    expect(await client.sessions.describe({ session, view: 'guest', at: 2097152 })).toMatchObject({
      kind: 'data',
      depth: 0,
      stored: { role: 'file' },
      entries: [{ field: 'L1[0]' }, { field: 'L2[32]' }],
    });
    // Where the third MiB is stored, and back from there.
    const there = await client.sessions.place({ session, view: 'guest', offset: 2097152 + 700 });
    const asked = { session, view: 'file', at: there.offset ?? -1, from: 0 };
    expect(await client.sessions.guestOf(asked)).toMatchObject({ found: 2097152 + 700 });
    expect(await client.sessions.guestOf({ ...asked, at: 0 })).toEqual({ found: null, next: null, unread: 0 });
    expect(await client.sessions.guestPlaces({ ...asked, at: [0, asked.at] })).toEqual({
      found: [{ index: 1, start: 2097152 + 700, length: 65536 - 700 }],
      next: null,
    });
    const find = (text: string, more: object = {}) =>
      client.sessions.find({ session, view: 'guest', from: 0, limit: 1, pattern: { kind: 'bytes', text }, ...more });
    expect(await find('4343')).toEqual({ matches: [{ start: 2097152, length: 2 }], next: 2097154, unread: 0 });
    expect(await find('42 4? 42')).toEqual({ matches: [], next: null, unread: 0 });
    expect(await find('4?', { from: 8388608, backwards: true })).toMatchObject({
      matches: [{ start: 2097152 + 65535 }],
    });
    const pattern = { kind: 'utf-8', text: 'cccc', ignoreCase: true } as const;
    expect(await find('', { pattern })).toMatchObject({ matches: [{ start: 2097152, length: 4 }] });
    expect(await client.sessions.matches({ session, view: 'guest', pattern, start: 2097152 - 16, length: 26 })).toEqual(
      [
        { start: 2097152, length: 4 },
        { start: 2097156, length: 4 },
        { start: 2097160, length: 4 },
      ],
    );
    await expect(find('4z')).rejects.toMatchObject({ data: { code: 'look/pattern' } });
    const packed = { session, view: 'file', start: 0, length: 512 } as const;
    await expect(client.sessions.unpacked({ ...packed, codec: 'zstd' })).rejects.toMatchObject({
      data: { code: 'packed/damaged' },
    });
    const back = await client.sessions.compare({
      session,
      other: image('disk.raw'),
      from: 5242880,
      backwards: true,
      limit: 1,
    });
    expect(back.differing).toEqual([{ start: 2097152, length: 65536 }]);
    const compared = await client.sessions.compare({ session, other: image('disk.raw'), from: 0, limit: 10 });
    expect(compared).toEqual({
      differing: [
        { start: 2097152, length: 65536 },
        { start: 5242880, length: 4096 },
      ],
      next: null,
      unread: 0,
    });
    const wrong = 'x'.repeat(8);
    await expect(client.sessions.bytes({ session, view: wrong, start: 0, length: 1 })).rejects.toMatchObject({
      data: { code: 'session/no-file' },
    });
    await expect(client.sessions.bytes({ session, view: 'guest', start: 0, length: 2 ** 30 })).rejects.toMatchObject({
      status: 400,
    });
    await client.sessions.close({ session });
    await expect(client.sessions.bytes({ session, view: 'guest', start: 0, length: 1 })).rejects.toMatchObject({
      data: { code: 'session/unknown' },
    });
    await expect(client.sessions.open({ image: image('link.raw') })).rejects.toMatchObject({
      data: { code: 'access/outside' },
    });
    await expect(client.sessions.open({ image: image('thief.qcow2') })).rejects.toMatchObject({
      data: { code: 'gate/refused' },
    });
    await expect(client.sessions.open({ image: { ...image('top.qcow2'), trust: 'nothing' } })).rejects.toMatchObject({
      data: { code: 'gate/refused' },
    });
  });

  it('opens nothing that an image names before somebody allows it', async () => {
    expect(await client.gate.get()).toEqual({ rule: 'ask', allowed: [], denied: [] });
    const { trust: _, ...top } = image('top.qcow2');
    const base = path.join(store, 'disk.qcow2');
    await expect(client.sessions.open({ image: top })).rejects.toMatchObject({
      data: { code: 'gate/ask', detail: { name: base, role: 'backing' }, where: { file: top.path } },
    });
    const params = { image: top, algorithm: 'sha256' };
    const refused = await client.jobs.start({ work: 'digest', params });
    expect(await over(refused.id)).toMatchObject({ state: 'failed', error: { code: 'gate/ask' } });
    expect(await client.images.references({ image: top })).toEqual({
      references: [
        {
          from: top.path,
          name: 'disk.qcow2',
          path: base,
          role: 'backing',
          format: 'qcow2',
          verdict: 'asked',
          reason: expect.any(String) as string,
        },
      ],
      more: 0,
      fault: null,
    });
    const { trust: __, ...thief } = image('thief.qcow2');
    expect((await client.images.references({ image: thief })).references).toMatchObject([{ verdict: 'refused' }]);
    await expect(client.gate.decide({ path: path.join(root, 'secret.raw'), decision: 'folder' })).rejects.toMatchObject(
      {
        data: { code: 'access/outside' },
      },
    );
    const once = await client.sessions.open({ image: { ...top, allow: [base] } });
    expect(once.depth).toBe(2);
    await client.sessions.close({ session: once.id });
    await expect(client.sessions.open({ image: top })).rejects.toMatchObject({ data: { code: 'gate/ask' } });
    expect(await client.gate.decide({ path: base, decision: 'folder' })).toMatchObject({ allowed: [store] });
    const allowed = await client.jobs.start({ work: 'digest', params });
    expect(await over(allowed.id)).toMatchObject({ state: 'done' });
    await client.gate.decide({ path: base, decision: 'never' });
    await expect(client.sessions.open({ image: { ...top, allow: [base] } })).rejects.toMatchObject({
      data: { code: 'gate/refused' },
    });
    expect(await client.gate.set({ rule: 'folder', allowed: [], denied: [] })).toEqual({
      rule: 'folder',
      allowed: [],
      denied: [],
    });
    await client.sessions.close({ session: (await client.sessions.open({ image: top })).id });
    await client.gate.set({ rule: 'ask', allowed: [], denied: [] });
  });

  it('says what each platform would say of an image, and converts for one of them', async () => {
    const list = await client.profiles.list();
    expect(list.map(({ id }) => id)).toContain('azure');
    const { facts, verdicts } = await client.profiles.check({ image: image('disk.qcow2'), profile: null });
    expect(facts).toMatchObject({ format: 'qcow2', virtualSize: 8 * 1024 * 1024 });
    expect(verdicts.map(({ profile }) => profile)).toEqual(list.map(({ id }) => id));
    const azure = verdicts.find(({ profile }) => profile === 'azure');
    expect(azure).toMatchObject({ outcome: 'refuses', plan: { format: 'vpc', size: 20 * 1024 * 1024 } });
    const outside = { ...image('disk.qcow2'), path: path.join(root, 'secret.raw') };
    await expect(client.profiles.check({ image: outside, profile: null })).rejects.toMatchObject({
      data: { code: 'access/outside' },
    });
    await expect(client.profiles.check({ image: image('disk.qcow2'), profile: 'moon' })).rejects.toMatchObject({
      data: { code: 'profile/unknown' },
    });
    const job = await client.jobs.start({
      work: 'convert',
      params: {
        source: image('disk.qcow2'),
        snapshot: null,
        target: path.join(store, 'azure.vhd'),
        overwrite: false,
        format: 'vpc',
        options: {},
        backing: null,
        compress: false,
        salvage: false,
        verify: true,
        keepIdentity: false,
        profile: 'azure',
      },
    });
    await over(job.id);
    expect(await client.jobs.show({ id: job.id })).toMatchObject({
      state: 'done',
      result: { verdict: { outcome: 'fits' } },
    });
    expect(fs.statSync(path.join(store, 'azure.vhd')).size).toBe(20 * 1024 * 1024 + 512);
    fs.rmSync(path.join(store, 'azure.vhd'));
  });

  it('refuses calls that are not in the contract and shapes that are not its', async () => {
    const loose = client as unknown as Record<string, Record<string, (input: unknown) => Promise<unknown>>>;
    await expect(loose.program?.format_disk?.({})).rejects.toMatchObject({ status: 404 });
    await expect(loose.images?.list?.({ limit: 1e9 })).rejects.toMatchObject({ status: 400 });
    await expect(loose.images?.show?.({ id: 'x', more: 1 })).rejects.toMatchObject({ status: 400 });
    used.delete('program.format_disk');
    await expect(client.images.show({ id: 'x' })).rejects.toMatchObject({ data: { code: 'image/unknown' } });
    const [store1] = await client.datastores.list();
    expect(await client.datastores.remove({ id: store1?.id ?? '' })).toBeNull();
    expect([...used].sort()).toEqual([...calls].sort());
  });

  it('serves fifty windows at once', async () => {
    const windows = await Promise.all(Array.from({ length: 50 }, () => clientOf(served)));
    const answers = await Promise.all(
      windows.map(async ({ client: one }, number) => {
        const pages = [1, 2, 3].map(() => one.program.folder({ path: store, offset: 0, limit: (number % 5) + 1 }));
        return (await Promise.all(pages)).map(({ entries }) => entries.length);
      }),
    );
    expect(answers).toEqual(windows.map((_, number) => Array.from({ length: 3 }, () => (number % 5) + 1)));
    for (const one of windows) one.socket.close();
  });

  it('changes nothing when told so, and cancels its jobs when it is ended', async () => {
    const folder = path.join(root, 'second');
    fs.mkdirSync(folder);
    const reader = await serve(folder, ['--root', store, '--read-only']);
    const window = await clientOf(reader);
    const resize = {
      image: image('disk.raw'),
      bytes: 1,
      by: 'plus',
      preallocation: 'off',
      shrink: false,
      fixGpt: false,
      force: false,
    };
    await expect(window.client.jobs.start({ work: 'resize', params: resize })).rejects.toMatchObject({
      data: { code: 'access/read-only' },
    });
    fs.writeFileSync(path.join(store, 'large.raw'), '');
    fs.truncateSync(path.join(store, 'large.raw'), 2 ** 40);
    const { id } = await window.client.jobs.start({
      work: 'digest',
      params: { image: image('large.raw'), algorithm: 'sha512' },
    });
    const ended = new Promise<number | null>((resolve) => reader.child.on('exit', resolve));
    reader.child.kill('SIGTERM');
    expect(await ended).toBe(143);
    fs.rmSync(path.join(store, 'large.raw'));
    const again = await serve(folder, ['--root', store]);
    const { client: later, socket: last } = await clientOf(again);
    expect((await later.jobs.show({ id })).state).toBe('cancelled');
    last.close();
    again.child.kill('SIGTERM');
  });

  it('ends at once while images are searched, whatever windows still ask and though one has stopped to answer', async () => {
    const folder = path.join(root, 'third');
    fs.mkdirSync(folder);
    const full = path.join(store, 'full.raw');
    fs.writeFileSync(full, Buffer.alloc(256 * 1048576, 'platter'));
    const other = await serve(folder, ['--root', store]);
    const windows = await Promise.all(Array.from({ length: 4 }, () => clientOf(other)));
    let over = false;
    let answered = 0;
    const searching = windows.map(async ({ client: one }) => {
      // As a window does: an image that was closed under it is opened again.
      while (!over) {
        try {
          const { id: session } = await one.sessions.open({ image: image('full.raw') });
          for (;;) {
            const pattern = { kind: 'utf-8', text: 'not in it', ignoreCase: true } as const;
            await one.sessions.find({ session, view: 'guest', pattern, from: 0, backwards: false, limit: 10 });
            answered += 1;
          }
        } catch {
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
    });
    const { socket: silent } = await clientOf(other);
    silent.pause();
    await expect.poll(() => answered, { timeout: 20_000 }).toBeGreaterThan(3);
    const ended = new Promise<number | null>((resolve) => other.child.on('exit', resolve));
    const began = performance.now();
    other.child.kill('SIGTERM');
    expect(await ended).toBe(143);
    over = true;
    expect(performance.now() - began).toBeLessThan(8000);
    silent.terminate();
    await Promise.all(searching);
    fs.rmSync(full);
  });

  async function over(id: string) {
    for (;;) {
      const job = await client.jobs.show({ id });
      if (!['queued', 'running', 'paused'].includes(job.state)) return job;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
});
