// platter serve: the workbench for a browser.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { fromSystem } from '../../core/errors/image-error.ts';
import { makeFence } from '../../core/workbench/fence.ts';
import { startWorkbench } from '../../core/workbench/workbench.ts';
import { defineCommand, type Arguments } from '../args.ts';
import { CommandError, flushOut, outLine, UsageError, warn } from '../print.ts';
import { startServer } from '../serve/server.ts';
import { versionText } from '../version.ts';
import { openForCommand } from './datastore.ts';

export const spec = defineCommand({
  name: 'serve',
  summary: 'run the workbench for a browser on this machine',
  opensImages: false,
  operands: '',
  options: {
    port: { long: ['port'], argument: 'PORT', meaning: 'listen on this port (default: any that is free)' },
    listen: {
      long: ['listen'],
      argument: 'ADDRESS',
      meaning:
        'listen on this address instead of 127.0.0.1; whoever can reach it and has the token can do what you can',
    },
    root: {
      long: ['root'],
      argument: 'FOLDER',
      meaning: 'reach nothing outside of this folder; may be given several times',
    },
    readOnly: { long: ['read-only'], meaning: 'change nothing: no image, no new file' },
    open: { long: ['open'], meaning: "open the address in this machine's browser" },
  },
  notes: [
    'The address with its token is printed on a line of its own on stdout. SIGINT and SIGTERM cancel the jobs, tidy up and end the server.',
  ],
  examples: [
    ['serve --open', 'the workbench in the browser'],
    ['serve --root /srv/images --read-only', 'let somebody look, and no more'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const [extra] = args.operands;
  if (extra !== undefined) throw new UsageError(`Unexpected argument '${extra}'`, spec.name);
  const port = readPort(args.last('port'));
  const address = args.last('listen') ?? '127.0.0.1';
  const fence = fenceOf(args.all('root'), args.has('readOnly'));
  const catalogue = openForCommand();
  const workbench = startWorkbench({ catalogue, fence, version: versionText() });
  try {
    const server = await startServer({ workbench, pages: builtWindow(), address, port }).catch((error: unknown) => {
      const { message } = fromSystem('serve/listen', error, {}, { address, port });
      throw new CommandError(message);
    });
    if (!isLoopback(address)) {
      warn(
        `listening on ${address}: whoever reaches it and has the token can do what you can, and nothing is encrypted`,
      );
    }
    outLine(server.url);
    flushOut();
    if (args.has('open')) openBrowser(server.url);
    const code = await untilSignal();
    await workbench.close();
    await server.close();
    return code;
  } finally {
    catalogue.close();
  }
}

function readPort(text: string | null): number {
  if (text === null) return 0;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Infinity;
  if (port > 65535) throw new UsageError(`Invalid port '${text}'`, spec.name);
  return port;
}

function fenceOf(roots: readonly string[], readOnly: boolean) {
  try {
    return makeFence(roots.length === 0 ? null : roots, readOnly);
  } catch (error) {
    throw fromSystem('storage/open', error, { file: roots.join(', ') });
  }
}

/** The folder of the built window, beside the built command. */
function builtWindow(): string | null {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const project = path.resolve(here, import.meta.url.endsWith('.ts') ? '../..' : '../..');
  const folder = path.join(project, 'dist', 'renderer');
  return fs.existsSync(path.join(folder, 'index.html')) ? folder : null;
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || /^127\./.test(address);
}

function openBrowser(url: string): void {
  const [program, ...args] =
    os.platform() === 'darwin'
      ? ['open', url]
      : os.platform() === 'win32'
        ? ['cmd', '/c', 'start', '', url]
        : ['xdg-open', url];
  const child = spawn(program ?? '', args, { detached: true, stdio: 'ignore' });
  child.on('error', () => warn('no browser could be started: open the address yourself'));
  child.unref();
}

function untilSignal(): Promise<number> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve(130));
    process.once('SIGTERM', () => resolve(143));
  });
}
