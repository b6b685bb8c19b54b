// `npm run dev`: the window from the sources, changed while it is open; in the browser, and in Electron where its binary is there.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { createServer, type Plugin } from 'vite';
import { findElectron } from './electron-binary.ts';

const project = path.resolve(import.meta.dirname, '..');
const host = '127.0.0.1';
/** The address of the page carries it once; afterwards the cookie does. As with `platter serve`, and for the same reasons. */
const token = crypto.randomBytes(24).toString('base64url');
const cookieName = 'platter-dev';

/** The `platter serve` behind the window; begun again whenever its sources change. */
interface Served {
  readonly child: ChildProcess;
  /** With what it lets in: its host, and the cookie that it gives for its token. */
  readonly at: Promise<{ readonly host: string; readonly port: number; readonly cookie: string }>;
}

let served = serve();
let electron: ChildProcess | null = null;
let ending = false;

function serve(): Served {
  const child = spawn(process.execPath, [path.join(project, 'cli', 'main.ts'), 'serve', ...process.argv.slice(2)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const at = new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (line: Buffer) => resolve(line.toString().trim()));
    child.once('exit', (code) => reject(new Error(`platter serve ended with ${code}`)));
  }).then(async (address) => {
    const url = new URL(address);
    const cookie = await new Promise<string>((resolve, reject) => {
      http
        .get(address, (answer) => {
          answer.resume();
          resolve(answer.headers['set-cookie']?.[0]?.split(';')[0] ?? '');
        })
        .on('error', reject);
    });
    return { host: url.host, port: Number(url.port), cookie };
  });
  at.catch((error: unknown) => {
    if (!ending && served.child === child) console.error(error instanceof Error ? error.message : error);
  });
  return { child, at };
}

function isOurs(cookies: string | undefined): boolean {
  const expected = `${cookieName}=${token}`;
  return (cookies ?? '').split(';').some((pair) => pair.trim() === expected);
}

/** Only who was given the token sees the sources; only pages of this server reach the contract. */
function guard(port: () => number): Plugin {
  const own = (): string => `${host}:${port()}`;
  return {
    name: 'platter-dev-guard',
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const url = new URL(request.url ?? '/', 'http://server');
        if (request.headers.host !== own()) response.writeHead(421).end('This server does not go by that name.\n');
        else if (url.searchParams.get('token') === token) {
          const cookie = `${cookieName}=${token}; HttpOnly; SameSite=Strict; Path=/`;
          response.writeHead(303, { 'Set-Cookie': cookie, Location: '/' }).end();
        } else if (isOurs(request.headers.cookie)) next();
        else response.writeHead(401).end('Open the address that was printed.\n');
      });
      server.httpServer?.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
        if (request.url !== '/rpc') return; // the live reload's own
        const { headers } = request;
        const known = headers.host === own() && headers.origin === `http://${own()}` && isOurs(headers.cookie);
        if (known) void pass(request, socket, head);
        else socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n');
      });
    },
  };
}

/** Passes a WebSocket on to the workbench, as if its own page had asked for it. Afterwards it is one stream. */
async function pass(request: http.IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  try {
    const at = await served.at;
    const onward = net.connect(at.port, host, () => {
      const { host: _host, origin: _origin, cookie: _cookie, ...rest } = request.headers;
      const headers = { ...rest, host: at.host, origin: `http://${at.host}`, cookie: at.cookie };
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`);
      onward.write(`GET /rpc HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  } catch {
    socket.destroy(); // it could not be started; the window tries again
  }
}

/** Calls `changed` once when files below `folders` have changed and been left alone for a moment. */
function watch(folders: readonly string[], changed: () => void): void {
  let timer: NodeJS.Timeout | undefined;
  for (const folder of folders) {
    fs.watch(path.join(project, folder), { recursive: true }, (_event, name) => {
      if (name !== null && !name.endsWith('.ts')) return;
      clearTimeout(timer);
      timer = setTimeout(changed, 200);
    });
  }
}

/** Ends a child and waits for that. */
function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}

const vite = await createServer({
  root: path.join(project, 'renderer'),
  configFile: false,
  plugins: [guard(() => listening), svelte({ configFile: path.join(project, 'svelte.config.js') })],
  server: { host, port: Number(process.env.PLATTER_DEV_PORT ?? 0) || 5173, cors: false, fs: { allow: [project] } },
});
await vite.listen();
const address = vite.httpServer?.address();
const listening = typeof address === 'object' && address !== null ? address.port : 0;
console.log(`http://${host}:${listening}/?token=${token}`);

const binary = findElectron(project);
if (binary === null) console.log('The Electron binary is missing: the window is only in the browser.');
else openElectron(binary);

function openElectron(program: string): void {
  const { status } = spawnSync(process.execPath, [path.join('scripts', 'build.ts'), 'electron'], {
    cwd: project,
    stdio: 'inherit',
  });
  if (status !== 0) return; // the build has said why; the next change tries again
  const child = spawn(program, [project], {
    stdio: 'inherit',
    env: { ...process.env, PLATTER_DEV_WINDOW: `http://${host}:${listening}/?token=${token}` },
  });
  electron = child;
  child.once('exit', () => {
    if (electron === child) electron = null;
  });
}

watch(['core', 'cli'], () => {
  const { child } = served;
  void end(child).then(() => {
    if (!ending) served = serve();
  });
});
if (binary !== null) {
  watch(['core', 'electron'], () => {
    void (electron === null ? Promise.resolve() : end(electron)).then(() => {
      if (!ending) openElectron(binary);
    });
  });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    ending = true;
    void Promise.all([vite.close(), end(served.child), electron === null ? null : end(electron)]).then(() =>
      process.exit(0),
    );
  });
}
