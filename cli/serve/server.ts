// The window in a browser: its files over HTTP, the contract over a WebSocket, on this machine unless told otherwise.
import { RPCHandler } from '@orpc/server/ws';
import http from 'node:http';
import type net from 'node:net';
import { WebSocketServer } from 'ws';
import { safetyHeaders } from '../../core/workbench/window-files.ts';
import type { Workbench } from '../../core/workbench/workbench.ts';
import { cookieHeader, hasCookie, isToken, makeGuard, refuseStranger, type Guard } from './guard.ts';
import { servePage } from './pages.ts';

export interface ServerOptions {
  readonly workbench: Workbench;
  /** The folder of the built window; null: only the contract is served. */
  readonly pages: string | null;
  readonly address: string;
  /** 0: any that is free. */
  readonly port: number;
}

export interface RunningServer {
  /** With the token. */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/** The largest message that a window may send. */
const mostReceived = 4 * 1024 * 1024;
const rpcPath = '/rpc';
/** Milliseconds that a window has to say goodbye when the server ends; one that sleeps or has lost its network would say nothing at all. */
const farewell = 1000;

/** Starts to listen. Rejects with the system's error when the address or the port cannot be had. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const server = http.createServer();
  await listen(server, options);
  const { port } = server.address() as net.AddressInfo;
  const guard = makeGuard(namesOf(options.address, port));
  const handler = new RPCHandler(options.workbench.router);
  const sockets = new WebSocketServer({ noServer: true, maxPayload: mostReceived });
  server.on('request', (request, response) => answer(guard, options.pages, request, response));
  server.on('upgrade', (request, socket, head) => {
    const refused = refuseUpgrade(guard, request);
    if (refused !== null) {
      socket.end(
        `HTTP/1.1 ${refused.status} ${http.STATUS_CODES[refused.status] ?? ''}\r\nConnection: close\r\n\r\n${refused.text}\n`,
      );
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const connection = options.workbench.connect();
      webSocket.on('close', () => connection.close());
      void handler.upgrade(webSocket, { context: { connection } });
    });
  });
  const shown = options.address.includes(':') ? `[${options.address}]` : options.address;
  return {
    url: `http://${shown}:${port}/?token=${guard.token}`,
    port,
    async close() {
      for (const client of sockets.clients) client.close(1001, 'the server ends');
      sockets.close();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      const impatient = setTimeout(() => {
        for (const client of sockets.clients) client.terminate();
      }, farewell);
      await closed;
      clearTimeout(impatient);
    },
  };
}

function listen(server: http.Server, { address, port }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** What browsers write into `Host` when they mean this server. */
function namesOf(address: string, port: number): string[] {
  const loopback = ['127.0.0.1', 'localhost', '[::1]'];
  const own = address.includes(':') ? `[${address}]` : address;
  return [...new Set([...loopback, own])].map((name) => `${name}:${port}`);
}

function refuseUpgrade(guard: Guard, request: http.IncomingMessage): { status: number; text: string } | null {
  const stranger = refuseStranger(guard, request);
  if (stranger !== null) return stranger;
  if (request.url !== rpcPath) return { status: 404, text: 'There is nothing here.' };
  if (request.headers.origin === undefined) return { status: 403, text: 'Only pages of this server may connect.' };
  if (!hasCookie(guard, request)) return { status: 401, text: 'Open the address that the server printed.' };
  return null;
}

function answer(
  guard: Guard,
  pages: string | null,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): void {
  const headers = safetyHeaders(`'self' ws://${request.headers.host ?? ''}`);
  const refuse = (status: number, text: string): void => {
    response.writeHead(status, { ...headers, 'Content-Type': 'text/plain; charset=utf-8' });
    response.end(`${text}\n`);
  };
  const stranger = refuseStranger(guard, request);
  if (stranger !== null) return refuse(stranger.status, stranger.text);
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(405, 'Only GET is answered here.');
  const url = new URL(request.url ?? '/', 'http://server');
  if (isToken(guard, url.searchParams.get('token'))) {
    // The token leaves the address at once: it would stand in the history and in what is copied.
    response.writeHead(303, { ...headers, 'Set-Cookie': cookieHeader(guard), Location: url.pathname });
    response.end();
    return;
  }
  if (!hasCookie(guard, request)) return refuse(401, 'Open the address that the server printed.');
  if (pages === null) return refuse(404, 'This build has no window; the contract is served at /rpc.');
  if (!servePage(pages, url.pathname, response, headers)) refuse(404, 'There is nothing here.');
}
