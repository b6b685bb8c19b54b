// What a window opened ends with its connection: over a real WebSocket, counted by the threads of the server that the system counts.
import { createORPCClient } from '@orpc/client';
import { RPCLink } from '@orpc/client/websocket';
import type { ContractRouterClient } from '@orpc/contract';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { startServer, type RunningServer } from '../../../cli/serve/server.ts';
import type { Contract } from '../../../core/workbench/contract.ts';
import { makeFence } from '../../../core/workbench/fence.ts';
import { ImageHost } from '../../../core/workbench/images/image-host.ts';
import { startWorkbench, type Workbench } from '../../../core/workbench/workbench.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

type Client = ContractRouterClient<Contract>;

describeWith({ peers: ['qemu-img'] }, 'a connection', () => {
  const root = scratchFolder('connections');
  const disk = path.join(root, 'disk.qcow2');
  const image = { path: disk, format: null, trust: 'policy' as const, allow: [], secret: null };
  let catalogue: Catalogue;
  let workbench: Workbench;
  let server: RunningServer;

  beforeAll(async () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '1M']);
    catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    workbench = startWorkbench({
      catalogue,
      fence: makeFence(null, false),
      version: '0',
      images: { open: 4, idle: 60_000, orphan: 60_000, look: 1000 },
    });
    server = await startServer({ workbench, pages: null, address: '127.0.0.1', port: 0 });
  });
  afterAll(async () => {
    await server.close();
    await workbench.close();
    catalogue.close();
  });

  async function connect(): Promise<{ client: Client; socket: WebSocket }> {
    const url = new URL(server.url);
    const { headers } = await fetch(url, { redirect: 'manual' });
    const cookie = headers.get('set-cookie')?.split(';')[0] ?? '';
    const socket = new WebSocket(`ws://${url.host}/rpc`, { headers: { Cookie: cookie, Origin: url.origin } });
    await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
    return { client: createORPCClient(new RPCLink({ websocket: socket as unknown as globalThis.WebSocket })), socket };
  }
  /** Of this process, in which the server runs: those that have the disk open show it twice, here and among the files. */
  const openFiles = (): number =>
    fs.readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`) === disk;
      } catch {
        return false; // closed meanwhile
      }
    }).length;
  const magicOf = async (client: Client, session: string): Promise<string> =>
    Buffer.from(
      await (await client.sessions.bytes({ session, view: 'file', start: 0, length: 3 })).arrayBuffer(),
    ).toString();

  it('opens more images than there is room for, and still answers about the first', async () => {
    const { client, socket } = await connect();
    const ids: string[] = [];
    for (let count = 0; count < 6; count++) ids.push((await client.sessions.open({ image })).id);
    await expect.poll(openFiles).toBe(4);
    expect(await magicOf(client, ids[0] ?? '')).toBe('QFI');
    const { client: other, socket: second } = await connect();
    expect((await other.sessions.open({ image })).guestSize).toBe(1024 * 1024);
    await expect.poll(openFiles).toBe(4);
    // A page that crashes says no word of farewell.
    socket.terminate();
    await expect.poll(openFiles).toBe(1);
    second.terminate();
    await expect.poll(openFiles).toBe(0);
  }, 60_000);

  it('lets a window that lost its line go on over another one', async () => {
    const first = await connect();
    const { id } = await first.client.sessions.open({ image });
    first.socket.terminate();
    await expect.poll(openFiles).toBe(0);
    const { client, socket } = await connect();
    expect(await magicOf(client, id)).toBe('QFI');
    socket.close();
    await expect.poll(openFiles).toBe(0);
  });

  it('sets aside what nobody asks, and forgets what nobody comes back for', async () => {
    const host = new ImageHost(makeFence(null, false), undefined, { open: 64, idle: 300, orphan: 600, look: 50 });
    const connection = host.connect();
    const { id } = await host.open(image, {}, false, connection);
    await expect.poll(openFiles).toBe(0);
    expect(await host.ask(id, 'bytes', 'file', 0, 3)).toEqual(new Uint8Array([0x51, 0x46, 0x49]));
    connection.close();
    await expect
      .poll(() => host.ask(id, 'nonsense' as 'contents').catch((error: { code?: string }) => error.code ?? 'other'), {
        timeout: 20_000,
        interval: 1500,
      })
      .toBe('session/unknown');
    await host.closeAll();
  });

  it('closes what was still being opened when the window went away', async () => {
    const host = new ImageHost(makeFence(null, false));
    const connection = host.connect();
    const opening = host.open(image, {}, true, connection);
    connection.close();
    await expect(opening).rejects.toMatchObject({ code: 'session/died' });
    await expect.poll(openFiles).toBe(0);
    await host.closeAll();
  });
});
