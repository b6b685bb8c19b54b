// The process in whose copies the fault suites kill our command (`forking.ts`): started when it is first needed, one order at a time.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import type { Order, Outcome } from './forking.ts';

/** Null where runs can be killed in copies of a process; otherwise why not. */
export const cannotKill: string | null =
  process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch)
    ? null
    : 'runs are killed in copies of a process, which are made for Linux on x64 and arm64 only';

export class Copies {
  readonly #notes: string;
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcessWithoutNullStreams | null = null;
  #lines: AsyncIterator<string> | null = null;
  #errors = '';

  /** `notes`: an empty folder of its own. */
  constructor(notes: string, env: Readonly<Record<string, string>>) {
    this.#notes = notes;
    this.#env = env;
  }

  /** Rejects when the process itself is gone. */
  async run(order: Order): Promise<Outcome> {
    const { child, lines } = this.#start();
    child.stdin.write(`${JSON.stringify(order)}\n`);
    const line = await lines.next();
    if (line.done === true) throw new Error(`the process that makes copies has ended: ${this.#errors}`);
    return JSON.parse(line.value) as Outcome;
  }

  end(): void {
    this.#child?.stdin.end();
  }

  #start(): { child: ChildProcessWithoutNullStreams; lines: AsyncIterator<string> } {
    if (this.#child !== null && this.#lines !== null) return { child: this.#child, lines: this.#lines };
    // Threads of V8 would not be in the copies.
    const program = path.join(import.meta.dirname, 'forking.ts');
    const child = spawn(process.execPath, ['--single-threaded', program, this.#notes], {
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', NODE_OPTIONS: '', ...this.#env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stderr.on('data', (piece: Buffer) => (this.#errors += piece.toString()));
    child.stdin.on('error', () => {}); // told by the end of its lines
    const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.#child = child;
    this.#lines = lines;
    return { child, lines };
  }
}
