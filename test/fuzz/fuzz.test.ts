// Mutants of small images of each format: the only outcomes are an answer or an ImageError, within 2 s and 256 MiB.
// FUZZ_MUTANTS: how many per format. FUZZ_ONLY=format:number runs one of them alone.
import { fork } from 'node:child_process';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { FormatId } from '../../core/formats/format-id.ts';
import { allDrivers } from '../../core/formats/registry.ts';
import type { Order, Report } from './worker.ts';

const mutants = Number(process.env.FUZZ_MUTANTS ?? 2000);
const only = /^([a-z0-9]+):(\d+)$/.exec(process.env.FUZZ_ONLY ?? '');
/** Without a word for so long, the process hangs. Generous: it may share its processor. */
const silence = 60_000;

interface Outcome {
  readonly faults: readonly string[];
  readonly images: number;
  readonly fields: number;
  readonly peak: number;
  readonly last: number;
}

function runWorker(order: Order): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = fork(path.join(import.meta.dirname, 'worker.ts'), [], {
      execArgv: ['--max-old-space-size=160', '--expose-gc'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const faults: string[] = [];
    let outcome = { images: 0, fields: 0, peak: 0, last: order.first - 1 };
    let current = 'nothing begun';
    let stderr = '';
    let timer: NodeJS.Timeout | undefined;
    const watch = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        faults.push(`${current}: hangs`);
        child.kill('SIGKILL');
      }, silence);
    };
    child.stderr?.on('data', (piece: Buffer) => (stderr += piece.toString()));
    child.on('message', (message) => {
      watch();
      const report = message as Report;
      if (report.kind === 'images') outcome = { ...outcome, images: report.names.length, fields: report.fields };
      if (report.kind === 'done') outcome = { ...outcome, peak: report.peak };
      if (report.kind === 'begin') {
        current = `FUZZ_ONLY=${order.format}:${report.index} (${report.text})`;
        outcome = { ...outcome, last: report.index };
      }
      if (report.kind === 'fault')
        faults.push(`FUZZ_ONLY=${order.format}:${report.index} (${report.text}): ${report.what}`);
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      if (code !== 0 && signal !== 'SIGKILL')
        faults.push(`${current}: the process ended with ${code ?? signal}: ${stderr.slice(-2000)}`);
      resolve({ ...outcome, faults });
    });
    watch();
    child.send(order);
  });
}

/** Runs the whole range; a process that crashed or hung is started again behind the mutant that did it. */
async function runAll(format: FormatId, first: number, count: number): Promise<Outcome> {
  let all: Outcome = { faults: [], images: 0, fields: 0, peak: 0, last: first - 1 };
  while (all.last + 1 < first + count && all.faults.length < 10) {
    const next = await runWorker({ format, first: all.last + 1, count: first + count - all.last - 1 });
    all = { ...next, faults: [...all.faults, ...next.faults], peak: Math.max(all.peak, next.peak) };
    if (next.images === 0) break;
  }
  return all;
}

describe('mutants', () => {
  for (const { id } of allDrivers()) {
    if (only !== null && only[1] !== id) continue;
    it.concurrent(`of ${id} give an answer or an ImageError`, { timeout: 3_600_000 }, async () => {
      const [first, count] = only === null ? [0, mutants] : [Number(only[2]), 1];
      const { faults, images, fields, peak } = await runAll(id, first, count);
      console.log(
        `${id}: ${count} mutants of ${images} images (${fields} declared fields), peak ${Math.round(peak / 1048576)} MiB`,
      );
      expect(faults.join('\n\n')).toBe('');
      expect(images).toBeGreaterThan(0);
    });
  }
});
