// Runs our command in copies of this process (fork), which end by themselves or by SIGKILL at a chosen change: a start costs milliseconds.
// Started as a program of its own. Each line of stdin is an `Order`, each line of stdout an `Outcome`.
import fs from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';
import { commands } from '../../cli/commands.ts';
import { program } from '../../cli/program.ts';
import { host } from '../../core/block/host/host.ts';
import { watchChanges, type Moment } from './kill-at.ts';

export interface Order {
  readonly argv: readonly string[];
  /** The current folder of the run; changes below it count. */
  readonly folder: string;
  /** The change at which it is killed, from 1; null: it is not. `rehearse`: the run is made by this process itself, whose copies then know the way. */
  readonly at: number | null | 'rehearse';
  readonly when: Moment;
}

export interface Outcome {
  /** Null: it was killed. */
  readonly status: number | null;
  /** Changes that it made; 0 when it was killed, or rehearsed. */
  readonly changes: number;
  /** What it said on stdout and stderr. */
  readonly said: string;
}

const c = koffi.load(null);
const fork = c.func('int fork()') as () => number;
const waitpid = c.func('int waitpid(int pid, void *status, int options)') as (
  pid: number,
  status: Buffer,
  options: number,
) => number;
const getpid = c.func('int getpid()') as () => number;
const kill = c.func('int kill(int pid, int signal)') as (pid: number, signal: number) => number;
const exitNow = c.func('void _exit(int status)') as (status: number) => void;
const dup = c.func('int dup(int descriptor)') as (descriptor: number) => number;
const dup2 = c.func('int dup2(int from, int to)') as (from: number, to: number) => number;
const madvise = c.func('int madvise(uintptr_t from, size_t length, int advice)') as (
  from: bigint,
  length: bigint,
  advice: number,
) => number;
koffi.struct('sock_fprog', { len: 'uint16_t', filter: 'void *' });
const setFilter = c.func('int prctl(int option, unsigned long mode, sock_fprog *filter)') as (
  option: number,
  mode: number,
  filter: { len: number; filter: Buffer },
) => number;
const noNewPrivileges = c.func(
  'int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)',
) as (...numbers: number[]) => number;
const SIGKILL = 9;
const MADV_DONTFORK = 10;
const MADV_DOFORK = 11;
const PR_SET_SECCOMP = 22;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ERRNO = 0x0005_0000;
const SECCOMP_RET_ALLOW = 0x7fff_0000;

function die(): never {
  kill(getpid(), SIGKILL);
  for (;;); // the signal comes when it comes
}

/** In the copy. Nothing of the one it was copied from may run here: it ends without the event loop's leave. */
async function runInCopy({ argv, folder, at, when }: Order): Promise<never> {
  const { writeFileSync } = fs;
  const changes = watchChanges({ folder, at: typeof at === 'number' ? at : Infinity, when, die });
  const status = await program(argv);
  writeFileSync(path.join(notes, 'changes'), String(changes()));
  exitNow(status);
  return die();
}

/**
 * V8 keeps its memory from copies of the process (MADV_DONTFORK). What it has is shared from now on, and what it asks for later too: the
 * kernel answers those calls without doing anything.
 */
function shareMemory(): void {
  const number = { x64: 28, arm64: 233 }[process.arch as string];
  if (number === undefined) throw new Error(`the number of madvise on ${process.arch} is not known`);
  // struct sock_filter: code, jump if true, jump if false, operand. Loads the number of the call, then the lower half of its third argument.
  const filter = Buffer.alloc(6 * 8);
  const rows: [number, number, number, number][] = [
    [0x20, 0, 0, 0],
    [0x15, 0, 3, number],
    [0x20, 0, 0, 32],
    [0x15, 0, 1, MADV_DONTFORK],
    [0x06, 0, 0, SECCOMP_RET_ERRNO],
    [0x06, 0, 0, SECCOMP_RET_ALLOW],
  ];
  for (const [i, [code, yes, no, operand]] of rows.entries()) {
    filter.writeUInt16LE(code, i * 8);
    filter.writeUInt8(yes, i * 8 + 2);
    filter.writeUInt8(no, i * 8 + 3);
    filter.writeUInt32LE(operand, i * 8 + 4);
  }
  if (noNewPrivileges(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) throw new Error('no_new_privs is refused');
  if (setFilter(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, { len: rows.length, filter }) !== 0) {
    throw new Error('a seccomp filter is refused');
  }
  for (const stretch of fs.readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(stretch) ?? [];
    if (from === undefined || to === undefined || !/^VmFlags:.* dc\b/m.test(stretch)) continue;
    const start = BigInt(`0x${from}`);
    if (madvise(start, BigInt(`0x${to}`) - start, MADV_DOFORK) !== 0) throw new Error('madvise is refused');
  }
}

/** Null: it was killed, as ordered. Any other signal is a fault of this file. */
function statusOf(pid: number): number | null {
  const word = Buffer.alloc(4);
  while (waitpid(pid, word, 0) !== pid);
  const signal = word.readInt32LE(0) & 0x7f;
  if (signal !== 0 && signal !== SIGKILL) throw new Error(`a copy was ended by signal ${signal}`);
  return signal === 0 ? (word.readInt32LE(0) >> 8) & 0xff : null;
}

function readLine(): string | null {
  const byte = Buffer.alloc(1);
  const line: number[] = [];
  while (fs.readSync(0, byte, 0, 1, null) === 1) {
    if (byte[0] === 10) return Buffer.from(line).toString();
    line.push(byte[0] ?? 0);
  }
  return null;
}

const [notes = ''] = process.argv.slice(2);
const answers = dup(1);
const complaints = dup(2);
process.on('uncaughtException', ({ stack }) => {
  fs.writeSync(complaints, `${stack}\n`);
  exitNow(1);
});
const said = fs.openSync(path.join(notes, 'said'), 'a');
dup2(said, 1);
dup2(said, 2);
shareMemory();
for (const command of commands) await command.load();
host();
for (let line = readLine(); line !== null; line = readLine()) {
  const order = JSON.parse(line) as Order;
  fs.ftruncateSync(said, 0);
  fs.writeFileSync(path.join(notes, 'changes'), '0');
  process.chdir(order.folder);
  let status: number | null;
  if (order.at === 'rehearse') status = await program(order.argv);
  else {
    const pid = fork();
    if (pid === 0) await runInCopy(order);
    if (pid < 0) throw new Error('fork failed');
    status = statusOf(pid);
  }
  process.chdir('/');
  const outcome: Outcome = {
    status,
    changes: Number(fs.readFileSync(path.join(notes, 'changes'), 'utf8')),
    said: fs.readFileSync(path.join(notes, 'said'), 'utf8'),
  };
  fs.writeSync(answers, `${JSON.stringify(outcome)}\n`);
}
