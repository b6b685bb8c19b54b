// The files of the window, as they were built: nothing outside of their folder, each with its type, nothing cached that may change.
import fs from 'node:fs';
import type http from 'node:http';
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

/** What every answer carries: only our own code and connections, in no frame, without a word to other sites. */
export function safetyHeaders(host: string): Record<string, string> {
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self'",
    `connect-src 'self' ws://${host}`,
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

/** Answers with the file that `name` (the path of the address) stands for; false: there is none. */
export function servePage(
  folder: string,
  name: string,
  response: http.ServerResponse,
  headers: Record<string, string>,
): boolean {
  let decoded: string;
  try {
    decoded = decodeURIComponent(name);
  } catch {
    return false;
  }
  if (decoded.includes('\0')) return false;
  const file = path.join(folder, path.normalize(decoded === '/' ? '/index.html' : decoded));
  if (!file.startsWith(folder + path.sep)) return false;
  const type = types[path.extname(file)];
  if (type === undefined || !fs.existsSync(file) || !fs.statSync(file).isFile()) return false;
  // Built names carry a digest of their content; the page itself does not.
  const lasting = path.relative(folder, file).startsWith(`assets${path.sep}`);
  response.writeHead(200, {
    ...headers,
    'Content-Type': type,
    'Cache-Control': lasting ? 'public, max-age=31536000, immutable' : 'no-store',
  });
  fs.createReadStream(file).pipe(response);
  return true;
}
