// The job of a command: progress as a percentage or as JSON lines, an end on signals.
import { jobWithSignal, type Job, type Progress } from '../core/job.ts';
import type { Arguments } from './args.ts';
import { CommandError, err, flushOut, out } from './print.ts';

/** A `Job` that prints, and what belongs to it. */
export interface CommandJob {
  readonly job: Job;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** The exit code after a signal; null: none came. */
  exitCode(): number | null;
  /** Ends the progress line. `succeeded` brings it to 100 % first. Called once, when the work is over either way. */
  end(succeeded: boolean): void;
}

export interface JobOptions {
  /** `-p`. */
  readonly bar?: boolean;
  /** `--progress=json`. */
  readonly lines?: boolean;
  /** Percentage points between two prints of the bar. qemu-img: 1 for convert, 2 for compare. */
  readonly step?: number;
  /**
   * Signals cancel the job instead of ending the process, so that it can tidy up; a second one ends it at once. Only for work that
   * returns to the event loop now and then.
   */
  readonly tidies?: boolean;
}

const secondsBetweenLines = 0.05;

/** `--progress`: true for `json`. Throws when it says anything else. */
export function wantsLines(args: Arguments<'progress'>): boolean {
  const value = args.last('progress');
  if (value !== null && value !== 'json') throw new CommandError('--progress must be used with json as argument.');
  return value === 'json';
}

/** What takes back the listeners of jobs that are not over. */
const listening = new Set<() => void>();

function listenTo(signal: NodeJS.Signals, hear: () => void): () => void {
  const stop = (): void => {
    process.off(signal, hear);
    listening.delete(stop);
  };
  process.on(signal, hear);
  listening.add(stop);
  return stop;
}

/** No signal is listened to any more: the command is over, however it ended. Whoever runs many in one process asks for it after each. */
export function stopListening(): void {
  for (const stop of [...listening]) stop();
}

/** Starts the job of a command. */
export function startJob(options: JobOptions = {}): CommandJob {
  const controller = new AbortController();
  const started = performance.now();
  const step = options.step ?? 1;
  let latest: Progress = { phase: 'start', done: 0, total: 1 };
  let printed = -Infinity;
  let lastLine = { time: -Infinity, phase: '' };
  let asked = false;
  let exitCode: number | null = null;

  const showBar = (percent: number): void => {
    out(`    (${percent.toFixed(2)}/100%)\r`);
    flushOut();
    printed = percent;
  };
  const showLine = (now: number): void => {
    lastLine = { time: now, phase: latest.phase };
    const elapsed = (now - started) / 1000;
    const rate = elapsed > 0 ? latest.done / elapsed : 0;
    const eta = rate > 0 ? (latest.total - latest.done) / rate : null;
    err(
      `${JSON.stringify({
        phase: latest.phase,
        done: latest.done,
        total: latest.total,
        elapsed: round(elapsed),
        rate: Math.round(rate),
        eta: eta === null ? null : round(eta),
      })}\n`,
    );
  };
  const report = (progress: Progress): void => {
    const newPhase = progress.phase !== latest.phase;
    latest = progress;
    const percent = percentOf(progress);
    if (options.bar === true && (newPhase || percent >= printed + step || (percent === 100 && printed !== 100))) {
      showBar(percent);
    }
    if (options.lines === true) {
      const now = performance.now();
      const due = now - lastLine.time >= secondsBetweenLines * 1000;
      if (due || progress.phase !== lastLine.phase || progress.done === progress.total) showLine(now);
    }
    if (asked) {
      asked = false;
      if (options.bar !== true) err(`    (${percent.toFixed(2)}/100%)\n`);
    }
  };

  const own: (() => void)[] = [];
  if (options.tidies === true) {
    const stop = (signal: NodeJS.Signals, code: number): void => {
      const onStop = (): void => {
        if (exitCode !== null) process.exit(code);
        exitCode = code;
        controller.abort();
      };
      own.push(listenTo(signal, onStop));
    };
    stop('SIGINT', 130);
    stop('SIGTERM', 143);
    stop('SIGHUP', 129);
  }
  const onAsk = (): void => {
    asked = true;
    report(latest);
  };
  for (const signal of askSignals()) {
    own.push(listenTo(signal, onAsk));
  }
  if (options.bar === true) showBar(0);

  return {
    job: jobWithSignal(controller.signal, report),
    signal: controller.signal,
    exitCode: () => exitCode,
    end(succeeded) {
      for (const stop of own) stop();
      if (options.bar === true) {
        if (succeeded && printed !== 100) showBar(100);
        out('\n');
        flushOut();
      }
    },
  };
}

/** Signals that ask how far the work is. */
function askSignals(): NodeJS.Signals[] {
  if (process.platform === 'win32') return [];
  return process.platform === 'linux' ? ['SIGUSR1'] : ['SIGUSR1', 'SIGINFO'];
}

function percentOf({ done, total }: Progress): number {
  return total <= 0 ? 100 : Math.min(100, (100 * done) / total);
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
