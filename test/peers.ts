// The programs that we measure ourselves against, the folder of foreign images, and our own command: found, run, or skipped with a reason.
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it, type TestOptions } from 'vitest';
import { findProgram, packageOf, type PeerName } from './peer-packages.ts';

const projectFolder = path.resolve(import.meta.dirname, '..');

/** The path of a foreign program, or null where it is not installed. */
export function peer(name: PeerName): string | null {
  return findProgram(name);
}

/** `../shared`, where the foreign images stand; null in a clone that stands alone. PLATTER_SHARED names another place. */
export function sharedFolder(): string | null {
  const folder = process.env.PLATTER_SHARED ?? path.join(projectFolder, '..', 'shared');
  return fs.existsSync(path.join(folder, 'images')) ? folder : null;
}

/** What a test needs besides this project. */
export interface Needs {
  readonly peers?: readonly PeerName[];
  readonly shared?: boolean;
  /** Any other reason not to run; null: none. */
  readonly unless?: string | null;
}

/** Why what is needed is not there; null when it is. Reasons for a missing peer begin with `peer `: in CI they are failures. */
export function missing(needs: Needs): string | null {
  for (const name of needs.peers ?? []) {
    if (peer(name) === null) return `peer ${name} is not installed (Debian package ${packageOf(name)})`;
  }
  if (needs.shared === true && sharedFolder() === null) return 'no folder ../shared/images beside the project';
  return needs.unless ?? null;
}

/**
 * In CI a test in a real browser may fail once: a machine that is short of time spoils one now and then. Nothing else is tried again, and
 * `npm test` names those that passed only then.
 */
function patienceOf(needs: Needs): TestOptions {
  const inCI = !['', 'false', undefined].includes(process.env.CI);
  return inCI && needs.peers?.includes('chromium') === true ? { retry: 1, timeout: 180_000 } : {};
}

/** `describe`, or the same tests skipped under a title that says why. The body must not use a peer while it is collected. */
export function describeWith(needs: Needs, name: string, body: () => void): void {
  const reason = missing(needs);
  if (reason === null) describe(name, patienceOf(needs), body);
  else describe.skip(`${name} (skipped: ${reason})`, body);
}

/** `it`, or the same test skipped under a title that says why. */
export function itWith(needs: Needs, name: string, body: () => void | Promise<void>): void;
export function itWith(needs: Needs, name: string, options: TestOptions, body: () => void | Promise<void>): void;
export function itWith(
  needs: Needs,
  name: string,
  ...rest: [() => void | Promise<void>] | [TestOptions, () => void | Promise<void>]
): void {
  const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest;
  const reason = missing(needs);
  if (reason === null) it(name, options, body);
  else it.skip(`${name} (skipped: ${reason})`, options, body);
}

/** What a finished program left. `status` null: it was ended by a signal or the time limit. */
export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Milliseconds; default two minutes. */
  readonly timeout?: number;
}

/** Runs a program to its end; its output is text. A program that cannot be started throws. */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Finished {
  const child = spawnSync(program, args, {
    cwd: options.cwd,
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', ...options.env },
    ...(options.input === undefined ? {} : { input: options.input }),
    encoding: 'utf8',
    timeout: options.timeout ?? 120_000,
    maxBuffer: 256 * 1024 * 1024,
  });
  if (child.error !== undefined && !('code' in child.error && child.error.code === 'ETIMEDOUT')) throw child.error;
  return { status: child.status, stdout: child.stdout, stderr: child.stderr };
}

/** `runProgram` without blocking, so that several run at once. */
export function startProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeout ?? 120_000,
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (piece: Buffer) => stdout.push(piece));
    child.stderr.on('data', (piece: Buffer) => stderr.push(piece));
    child.stdin.on('error', () => {}); // a program that does not read its input may end before it is written
    child.stdin.end(options.input ?? '');
    child.on('error', reject);
    child.on('close', (status) =>
      resolve({ status, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

/** Runs a peer that the test has asked for with `describeWith`. */
export function runPeer(name: PeerName, args: readonly string[], options: RunOptions = {}): Finished {
  const program = peer(name);
  if (program === null) throw new Error(`the test did not say that it needs ${name}`);
  return runProgram(program, args, options);
}

/** `runPeer` for a step that must succeed: gives its stdout, throws with its stderr otherwise. */
export function mustRun(name: PeerName, args: readonly string[], options: RunOptions = {}): string {
  const { status, stdout, stderr } = runPeer(name, args, options);
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: exit ${status}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}

export function runQemuImg(args: readonly string[], options: RunOptions = {}): Finished {
  return runPeer('qemu-img', args, options);
}

/** How our command is started: the build where it is up to date, otherwise the sources. */
export function platterCommand(): readonly [string, ...string[]] {
  const stated = process.env.PLATTER_CANDIDATE;
  if (stated !== undefined) return [stated];
  const built = path.join(projectFolder, 'bin', 'platter');
  return buildIsFresh() ? [built] : [process.execPath, path.join(projectFolder, 'cli', 'main.ts')];
}

const asQemuImg = { PLATTER_PROGNAME: 'qemu-img', PLATTER_QEMU_COMPAT: '7.2', NODE_OPTIONS: '' };

/** Runs our command as qemu-img 7.2, the level of the peer on Debian 12, unless `env` says otherwise. */
export function runPlatter(args: readonly string[], options: RunOptions = {}): Finished {
  const [program, ...first] = platterCommand();
  return runProgram(program, [...first, ...args], { ...options, env: { ...asQemuImg, ...options.env } });
}

/** `runPlatter` without blocking. */
export function startPlatter(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const [program, ...first] = platterCommand();
  return startProgram(program, [...first, ...args], { ...options, env: { ...asQemuImg, ...options.env } });
}

/** `runPeer` without blocking. */
export function startPeer(name: PeerName, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const program = peer(name);
  if (program === null) throw new Error(`the test did not say that it needs ${name}`);
  return startProgram(program, args, options);
}

let fresh: boolean | null = null;

/** True when `bin/platter` and `dist/cli` stand and nothing under core or cli is newer. */
function buildIsFresh(): boolean {
  // `npm test` has just built.
  if (process.env.PLATTER_BUILT === '1') return true;
  if (fresh === null) {
    const built = newest(path.join(projectFolder, 'dist', 'cli'));
    const sources = Math.max(newest(path.join(projectFolder, 'core')), newest(path.join(projectFolder, 'cli')));
    fresh = fs.existsSync(path.join(projectFolder, 'bin', 'platter')) && built >= sources;
  }
  return fresh;
}

function newest(folder: string): number {
  if (!fs.existsSync(folder)) return 0;
  let latest = 0;
  for (const entry of fs.readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) latest = Math.max(latest, fs.statSync(path.join(entry.parentPath, entry.name)).mtimeMs);
  }
  return latest;
}
