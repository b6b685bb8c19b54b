// The files of a folder by the bytes they begin with: for images that know others by an identity and not by a name.
import fs from 'node:fs';
import path from 'node:path';
import { fromSystem } from '../errors/image-error.ts';

/** Files looked into at most. */
const mostFiles = 4096;

/**
 * Name and first bytes (up to `length`) of the regular files in `folder` whose name ends in `ending` (small letters; any case matches), by
 * name. `allowed` is asked before a file is touched. What cannot be read is left out; so is everything if the folder cannot be.
 */
export function* fileHeads(
  folder: string,
  ending: string,
  length: number,
  allowed: (file: string) => boolean,
): Generator<{ name: string; head: Uint8Array }, void, void> {
  for (const name of namesIn(folder, ending)) {
    const file = path.join(folder, name);
    if (!allowed(file)) continue;
    const head = headOf(file, length);
    if (head !== null) yield { name, head };
  }
}

function namesIn(folder: string, ending: string): string[] {
  try {
    const names = fs.readdirSync(folder === '' ? '.' : folder).filter((name) => name.toLowerCase().endsWith(ending));
    return names.sort().slice(0, mostFiles);
  } catch (error) {
    fromSystem('storage/open', error, { file: folder });
    return [];
  }
}

function headOf(file: string, length: number): Uint8Array | null {
  let descriptor: number | null = null;
  try {
    // Opening a FIFO would wait for its writer.
    if (!fs.statSync(file).isFile()) return null;
    descriptor = fs.openSync(file, 'r');
    const head = new Uint8Array(length);
    return head.subarray(0, fs.readSync(descriptor, head, 0, length, 0));
  } catch (error) {
    fromSystem('storage/open', error, { file });
    return null;
  } finally {
    if (descriptor !== null) fs.closeSync(descriptor);
  }
}
