// Timing two programs in turn: wall time as a whole process, and the peak of resident memory.
import { spawn } from 'node:child_process';
import fs from 'node:fs';

export interface Run {
  /** Wall time of the whole process. */
  readonly seconds: number;
  /** Highest resident memory seen, in bytes; 0 where the system does not tell. */
  readonly peak: number;
}

/** A command line: program, arguments, further environment. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Comparison {
  /** Medians. */
  readonly ours: number;
  readonly theirs: number;
  /** Median of the ratios ours/theirs, pair by pair. */
  readonly ratio: number;
  readonly peak: number;
}

/** Runs a command to its end. Throws when it fails. */
export function run(command: Command): Promise<Run> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(command.program, command.args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...command.env },
    });
    let complaint = '';
    let peak = 0;
    child.stderr.on('data', (text: Buffer) => (complaint += text.toString()));
    const watch = setInterval(() => (peak = Math.max(peak, peakOf(child.pid))), 10);
    child.on('error', reject);
    child.on('close', (code) => {
      clearInterval(watch);
      const seconds = (performance.now() - started) / 1000;
      if (code === 0) resolve({ seconds, peak });
      else reject(new Error(`${command.program} ${command.args.join(' ')}: exit code ${code}\n${complaint}`));
    });
  });
}

/** High-water mark of a process's resident memory as Linux counts it. */
function peakOf(pid: number | undefined): number {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0; // it has ended, or there is no /proc
  }
}

/** Runs both in turn, `pairs` times after one warm-up; `between` tidies up before each run. */
export async function compare(ours: Command, theirs: Command, pairs: number, between: () => void): Promise<Comparison> {
  const ourRuns: Run[] = [];
  const theirRuns: Run[] = [];
  for (let pair = -1; pair < pairs; pair++) {
    between();
    const a = await run(ours);
    between();
    const b = await run(theirs);
    if (pair < 0) continue;
    ourRuns.push(a);
    theirRuns.push(b);
  }
  return {
    ours: median(ourRuns.map((r) => r.seconds)),
    theirs: median(theirRuns.map((r) => r.seconds)),
    ratio: median(ourRuns.map((r, i) => r.seconds / (theirRuns[i]?.seconds ?? NaN))),
    peak: Math.max(...ourRuns.map((r) => r.peak)),
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}
