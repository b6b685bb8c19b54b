// The same command lines given to qemu-img and to ours, on the same files: text, streams and exit codes must be equal.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, startPeer, startPlatter, type Finished } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

/** Splits a command line at spaces; 'quoted' words may hold spaces or be empty. */
export function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '');
}

/** What must not differ: what is left to chance and to the host's bookkeeping is taken out. */
export function normalised({ status, stdout, stderr }: Finished): Finished {
  const clean = (text: string): string =>
    text
      .replace(/^disk size: .*$/gm, 'disk size: …')
      .replace(/"actual-size": \d+/g, '"actual-size": …')
      .replace(/"(parent-)?cid": \d+/g, '"$1cid": …')
      .replace(/"(date-n?sec)": \d+/g, '"$1": …')
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, '(date)');
  return { status, stdout: clean(stdout), stderr: clean(stderr) };
}

export interface TranscriptOptions {
  /** Makes the files. */
  readonly prepare?: (folder: string) => void;
  /** Nothing is written: both programs look at the same files. Otherwise each has a folder of its own. */
  readonly readOnly?: boolean;
  /** `ARGUMENTS => FILE`: what qemu-img says of that file afterwards must be equal too, and find nothing wrong with it. */
  readonly lines: readonly string[];
}

/** One test per line. Lines run in order; what one creates the next ones see. */
export function sameAsQemuImg(name: string, options: TranscriptOptions): void {
  describeWith({ peers: ['qemu-img', 'qemu-io'] }, name, () => {
    const root = scratchFolder('transcripts');
    const theirs = path.join(root, 'theirs');
    const ours = options.readOnly === true ? theirs : path.join(root, 'ours');
    beforeAll(() => {
      for (const folder of new Set([theirs, ours])) {
        fs.mkdirSync(folder);
        options.prepare?.(folder);
      }
    });
    for (const line of options.lines) {
      it(line === '' ? '(no arguments)' : line, async () => {
        const [command = '', file] = line.split(' => ');
        const args = words(command);
        const [expected, found] = await Promise.all([
          startPeer('qemu-img', args, { cwd: theirs }),
          startPlatter(args, { cwd: ours }),
        ]);
        expect(normalised(found)).toEqual(normalised(expected));
        if (file === undefined) return;
        const verdict = async (folder: string): Promise<Finished> =>
          normalised(await startPeer('qemu-img', ['info', '--output=json', file], { cwd: folder }));
        expect(await verdict(ours)).toEqual(await verdict(theirs));
        const check = await startPeer('qemu-img', ['check', file], { cwd: ours });
        expect({ found: check, clean: check.status === 0 || check.status === 63 }).toMatchObject({ clean: true });
      });
    }
  });
}
