// Makes the n-th change to a file of the host fail, in this process: the calls of node:fs that the engine uses are replaced for a while.
import fs from 'node:fs';
import { getSystemErrorMap } from 'node:util';

/** A change of a file, as the engine makes it. */
export type FileStep = 'write' | 'truncate' | 'flush' | 'rename' | 'create';

export interface FileFailures<T> {
  readonly result: T;
  /** Every step in order; a file name belongs to the steps that have one. */
  readonly steps: readonly FileStep[];
  /** What was written to stdout and stderr meanwhile. */
  readonly said: string;
}

type Errno = 'EIO' | 'ENOSPC';

function systemError(errno: Errno, call: string): NodeJS.ErrnoException {
  for (const [number, [name, text]] of getSystemErrorMap()) {
    if (name === errno)
      return Object.assign(new Error(`${errno}: ${text}, ${call}`), { code: errno, errno: number, syscall: call });
  }
  throw new Error(`no such error number: ${errno}`);
}

/**
 * Runs `body` while step n and all later ones (`once`: none of them) fail, counted from 1 (`Infinity`: none fails). Steps are counted for regular files below
 * `folder` only. Needs PLATTER_NO_KOFFI=1 to be set before the engine is loaded, so that no change goes past node:fs.
 */
export async function withFailingFiles<T>(
  folder: string,
  n: number,
  errno: Errno,
  body: () => Promise<T>,
  mode: 'lasting' | 'once' = 'lasting',
): Promise<FileFailures<T>> {
  const steps: FileStep[] = [];
  let said = '';
  const replaced = [
    'ftruncateSync',
    'fsyncSync',
    'fdatasyncSync',
    'writevSync',
    'writeSync',
    'renameSync',
    'openSync',
    'write',
    'writev',
    'ftruncate',
    'fdatasync',
    'fsync',
  ] as const;
  const original = Object.fromEntries(replaced.map((name) => [name, fs[name]]));
  const { readlinkSync } = fs;
  const isOurs = (descriptor: number): boolean =>
    descriptor > 2 && readlinkSync(`/proc/self/fd/${descriptor}`).startsWith(folder);
  const fails = (kind: FileStep): boolean => (mode === 'once' ? steps.push(kind) === n : steps.push(kind) >= n);

  type Fs = Record<string, (...args: unknown[]) => unknown>;
  const calls = fs as unknown as Fs;
  const before = original as Fs;
  const replaceSync = (name: string, kind: FileStep): void => {
    calls[name] = (...args) => {
      if (isOurs(args[0] as number) && fails(kind)) throw systemError(errno, name);
      return before[name]?.(...args);
    };
  };
  const replaceCallback = (name: string, kind: FileStep): void => {
    calls[name] = (...args) => {
      if (!isOurs(args[0] as number) || !fails(kind)) return before[name]?.(...args);
      const done = args.at(-1) as (error: Error) => void;
      setImmediate(() => done(systemError(errno, name)));
      return undefined;
    };
  };
  replaceSync('ftruncateSync', 'truncate');
  replaceSync('fsyncSync', 'flush');
  replaceSync('fdatasyncSync', 'flush');
  replaceSync('writevSync', 'write');
  replaceCallback('write', 'write');
  replaceCallback('writev', 'write');
  replaceCallback('ftruncate', 'truncate');
  replaceCallback('fdatasync', 'flush');
  replaceCallback('fsync', 'flush');
  calls.writeSync = (...args) => {
    const [descriptor, bytes] = args as [number, string | Uint8Array];
    if (descriptor === 1 || descriptor === 2) {
      said += typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString();
      return bytes.length;
    }
    if (isOurs(descriptor) && fails('write')) throw systemError(errno, 'write');
    return before.writeSync?.(...args);
  };
  calls.renameSync = (...args) => {
    if (String(args[0]).startsWith(folder) && fails('rename')) throw systemError(errno, 'rename');
    return before.renameSync?.(...args);
  };
  calls.openSync = (...args) => {
    const [name, flags = 'r'] = args as [string, string | number | undefined];
    const creates = typeof flags === 'number' ? (flags & fs.constants.O_CREAT) !== 0 : /[wa]/.test(flags);
    if (creates && name.startsWith(folder) && fails('create')) throw systemError(errno, 'open');
    return before.openSync?.(...args);
  };
  try {
    return { result: await body(), steps, said };
  } finally {
    Object.assign(fs, original);
  }
}
