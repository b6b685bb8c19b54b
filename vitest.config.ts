// Tests run on the TypeScript sources; long ones raise their own limits.
import os from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: os.availableParallelism(),
    testTimeout: 60_000,
    maxConcurrency: os.availableParallelism() + 1,
    hookTimeout: 120_000,
    // A machine that does other work too is slow to answer; what has come is never waited for.
    expect: { poll: { timeout: 30_000 } },
    reporters: ['default', './test/summary-reporter.ts'],
  },
});
