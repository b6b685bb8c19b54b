// A convert that is ended from outside, at any moment: nothing half-made carries the final name, and an old file of that name stays whole.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, platterCommand, runQemuImg } from '../peers.ts';
import { positionCoded } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';

const MiB = 1024 * 1024;
const long = process.env.PLATTER_LONG === '1';

/** The others are handled by the process itself, always in the same way. */
function roundsOf(signal: NodeJS.Signals): number {
  if (!long) return 5;
  return signal === 'SIGKILL' ? Number(process.env.PLATTER_KILLS ?? 300) : 40;
}

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Starts a slow convert and sends `signal` after `delay` ms counted from the moment its partial output appears. */
async function convertAndSignal(cwd: string, signal: NodeJS.Signals, delay: number): Promise<Ended> {
  const [program, ...first] = platterCommand();
  const args = [...first, 'convert', '-O', 'qcow2', '-r', '40M', 'source.raw', 'out'];
  const child = spawn(program, args, { cwd, stdio: 'ignore' });
  const ended = new Promise<Ended>((resolve) => child.on('exit', (code, by) => resolve({ code, signal: by })));
  for (let waited = 0; child.exitCode === null && waited < 20_000 && partials(cwd).length === 0; waited += 5) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await new Promise((resolve) => setTimeout(resolve, delay));
  child.kill(signal);
  return ended;
}

const partials = (cwd: string): string[] => fs.readdirSync(cwd).filter((name) => name.includes('.partial-'));

describeWith({ peers: ['qemu-img'] }, 'a convert that is ended', () => {
  const folder = scratchFolder('killed');
  const old = positionCoded(0, 100_000, 3);

  beforeAll(() => {
    fs.writeFileSync(path.join(folder, 'source.raw'), positionCoded(0, 8 * MiB, 7));
  });

  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    it(`by ${signal} leaves no half-made target`, { timeout: 600_000 }, async () => {
      const random = new SeededRandom(chosenSeed(signal));
      let interrupted = 0;
      for (let round = 0; round < roundsOf(signal); round++) {
        const existing = round % 2 === 0;
        const out = path.join(folder, 'out');
        fs.rmSync(out, { force: true });
        for (const name of partials(folder)) fs.rmSync(path.join(folder, name));
        if (existing) fs.writeFileSync(out, old);
        const { code, signal: by } = await convertAndSignal(folder, signal, random.below(250));
        if (code === 0) {
          const same = runQemuImg(['compare', '-f', 'raw', '-F', 'qcow2', 'source.raw', 'out'], { cwd: folder });
          expect(same.status, same.stdout).toBe(0);
          continue;
        }
        interrupted++;
        expect(by ?? code, 'ended by the signal, or as a shell reports it').not.toBe(0);
        // The name may have been given in the last moment: then it must be the whole image.
        const content = fs.existsSync(out) ? fs.readFileSync(out) : null;
        if (content !== null && !(existing && content.equals(old))) {
          mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', 'source.raw', 'out'], { cwd: folder });
        }
        if (existing) expect(content).not.toBeNull();
        if (signal !== 'SIGKILL') expect(partials(folder), 'what was begun is taken away').toEqual([]);
      }
      expect(interrupted, 'no round was interrupted').toBeGreaterThan(0);
      if (long) console.log(`${signal}: convert ${interrupted}`);
    });
  }
});
