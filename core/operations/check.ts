// check: what is wrong with the structures of an image. It only looks.
import { ImageError } from '../errors/image-error.ts';
import type { CheckSummary, Finding } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';

export interface CheckParams {
  readonly path: string;
  /** Layers below are not opened whatever this says. */
  readonly options: OpenOptions;
  /** Findings listed at most; all are counted. */
  readonly limit: number;
}

export interface CheckResult {
  readonly format: string;
  /** Clusters (blocks) with wrong content of the structures, and such that nobody uses. */
  readonly corruptions: number;
  readonly leaks: number;
  /** Parts that could not be checked. */
  readonly errors: number;
  readonly summary: CheckSummary;
  readonly findings: readonly Finding[];
}

/**
 * Checks. `onFinding` hears of every finding as it is made. Throws what opening throws, and `check/unsupported` for a format that has
 * nothing to check.
 */
export function check(
  params: CheckParams,
  job: Job,
  onFinding: (finding: Finding) => void = () => {},
): Promise<CheckResult> {
  return Promise.resolve().then(() => checkNow(params, job, onFinding));
}

function checkNow(params: CheckParams, job: Job, onFinding: (finding: Finding) => void): CheckResult {
  const { node, driver } = openImage(params.path, { ...params.options, withBacking: false, forRepair: true });
  try {
    if (driver.check === undefined) throw new ImageError('check/unsupported', {}, { file: params.path });
    const counts = { corruption: 0, leak: 0, error: 0 };
    const findings: Finding[] = [];
    const steps = driver.check(node, job);
    for (;;) {
      const step = steps.next();
      if (step.done === true) {
        return {
          format: driver.id,
          corruptions: counts.corruption,
          leaks: counts.leak,
          errors: counts.error,
          summary: step.value,
          findings,
        };
      }
      counts[step.value.severity] += step.value.count;
      if (findings.length < params.limit) findings.push(step.value);
      onFinding(step.value);
    }
  } finally {
    node.close();
  }
}
