// `npm test`: names what is missing, runs every suite, says why tests were skipped, and ends with one line of figures.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { missingPeers } from '../test/peer-packages.ts';
import type { Summary } from '../test/summary-reporter.ts';

const project = path.resolve(import.meta.dirname, '..');
const inCI = process.env.CI !== undefined && process.env.CI !== '' && process.env.CI !== 'false';
const long = process.argv.includes('--long');
const filters = process.argv.slice(2).filter((argument) => argument !== '--long');

/** Programs that end by themselves and, like vitest, leave their figures in the file PLATTER_SUMMARY. */
const suites: { name: string; args: string[] }[] = [
  { name: 'vitest', args: [path.join('node_modules', 'vitest', 'vitest.mjs'), 'run', ...filters] },
];

function reportMissingPeers(): void {
  const { names, packages } = missingPeers();
  if (names.length === 0) return;
  console.log(
    `Not installed: ${names.join(', ')}. Tests that need them are ${inCI ? 'failures' : 'skipped'}. On Debian:`,
  );
  console.log(`  apt-get install --no-install-recommends ${packages.join(' ')}`);
}

/** A current build, so that what is tested is what the sources say. */
function build(): boolean {
  const { status } = spawnSync(process.execPath, [path.join('scripts', 'build.ts')], {
    cwd: project,
    stdio: 'inherit',
  });
  if (status !== 0) console.log(`The build ended with ${status}.`);
  return status === 0;
}

function run(suite: { name: string; args: string[] }): Summary {
  const file = path.join(os.tmpdir(), `platter-summary-${process.pid}-${suite.name}.json`);
  const env = {
    ...process.env,
    PLATTER_SUMMARY: file,
    PLATTER_BUILT: total.failed === 0 ? '1' : '0',
    ...(long ? longMode : {}),
  };
  const { status, signal } = spawnSync(process.execPath, suite.args, { cwd: project, stdio: 'inherit', env });
  if (!fs.existsSync(file)) {
    console.log(`${suite.name} left no figures (exit ${status ?? signal}).`);
    return { passed: 0, failed: 1, skipped: 0, reasons: {}, retried: [] };
  }
  const summary = JSON.parse(fs.readFileSync(file, 'utf8')) as Summary;
  fs.rmSync(file);
  if (status !== 0 && summary.failed === 0) {
    console.log(`${suite.name} counts no failure and yet ended with ${status ?? signal}.`);
    summary.failed = 1;
  }
  return summary;
}

/** What the long mode multiplies; each suite names its own variable. */
const longMode = { PLATTER_LONG: '1', FUZZ_MUTANTS: process.env.FUZZ_MUTANTS ?? '20000' };

reportMissingPeers();
const total: Summary = { passed: 0, failed: build() ? 0 : 1, skipped: 0, reasons: {}, retried: [] };
for (const suite of suites) {
  const summary = run(suite);
  total.passed += summary.passed;
  total.failed += summary.failed;
  total.skipped += summary.skipped;
  total.retried.push(...summary.retried);
  for (const [reason, count] of Object.entries(summary.reasons)) {
    total.reasons[reason] = (total.reasons[reason] ?? 0) + count;
  }
}
for (const [reason, count] of Object.entries(total.reasons)) {
  console.log(`skipped ${count}: ${reason}`);
  if (inCI && reason.startsWith('peer ')) {
    console.log('  in CI the peers must be installed: this counts as failed');
    total.failed += count;
    total.skipped -= count;
  }
}
if (total.retried.length > 0) {
  console.log(`passed only when tried again: ${total.retried.length}`);
  for (const name of total.retried) console.log(`  ${name}`);
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
