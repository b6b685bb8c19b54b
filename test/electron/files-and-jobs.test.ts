// Stand-in tests of what comes from outside (files, links, a second start) and of what goes out (progress, badge, notifications, quitting).
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { clientOf } from './stand-in/client.ts';
import type { Scene } from './stand-in/electron.ts';
import { missingShell, Program } from './stand-in/program.ts';

const folder = scratchFolder('electron-files');
const store = path.join(folder, 'store');
const disk = path.join(store, 'disk.qcow2');
/** Of a name that is awkward in a menu, in an address and on a command line. */
const awkward = path.join(store, "it's & <b>100%<b> 盘.vhd");
const loose = path.join(folder, 'loose', 'loose.raw');
let program: Program;
let runs = 0;

/** Waits for what is read to be as it should, also on a machine that has other things to do. */
const eventually = <Value>(read: () => Value) => expect.poll(read);

async function start(scene: Partial<Scene> = {}, argv: string[] = []): Promise<Program> {
  runs += 1;
  program = new Program({ folder: path.join(folder, `run-${runs}`), ...scene }, argv);
  await program.askedFor('loadURL');
  await program.within((stand) => stand.ipcMain.invoke('platter:call', ['ready', {}]));
  return program;
}

/** With `store` in its library; gives the id of the disk. */
async function startWithStore(scene: Partial<Scene> = {}) {
  await start(scene);
  const { client, send } = await clientOf(program);
  const { id } = await client.datastores.add({ path: store, name: null });
  await client.jobs.start({ work: 'scan', params: { datastore: id, everything: false } });
  await eventually(async () => (await client.jobs.list({ offset: 0, limit: 1 }))[0]?.state).toBe('done');
  return { client, send, id: (await client.images.find({ text: disk })).id };
}

const requests = async (): Promise<unknown[]> => (await program.asked('send')).map(([, request]) => request);
const openFile = (file: string) =>
  program.within((stand, name) => void stand.app.emit('open-file', stand.preventable({}), name), file);
const openLink = (text: string) =>
  program.within((stand, link) => void stand.app.emit('open-url', stand.preventable({}), link), text);

beforeAll(() => {
  fs.mkdirSync(store);
  fs.mkdirSync(path.dirname(loose));
});

afterEach(async () => {
  await program.stop();
});

describeWith({ peers: ['qemu-img'], unless: missingShell() }, 'files and links (stand-in)', () => {
  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '8M']);
    mustRun('qemu-img', ['create', '-q', '-f', 'vpc', awkward, '8M']);
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', loose, '8M']);
  });

  it('lead to the page of the image, whichever way they come', async () => {
    const { id, client } = await startWithStore();
    await openFile(disk);
    await program.askedFor('send');
    const page = { kind: 'page', address: `#/image/${id}/overview` };
    expect(await requests()).toEqual([page]);
    // A second start hands its arguments over; relative ones begin where it was started.
    await program.within(
      (stand, cwd) => void stand.app.emit('second-instance', {}, [], '', { argv: ['--no-sandbox', 'disk.qcow2'], cwd }),
      store,
    );
    await eventually(requests).toEqual([page, page]);
    expect(await program.asked('focus')).not.toEqual([]);
    const other = (await client.images.find({ text: awkward })).id;
    await openFile(awkward);
    await eventually(requests).toEqual([page, page, { kind: 'page', address: `#/image/${other}/overview` }]);
    await openLink(`platter://image/${id}?view=hex&at=0x200`);
    await openLink(`platter://image/${encodeURIComponent(awkward)}`);
    await openLink(`platter://image/${id}?view=map&of=guest&at=0x400`);
    await eventually(async () => (await requests()).slice(3)).toEqual([
      { kind: 'page', address: `#/image/${id}/hex?at=0x200` },
      { kind: 'page', address: `#/image/${other}/overview` },
      { kind: 'page', address: `#/image/${id}/map?view=guest&at=0x400` },
    ]);
    expect(await program.asked('showMessageBox')).toEqual([]);
    expect(await program.asked('addRecentDocument')).toEqual([[disk], [disk], [awkward]]);
    const recent = (await program.menu())[0]?.submenu?.find(({ id: known }) => known === 'recent')?.submenu ?? [];
    expect(recent.map(({ label }) => label)).toEqual([
      path.basename(awkward).replace('&', '&&'),
      'disk.qcow2',
      undefined,
      'Clear List',
    ]);
    await program.click('Clear List');
    expect((await program.menu())[0]?.submenu?.find(({ id: known }) => known === 'recent')).toMatchObject({
      enabled: false,
    });
  });

  it('that are links never lead to a file outside of the library, nor anywhere else', async () => {
    await startWithStore();
    const links = [
      `platter://image/${encodeURIComponent(loose)}`,
      'platter://image/%2F%2Fserver%2Fshare%2Fx.vhd',
      'platter://image/',
      'platter://window/index.html',
      'platter://image/x?view=<img>',
      'platter://image/x?at=-1',
      'platter://image/x?view=hex&of=../etc',
      'platter://image/%00',
      'platter:',
    ];
    for (const link of links) await openLink(link);
    await eventually(() => program.asked('showMessageBox')).toHaveLength(links.length);
    expect(await requests()).toEqual([]);
    expect(await program.asked('addRecentDocument')).toEqual([]);
  });

  it('that the library does not know become known by themselves, and what is no image is said to be none', async () => {
    const { client } = await startWithStore();
    await openFile(loose);
    await eventually(async () => (await requests()).length).toBe(1);
    const { id } = await client.images.find({ text: loose });
    expect(await requests()).toEqual([{ kind: 'page', address: `#/image/${id}/overview` }]);
    expect(await program.asked('showMessageBox')).toEqual([]);
    const stores = await client.datastores.list();
    expect(stores.map(({ kind, path: folder }) => [kind, folder]).sort()).toEqual([
      ['folder', store],
      ['loose', path.dirname(loose)],
    ]);
    await client.images.forget({ id });
    expect(await client.datastores.list()).toHaveLength(1);
    const text = path.join(path.dirname(loose), 'notes.txt');
    fs.writeFileSync(text, 'no image');
    await openFile(text);
    const [warning] = (await program.askedFor('showMessageBox')) as [{ message: string }];
    expect(warning.message).toContain('notes.txt');
    expect(await requests()).toHaveLength(1);
    // New in a folder that is a datastore already: nothing to ask.
    const asked = (await program.asked('showMessageBox')).length;
    const fresh = path.join(store, 'fresh.raw');
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', fresh, '4M']);
    await openFile(fresh);
    await eventually(async () => (await requests()).length).toBe(2);
    expect((await program.asked('showMessageBox')).length).toBe(asked);
    // A folder, and nothing at all.
    await openFile(path.dirname(loose));
    await eventually(async () => (await requests())[2]).toEqual({
      kind: 'sheet',
      sheet: 'add-datastore',
      path: path.dirname(loose),
    });
    await openFile(path.join(store, 'none.raw'));
    await program.askedFor('showMessageBox', ([options]) => JSON.stringify(options).includes('none.raw'));
  });

  it('come with the start too, and are handed over when the program runs already', async () => {
    await start({}, [store, '--convert', 'file://somewhere/x.raw', `file://${loose}`]);
    await eventually(requests).toEqual([
      { kind: 'sheet', sheet: 'add-datastore', path: store },
      { kind: 'sheet', sheet: 'convert', path: loose },
    ]);
    await program.stop();
    runs += 1;
    program = new Program({ folder: path.join(folder, `run-${runs}`), second: true }, [disk]);
    expect(await program.ended).toBe(0);
    expect(await program.asked('requestSingleInstanceLock')).toMatchObject([[{ argv: [disk] }]]);
    expect(await program.asked('BrowserWindow')).toEqual([]);
  });

  it('are dragged out only where they are', async () => {
    await start();
    const drag = (paths: string[]) =>
      program.within((stand, given) => stand.ipcMain.invoke('platter:call', ['startDrag', { paths: given }]), paths);
    await drag([path.join(store, 'none'), store, 'relative']);
    expect(await program.asked('startDrag')).toEqual([]);
    await drag([disk, path.join(store, 'none'), awkward]);
    expect(await program.asked('startDrag')).toMatchObject([[{ file: disk, files: [disk, awkward] }]]);
  });
});

describeWith({ peers: ['qemu-img'], unless: missingShell() }, 'jobs (stand-in)', () => {
  /** A copy that lasts: it is stopped on its way. */
  async function pausedJob(client: Awaited<ReturnType<typeof clientOf>>['client']): Promise<string> {
    const source = path.join(folder, 'large.raw');
    if (!fs.existsSync(source)) fs.writeFileSync(source, Buffer.alloc(256 * 1024 * 1024, 0x5a));
    const image = { path: source, format: 'raw', trust: 'nothing', secret: null };
    const { id } = await client.jobs.start({ work: 'digest', params: { image, algorithm: 'sha256' } });
    await client.jobs.pause({ id });
    return id;
  }

  it('show in the taskbar and as a badge while they are at work, and no longer', async () => {
    const { client } = await startWithStore();
    // The scan at the start was none of that.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await program.asked('setBadgeCount')).toEqual([]);
    const id = await pausedJob(client);
    await program.askedFor('setBadgeCount', ([count]) => count === 1);
    await program.askedFor('setProgressBar', ([, options]) => JSON.stringify(options) === '{"mode":"paused"}');
    await client.jobs.resume({ id });
    await program.askedFor('setBadgeCount', ([count]) => count === 0);
    expect((await program.asked('setProgressBar')).at(-1)).toEqual([-1]);
    const shares = (await program.asked('setProgressBar')).map(([share]) => Number(share));
    for (const share of shares) expect(share === -1 || share === 2 || (share >= 0 && share <= 1)).toBe(true);
  });

  it('have a mark over the icon on Windows instead of a number', async () => {
    const { client } = await startWithStore({ platform: 'win32' });
    const id = await pausedJob(client);
    const [picture, text] = await program.askedFor('setOverlayIcon', ([icon]) => icon !== null);
    expect(picture).toMatchObject({ size: { width: 16, height: 16 } });
    expect(text).toBe('Jobs at work: 1');
    await client.jobs.cancel({ id });
    await client.jobs.resume({ id });
    await program.askedFor('setOverlayIcon', ([icon]) => icon === null);
  });

  it('that end are told of only while nobody looks, and a click leads to them', async () => {
    const { client } = await startWithStore();
    const image = { path: disk, format: 'qcow2', trust: 'nothing', secret: null };
    await program.within((stand) => {
      stand.BrowserWindow.all[0]!.focused = true;
    });
    const end = async (params: object): Promise<void> => {
      const { id } = await client.jobs.start({ work: 'digest', params: { ...params, algorithm: 'sha256' } });
      await eventually(async () => (await client.jobs.show({ id })).state).toMatch(/done|failed/);
    };
    await end({ image });
    expect(await program.asked('Notification')).toEqual([]);
    await program.within((stand) => {
      stand.BrowserWindow.all[0]!.focused = false;
    });
    await end({ image });
    expect(await program.askedFor('Notification')).toMatchObject([{ title: 'Done: digest', body: 'disk.qcow2' }]);
    await end({ image: { ...image, path: path.join(store, 'gone.qcow2') } });
    await program.askedFor('Notification', ([options]) => JSON.stringify(options).includes('Failed: digest'));
    await program.within((stand) => void stand.Notification.all[0]!.emit('click'));
    expect(await requests()).toEqual([{ kind: 'page', address: '#/jobs' }]);
  });

  it('at work are asked about before the program ends, and have tidied up when it does', async () => {
    const { client } = await startWithStore();
    await pausedJob(client);
    await program.askedFor('setBadgeCount', ([count]) => count === 1);
    await program.within((stand) => stand.BrowserWindow.all[0]!.close());
    await program.askedFor('showMessageBoxSync');
    expect(await program.within((stand) => stand.BrowserWindow.all.length)).toBe(1);
    await program.within((stand) => {
      stand.answers.push(1);
      setTimeout(() => stand.BrowserWindow.all[0]!.close());
    });
    expect(await program.ended).toBe(0);
    expect(program.stderr).toBe('');
  });

  it('are not reached by what is no message of the contract', async () => {
    const { send } = await startWithStore();
    send({ i: '1', p: { u: '/jobs/list' } });
    expect(
      await program.within((stand) => [...stand.MessagePortMain.inPage.values()].map(({ closed }) => closed)),
    ).toEqual([true]);
    await program.stop();
    const other = await startWithStore();
    other.send('x'.repeat(4 * 1024 * 1024 + 1));
    await eventually(() =>
      program.within((stand) => [...stand.MessagePortMain.inPage.values()].map(({ closed }) => closed)),
    ).toEqual([true]);
  });
});
