// Ends the process with SIGKILL at its n-th change of a file, and counts the changes: through node:fs and through the calls of the host.
import fs from 'node:fs';
import { host } from '../../core/block/host/host.ts';

/** `before`: the change is not made; `after`: it is; `middle`: a part of the bytes is written. */
export type Moment = 'before' | 'after' | 'middle';

export interface Watch {
  /** Changes of regular files below it count. */
  readonly folder: string;
  /** From 1; Infinity: only count. */
  readonly at: number;
  readonly when: Moment;
  /** Ends the process at once. */
  readonly die: () => never;
}

type Call = (...args: unknown[]) => unknown;

const fileCalls = [
  'writeSync',
  'ftruncateSync',
  'fdatasyncSync',
  'fsyncSync',
  'renameSync',
  'rmSync',
  'unlinkSync',
] as const;
/** With the place of the descriptor that is changed among their arguments. */
const hostCalls = { punchHole: 0, zeroRange: 0, allocate: 0, cloneRange: 2, copyRange: 2 } as const;

/** Watches from now on, for the rest of this process's life; the function it gives tells the number of changes so far. */
export function watchChanges({ folder, at, when, die }: Watch): () => number {
  let steps = 0;
  const { readlinkSync, writeSync } = fs;

  const isOurs = (subject: unknown): boolean => {
    if (typeof subject === 'string') return subject.startsWith(folder) || !subject.startsWith('/');
    const descriptor = subject as number;
    return descriptor > 2 && readlinkSync(`/proc/self/fd/${descriptor}`).startsWith(folder);
  };
  const writePart = (args: readonly unknown[]): void => {
    const [descriptor, bytes, from, length, position] = args as [number, Uint8Array, number, number, number];
    // A signal stops a write between pages, a power cut between sectors.
    const part = Math.max(0, (length >> 1) - ((position + (length >> 1)) % 512));
    if (part > 0) writeSync(descriptor, bytes, from, part, position);
  };
  const watch = (calls: Record<string, Call>, name: string, subject: number): void => {
    const original = calls[name]?.bind(calls);
    if (original === undefined) throw new Error(`no call ${name}`);
    calls[name] = (...args) => {
      if (!isOurs(args[subject])) return original(...args);
      if (++steps !== at) return original(...args);
      if (when === 'before') return die();
      if (when === 'middle' && name === 'writeSync') writePart(args);
      else original(...args);
      return die();
    };
  };

  for (const name of fileCalls) watch(fs as unknown as Record<string, Call>, name, 0);
  for (const [name, subject] of Object.entries(hostCalls)) {
    watch(host() as unknown as Record<string, Call>, name, subject);
  }
  return () => steps;
}
