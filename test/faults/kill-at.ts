// Loaded before our command (node --import): ends the process with SIGKILL at its n-th change of a file, and counts the changes.
import fs from 'node:fs';

/** `n:when`, n from 1; `when`: before the change, after it, or in the middle of it (a part of the bytes is written). */
const [nText = '0', when = 'before'] = (process.env.PLATTER_TEST_KILL ?? '').split(':');
const killAt = Number(nText);
const countFile = process.env.PLATTER_TEST_COUNT ?? '';
const folder = process.env.PLATTER_TEST_FOLDER ?? '';
let steps = 0;

type Call = (...args: unknown[]) => unknown;
const calls = fs as unknown as Record<string, Call>;
const { readlinkSync, writeFileSync, writeSync } = fs;

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  for (;;); // the signal comes when it comes
}

function isOurs(subject: unknown): boolean {
  if (typeof subject === 'string') return subject.startsWith(folder) || !subject.startsWith('/');
  const descriptor = subject as number;
  return descriptor > 2 && readlinkSync(`/proc/self/fd/${descriptor}`).startsWith(folder);
}

function watch(name: string): void {
  const original = calls[name];
  if (original === undefined) throw new Error(`no fs.${name}`);
  calls[name] = (...args) => {
    if (!isOurs(args[0])) return original(...args);
    steps++;
    if (steps !== killAt) return original(...args);
    if (when === 'before') die();
    if (when === 'middle' && name === 'writeSync') {
      const [descriptor, bytes, from, length, position] = args as [number, Uint8Array, number, number, number];
      // A signal stops a write between pages, a power cut between sectors.
      const part = Math.max(0, (length >> 1) - ((position + (length >> 1)) % 512));
      if (part > 0) writeSync(descriptor, bytes, from, part, position);
      die();
    }
    original(...args);
    return die();
  };
}

for (const name of ['writeSync', 'ftruncateSync', 'fdatasyncSync', 'fsyncSync', 'renameSync', 'rmSync', 'unlinkSync'])
  watch(name);
process.on('exit', () => {
  if (countFile !== '') writeFileSync(countFile, String(steps));
});
