// `platter://window/`: the files of the built window, from one folder, with the same policy as over HTTP.
import { protocol } from 'electron';
import fs from 'node:fs/promises';
import { findWindowFile, safetyHeaders } from '../core/workbench/window-files.ts';
import { scheme, windowOrigin } from './addresses.ts';

/** To be called before the program is ready: the window's origin is then one like that of a secure site. */
export function registerScheme(): void {
  protocol.registerSchemesAsPrivileged([
    { scheme, privileges: { standard: true, secure: true, supportFetchAPI: true, codeCache: true } },
  ]);
}

/** Serves the window out of `folder`, and nothing else. */
export function serveWindow(folder: string): void {
  protocol.handle(scheme, (request) => answer(folder, request));
}

async function answer(folder: string, { url: address, method }: Request): Promise<Response> {
  const headers = safetyHeaders("'self'");
  const refuse = (status: number): Response =>
    new Response(null, { status, headers: { ...headers, 'Content-Type': 'text/plain; charset=utf-8' } });
  if (method !== 'GET' && method !== 'HEAD') return refuse(405);
  // Not through the URL's own idea of the path: what it would tidy up is to be refused.
  if (!address.startsWith(`${windowOrigin}/`)) return refuse(404);
  const name = address.slice(windowOrigin.length).replace(/[?#].*$/s, '');
  if (name.split(/[/\\]|%2f|%5c/i).some((part) => part.replaceAll(/%2e/gi, '.') === '..')) return refuse(404);
  const file = findWindowFile(folder, name);
  if (file === null) return refuse(404);
  const body = method === 'HEAD' ? null : new Uint8Array(await fs.readFile(file.path));
  return new Response(body, {
    headers: {
      ...headers,
      'Content-Type': file.type,
      'Cache-Control': file.lasting ? 'public, max-age=31536000, immutable' : 'no-store',
    },
  });
}
