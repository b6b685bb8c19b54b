// The files of the window over HTTP: each with its type, nothing cached that may change.
import fs from 'node:fs';
import type http from 'node:http';
import { findWindowFile } from '../../core/workbench/window-files.ts';

/** Answers with the file that `name` (the path of the address) stands for; false: there is none. */
export function servePage(
  folder: string,
  name: string,
  response: http.ServerResponse,
  headers: Record<string, string>,
): boolean {
  const file = findWindowFile(folder, name);
  if (file === null) return false;
  response.writeHead(200, {
    ...headers,
    'Content-Type': file.type,
    'Cache-Control': file.lasting ? 'public, max-age=31536000, immutable' : 'no-store',
  });
  fs.createReadStream(file.path).pipe(response);
  return true;
}
