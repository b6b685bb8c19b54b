// The files of the built window and what goes with each of them, the same over HTTP and in the desktop shell.
import fs from 'node:fs';
import path from 'node:path';

/** Types by ending; what is not among them is not served. */
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** What every answer carries: only our own code and the connections named, in no frame, without a word to other sites. */
export function safetyHeaders(connections: string): Record<string, string> {
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self'",
    `connect-src ${connections}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return {
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
  };
}

export interface WindowFile {
  readonly path: string;
  readonly type: string;
  /** Its name carries a digest of its content: it never changes. */
  readonly lasting: boolean;
}

/**
 * The file that `name` (the path of an address, still encoded) stands for; null: there is none, it lies outside of `folder` however that is
 * written, or it is of a type that no window is made of.
 */
export function findWindowFile(folder: string, name: string): WindowFile | null {
  let decoded: string;
  try {
    decoded = decodeURIComponent(name);
  } catch {
    return null;
  }
  if (decoded.includes('\0')) return null;
  const file = path.join(folder, path.normalize(decoded === '/' ? '/index.html' : decoded));
  if (!file.startsWith(folder + path.sep)) return null;
  const type = types[path.extname(file)];
  if (type === undefined || !fs.existsSync(file) || !fs.statSync(file).isFile()) return null;
  return { path: file, type, lasting: path.relative(folder, file).startsWith(`assets${path.sep}`) };
}
