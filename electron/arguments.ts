// What the program was started with: files to open, files to convert, links.
import { app } from 'electron';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { isLink } from './addresses.ts';

export type Wish =
  | { readonly kind: 'open'; readonly path: string }
  | { readonly kind: 'convert'; readonly path: string }
  | { readonly kind: 'link'; readonly text: string };

/** What one instance hands to the one that runs already. */
export const handOver = v.object({
  argv: v.pipe(v.array(v.pipe(v.string(), v.maxLength(8192))), v.maxLength(200)),
  cwd: v.pipe(v.string(), v.maxLength(4096)),
});
export type HandOver = v.InferOutput<typeof handOver>;

/** More files than this at once are a slip of the hand. */
const most = 20;

/** The arguments that are meant for us: not those of the runtime. */
export function ownArguments(): HandOver {
  const program = process.defaultApp === true ? 2 : 1;
  return { argv: process.argv.slice(program), cwd: process.cwd() };
}

/**
 * `FILE…`, `--convert FILE…`, `platter://…`, `file://…`. Switches are the runtime's; after `--` everything is a file. Relative paths begin
 * at `cwd`.
 */
export function wishesOf({ argv, cwd }: HandOver): Wish[] {
  const wishes: Wish[] = [];
  let [kind, onlyFiles]: ['open' | 'convert', boolean] = ['open', false];
  for (const argument of argv) {
    if (onlyFiles) wishes.push({ kind, path: path.resolve(cwd, argument) });
    else if (argument === '--') onlyFiles = true;
    else if (argument === '--convert') kind = 'convert';
    else if (argument === '' || argument.startsWith('-')) continue;
    else if (isLink(argument)) wishes.push({ kind: 'link', text: argument });
    else {
      const file = fileOf(argument, cwd);
      if (file !== null) wishes.push({ kind, path: file });
    }
  }
  return wishes.slice(0, most);
}

/** File managers hand over paths, or `file:` addresses; of the latter only those on this machine. */
function fileOf(argument: string, cwd: string): string | null {
  if (!/^file:/i.test(argument)) return path.resolve(cwd, argument);
  try {
    return new URL(argument).hostname === '' ? fileURLToPath(argument) : null;
  } catch {
    return null;
  }
}

/** Registers the scheme of links with the system; a packaged program only, for otherwise it would be the runtime that is registered. */
export function claimLinks(scheme: string): void {
  if (app.isPackaged) app.setAsDefaultProtocolClient(scheme);
}
