// Locks against qemu's: whatever one program holds, the other meets, with the same words; and who holds it is named.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openFile, type LockMode } from '../../../core/block/file.ts';
import { lockHolders } from '../../../core/block/host/holders.ts';
import { lockBytes } from '../../../core/block/host/locks.ts';
import type { Storage } from '../../../core/block/storage.ts';
import { isImageError } from '../../../core/errors/image-error.ts';
import { describeWith, mustRun, peer, runPeer } from '../../peers.ts';
import { scratchFolder } from './scratch.ts';

const folder = scratchFolder();
const linux = process.platform === 'linux' ? null : 'only Linux has these locks';

const open: Storage[] = [];
const running: ChildProcessWithoutNullStreams[] = [];

afterEach(async () => {
  for (const storage of open.splice(0)) storage.close();
  for (const child of running.splice(0)) await quit(child);
});

function hold(file: string, lock: LockMode): Storage {
  const storage = openFile(file, { writable: lock === 'write' || lock === 'write-shared', lock });
  open.push(storage);
  return storage;
}

/** Our words when the file cannot be had; null when it can. */
function ourRefusal(file: string, lock: LockMode): string | null {
  try {
    openFile(file, { writable: lock === 'write' || lock === 'write-shared', lock }).close();
    return null;
  } catch (error) {
    if (!isImageError(error, 'storage/locked')) throw error;
    return error.message;
  }
}

/** qemu's words for the same: the part of its message that is about the lock. */
function theirRefusal(args: readonly string[]): string | null {
  const { status, stderr, stdout } = runPeer('qemu-io', [...args, '-c', 'length']);
  if (status === 0 && !stdout.includes('Failed')) return null;
  return /Failed to get (shared )?"[a-z ]+" lock/.exec(stderr + stdout)?.[0] ?? stderr + stdout;
}

/** qemu-io that has the file open and waits at its prompt. */
function holdWithQemu(args: readonly string[]): Promise<ChildProcessWithoutNullStreams> {
  const child = spawn(peer('qemu-io') ?? '', args);
  running.push(child);
  return new Promise((resolve, reject) => {
    let seen = '';
    const look = (chunk: Buffer): void => {
      seen += chunk.toString();
      if (seen.includes('qemu-io>')) resolve(child);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', () => reject(new Error(seen)));
  });
}

function quit(child: ChildProcessWithoutNullStreams): Promise<void> {
  return new Promise((resolve) => {
    child.on('exit', () => resolve());
    child.stdin.end('quit\n');
  });
}

function image(name: string, format: string): string {
  const file = path.join(folder, name);
  mustRun('qemu-img', ['create', '-q', '-f', format, file, '8M']);
  return file;
}

/** The bytes on which a process holds locks on a file, from the kernel. */
function lockedBytes(pid: number, file: string): string[] {
  const bytes: string[] = [];
  for (const descriptor of fs.readdirSync(`/proc/${pid}/fd`)) {
    if (linkOf(`/proc/${pid}/fd/${descriptor}`) !== file) continue;
    const info = fs.readFileSync(`/proc/${pid}/fdinfo/${descriptor}`, 'latin1');
    for (const match of info.matchAll(/^lock:.*OFDLCK\s+ADVISORY\s+(READ|WRITE) .* (\d+) (\d+)$/gm)) {
      bytes.push(`${match[1]} ${match[2]}-${match[3]}`);
    }
  }
  return bytes;
}

/** Null for the descriptor through which the folder was just listed. */
function linkOf(path: string): string | null {
  try {
    return fs.readlinkSync(path);
  } catch {
    return null;
  }
}

const ways: { title: string; lock: LockMode; args: string[]; format: string }[] = [
  { title: 'reading', lock: 'read', args: ['-r'], format: 'qcow2' },
  { title: 'reading beside anybody (-U)', lock: 'shared-any', args: ['-r', '-U'], format: 'qcow2' },
  { title: 'writing', lock: 'write', args: [], format: 'qcow2' },
  { title: 'writing a raw image', lock: 'write-shared', args: ['-f', 'raw'], format: 'raw' },
];

describeWith({ peers: ['qemu-img', 'qemu-io'], unless: linux }, 'locks beside qemu', () => {
  it.each(ways.slice(0, 3))('are the same bytes for $title', async ({ lock, args }) => {
    const file = image(`bytes-${lock}.qcow2`, 'qcow2');
    hold(file, lock);
    const ours = lockedBytes(process.pid, file);
    for (const storage of open.splice(0)) storage.close();
    const child = await holdWithQemu([...args, file]);
    expect(child.pid).toBeDefined();
    expect(ours).toEqual(lockedBytes(child.pid ?? 0, file));
    expect(ours.length).toBeGreaterThan(0);
  });

  for (const theirs of ways) {
    it(`meet qemu-io ${theirs.title} as another qemu-io does`, async () => {
      const file = image(`theirs-${theirs.lock}`, theirs.format);
      await holdWithQemu([...theirs.args, file]);
      if (theirs.format === 'qcow2') {
        for (const { lock, args } of ways.slice(0, 3)) {
          expect([lock, ourRefusal(file, lock)]).toEqual([lock, theirRefusal([...args, file])]);
        }
      }
      const copy = ['convert', '-f', theirs.format, '-O', 'raw', file, path.join(folder, 'copy')];
      const words = /Failed to get (shared )?"[a-z ]+" lock/.exec(runPeer('qemu-img', copy).stderr)?.[0] ?? null;
      expect(ourRefusal(file, 'read')).toBe(words);
    });

    it(`keep qemu-io out as qemu-io ${theirs.title} does`, async () => {
      const file = image(`ours-${theirs.lock}`, theirs.format);
      const answers = (): (string | null)[] =>
        ways.map(({ args, format }) => {
          const stated = theirs.format === 'raw' && format !== 'raw' ? ['-f', 'raw'] : [];
          return theirRefusal([...stated, ...args, file]);
        });
      await holdWithQemu([...theirs.args, file]);
      const expected = answers();
      if (theirs.lock === 'write') expect(expected.slice(0, 3)).toContain('Failed to get "write" lock');
      for (const child of running.splice(0)) await quit(child);
      hold(file, theirs.lock);
      expect(answers()).toEqual(expected);
    });
  }

  it('say what qemu-img says when a running program writes the image', async () => {
    const file = image('busy.qcow2', 'qcow2');
    await holdWithQemu([file]);
    const { stderr } = runPeer('qemu-img', ['check', file]);
    expect(stderr).toContain(ourRefusal(file, 'read'));
    const resized = runPeer('qemu-img', ['resize', file, '+1M']);
    expect(resized.stderr).toContain(ourRefusal(file, 'write'));
  });

  it('name the program that holds the file', async () => {
    const file = image('named.qcow2', 'qcow2');
    const child = await holdWithQemu([file]);
    expect(lockHolders(file)).toEqual([{ pid: child.pid, command: 'qemu-io' }]);
    const other = path.join(folder, 'another-name.qcow2');
    fs.linkSync(file, other);
    expect(lockHolders(other)).toEqual([{ pid: child.pid, command: 'qemu-io' }]);
    expect(() => hold(file, 'write')).toThrow(
      expect.objectContaining({
        code: 'storage/locked',
        detail: { permission: 'write', exclusive: true, name: file, holders: [{ pid: child.pid, command: 'qemu-io' }] },
        where: { file },
      }),
    );
    for (const one of running.splice(0)) await quit(one);
    expect(lockHolders(file)).toEqual([]);
  });

  it('leave nothing behind after a refusal, and go with the descriptor', async () => {
    const file = image('after.qcow2', 'qcow2');
    await holdWithQemu([file]);
    expect(ourRefusal(file, 'write')).not.toBeNull();
    expect(lockedBytes(process.pid, file)).toEqual([]);
    for (const child of running.splice(0)) await quit(child);
    hold(file, 'write').close();
    expect(theirRefusal([file])).toBeNull();
  });

  it('stand between two descriptors of this process as well', () => {
    const file = image('twice.qcow2', 'qcow2');
    hold(file, 'read');
    hold(file, 'read');
    expect(ourRefusal(file, 'write')).toBe('Failed to get "write" lock');
    expect(ourRefusal(file, 'none')).toBeNull();
    expect(lockHolders(file)).toEqual([
      { pid: process.pid, command: fs.readFileSync('/proc/self/comm', 'latin1').trim() },
    ]);
  });
});

describe('the byte protocol', () => {
  /** Locks of several holders in memory, as the kernel keeps them. */
  function table(): (holder: string) => Parameters<typeof lockBytes>[0] & { held(): number[] } {
    const locks = new Set<string>();
    return (holder) => ({
      take: (byte) => {
        locks.add(`${holder}:${byte}`);
        return true;
      },
      isFree: (byte) => ![...locks].some((lock) => lock.endsWith(`:${byte}`) && !lock.startsWith(`${holder}:`)),
      release: (byte) => void locks.delete(`${holder}:${byte}`),
      held: () => [...locks].filter((lock) => lock.startsWith(`${holder}:`)).map((lock) => Number(lock.split(':')[1])),
    });
  }

  it.each([
    ['read', 'read', null],
    ['read', 'write', { permission: 'write', exclusive: true }],
    ['write', 'read', { permission: 'write', exclusive: false }],
    ['write', 'write', { permission: 'write', exclusive: true }],
    ['write', 'shared-any', null],
    ['shared-any', 'write', null],
    ['write-shared', 'write-shared', null],
    ['write-shared', 'write', { permission: 'write', exclusive: false }],
    ['write-shared', 'read', { permission: 'write', exclusive: false }],
    ['none', 'write', null],
  ] as const)('%s first, then %s', (first, second, expected) => {
    const holder = table();
    expect(lockBytes(holder('a'), first)).toBeNull();
    expect(lockBytes(holder('b'), second)).toEqual(expected);
    expect(holder('b').held().length === 0).toBe(expected !== null);
  });

  it('gives back what it took when a byte cannot be had at all', () => {
    const released: number[] = [];
    const locks = {
      take: (byte: number) => byte !== 203,
      isFree: () => true,
      release: (byte: number) => void released.push(byte),
    };
    expect(lockBytes(locks, 'read')).toEqual({ permission: 'resize', exclusive: false });
    expect(released).toEqual([100, 201, 203]);
  });
});
