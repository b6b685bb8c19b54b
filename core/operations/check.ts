// check: what is wrong with the structures of an image; with `repair`, puts right what can be put right and looks again.
import { ImageError } from '../errors/image-error.ts';
import type { CheckSummary, Finding, RepairCounts } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { changeInPlace } from './in-place.ts';

export interface CheckParams {
  readonly path: string;
  /** Layers below are not opened whatever this says. */
  readonly options: OpenOptions;
  /** Findings listed at most; all are counted. */
  readonly limit: number;
  /** Put right in place: what only wastes space, or everything; null: only look. */
  readonly repair: 'leaks' | 'all' | null;
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
  /** What a repair put right before this look; null: none was asked for. */
  readonly fixed: RepairCounts | null;
}

/**
 * Checks, after a repair if one is asked for. `onFinding` hears of every finding as it is made: those of the repair, and then, if it
 * changed anything, those of the look that follows. Throws what opening throws, `check/unsupported` for a format that has nothing to
 * check, `check/no-repair` for one that cannot be repaired here, and what `changeInPlace` throws.
 */
export async function check(
  params: CheckParams,
  job: Job,
  onFinding: (finding: Finding) => void = () => {},
): Promise<CheckResult> {
  if (params.repair === null) return checkNow(params, null, job, onFinding);
  const { fixed, told } = await repairNow(params, params.repair, job, onFinding);
  const changed = fixed.corruptions + fixed.leaks > 0;
  return checkNow(params, fixed, job, changed || !told ? onFinding : () => {});
}

/** Repairs in place; `told`: `onFinding` heard of what there is. */
async function repairNow(
  params: CheckParams,
  what: 'leaks' | 'all',
  job: Job,
  onFinding: (finding: Finding) => void,
): Promise<{ fixed: RepairCounts; told: boolean }> {
  const options = { ...params.options, withBacking: false, forRepair: true };
  const looked = openImage(params.path, options);
  const { driver } = looked;
  looked.node.close();
  if (driver.check === undefined) throw new ImageError('check/unsupported', {}, { file: params.path });
  if (driver.repair === undefined)
    throw new ImageError('check/no-repair', { format: driver.id }, { file: params.path });
  let told = false;
  const tell = (finding: Finding): void => {
    told = true;
    onFinding(finding);
  };
  const open = { ...options, format: driver.id };
  const fixed = await changeInPlace(params.path, { verb: 'check', open }, ({ node }) => {
    if (driver.repair === undefined) throw new Error(`${driver.id} has no repair`);
    return driver.repair(node, what, job, tell);
  });
  return { fixed, told };
}

function checkNow(
  params: CheckParams,
  fixed: RepairCounts | null,
  job: Job,
  onFinding: (finding: Finding) => void,
): CheckResult {
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
          fixed,
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
