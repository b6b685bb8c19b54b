// A folder for one test file, and small programs of the system that tests look with.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';

/** A fresh folder that is gone after the tests of this file. */
export function scratchFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-block-'));
  afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a program of the system; its stdout. Throws when it fails. */
export function system(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Why a program of the system cannot do this here; null when it can. */
export function refusal(program: string, ...args: string[]): string | null {
  const child = spawnSync(program, args, { encoding: 'utf8' });
  if (child.error !== undefined) return `${program} is not installed`;
  return child.status === 0 ? null : `${program} ${args.join(' ')}: ${child.stderr.trim()}`;
}

/** The stretches of a file that hold data, as Python's lseek finds them: `[start, end]`. */
export function dataStretches(file: string): [number, number][] {
  const script = `
import os, sys, json
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
at, found = 0, []
while at < size:
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(fd, start, os.SEEK_HOLE)
    found.append([start, at])
print(json.dumps(found))
`;
  return JSON.parse(system('python3', '-c', script, file)) as [number, number][];
}

/** Mounts what `arguments` say under `folder` for this test file; the reason where that is not possible, otherwise null. */
export function mounted(folder: string, ...args: string[]): string | null {
  if (process.platform !== 'linux') return 'only Linux mounts it this way';
  fs.mkdirSync(folder, { recursive: true });
  const reason = refusal('mount', ...args, folder);
  if (reason === null) afterAll(() => void spawnSync('umount', [folder]));
  return reason;
}
