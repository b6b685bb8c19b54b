// Counts tests for scripts/test.ts, and collects why tests were skipped; written as JSON to the file that PLATTER_SUMMARY names.
import fs from 'node:fs';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** The figures of one suite. `reasons`: skipped tests by reason. */
export interface Summary {
  passed: number;
  failed: number;
  skipped: number;
  reasons: Record<string, number>;
  /** Names of tests that failed first and passed when they were tried again. */
  retried: string[];
}

/** The reason in the title of a test or of a suite around it, or the note it was skipped with. */
function reasonOf(test: TestCase): string {
  const result = test.result();
  const note = result.state === 'skipped' ? result.note : undefined;
  if (note !== undefined && note !== '') return note;
  const match = /\(skipped: (.*?)\)(?: > |$)/.exec(test.fullName);
  return match?.[1] ?? `no reason given: ${test.fullName}`;
}

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const summary: Summary = { passed: 0, failed: errors.length, skipped: 0, reasons: {}, retried: [] };
    for (const module of modules) {
      // A file that cannot be loaded has no tests to fail.
      if (module.state() === 'failed' && [...module.children.allTests('failed')].length === 0) summary.failed++;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') {
          summary.passed++;
          if ((test.diagnostic()?.retryCount ?? 0) > 0)
            summary.retried.push(`${module.relativeModuleId} > ${test.fullName}`);
        } else if (state === 'skipped') {
          summary.skipped++;
          const reason = reasonOf(test);
          summary.reasons[reason] = (summary.reasons[reason] ?? 0) + 1;
        } else summary.failed++;
      }
    }
    const file = process.env.PLATTER_SUMMARY;
    if (file !== undefined) fs.writeFileSync(file, JSON.stringify(summary));
  }
}
