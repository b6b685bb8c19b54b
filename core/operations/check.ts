// check: what is wrong with the structures of an image; with `repair`, puts right what can be put right and looks again.
import { removeFiles } from '../block/file-copy.ts';
import { ImageError } from '../errors/image-error.ts';
import type { WritableNode } from '../block/node.ts';
import type { CheckSummary, Finding, FormatDriver, RepairCounts } from '../formats/driver.ts';
import { resolveReference } from '../formats/gate.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { cloneImage } from './clone.ts';
import { changeInPlace } from './in-place.ts';

export interface CheckParams {
  readonly path: string;
  /** Layers below are not opened whatever this says. */
  readonly options: OpenOptions;
  /** Findings listed at most; all are counted. */
  readonly limit: number;
  /** Put right in place: what only wastes space, or everything; null: only look. */
  readonly repair: 'leaks' | 'all' | null;
  /** Leave the image alone: make a copy here, and repair (`all` unless `repair` says otherwise) that one. */
  readonly onCopy?: string | null;
  /** With a repair: where the layer below is not the one that the image remembers, make it remember what is there. */
  readonly relink?: boolean;
}

/** What was found before a repair. */
export interface CheckCounts {
  readonly corruptions: number;
  readonly leaks: number;
  readonly errors: number;
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
  /** The copy that was repaired in the place of the image; absent: the image itself. */
  readonly copy?: {
    readonly files: readonly string[];
    /** Bytes that were copied; 0: all blocks are shared with the original. */
    readonly copied: number;
    /** What the original has; null: the check of it came to no end. */
    readonly before: CheckCounts | null;
  };
}

/**
 * Checks, after a repair if one is asked for. `onFinding` hears of every finding as it is made: those of the repair, and then, if it
 * changed anything, those of the look that follows. Throws what opening throws, `check/unsupported` for a format that has nothing to
 * check, `check/no-repair` for one that cannot be repaired here, what `cloneImage` throws, and what `changeInPlace` throws.
 */
export async function check(
  params: CheckParams,
  job: Job,
  onFinding: (finding: Finding) => void = () => {},
): Promise<CheckResult> {
  if (params.onCopy !== undefined && params.onCopy !== null) return checkCopy(params, params.onCopy, job, onFinding);
  if (params.repair === null) return checkNow(params, null, job, onFinding);
  const { fixed, told } = await repairNow(params, params.repair, job, onFinding);
  const changed = fixed.corruptions + fixed.leaks > 0;
  return checkNow(params, fixed, job, changed || !told ? onFinding : () => {});
}

/** The original is only read; on an error the copy is gone. */
async function checkCopy(
  params: CheckParams,
  copy: string,
  job: Job,
  onFinding: (finding: Finding) => void,
): Promise<CheckResult> {
  const { path, options, repair } = params;
  const before = countsOf(params, job);
  const { files, copied } = cloneImage(path, options, copy, job);
  try {
    const onIt = { ...options, undo: 'none' as const };
    const repaired = { ...params, path: copy, options: onIt, repair: repair ?? ('all' as const), onCopy: null };
    return { ...(await check(repaired, job, onFinding)), copy: { files, copied, before } };
  } catch (error) {
    removeFiles(files);
    throw error;
  }
}

function countsOf(params: CheckParams, job: Job): CheckCounts | null {
  try {
    const { corruptions, leaks, errors } = checkNow(params, null, job, () => {});
    return { corruptions, leaks, errors };
  } catch (error) {
    if (error instanceof ImageError && error.code === 'qcow2/check-failed') return null;
    throw error;
  }
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
  if (params.relink !== true) return { fixed, told };
  const sound = { ...open, forRepair: false };
  const relinked = await changeInPlace(params.path, { verb: 'check', open: sound, description: 'relink' }, ({ node }) =>
    relink(params.path, node, driver, options),
  );
  return { fixed: { ...fixed, corruptions: fixed.corruptions + relinked }, told };
}

/**
 * Makes the image remember the layer that its reference leads to by now, if that is another one (or another state of it) than it was
 * made over: 1 if so. The content of that layer is not looked at. Throws `check/relink-none`, what opening the layer throws.
 */
function relink(file: string, node: WritableNode, driver: FormatDriver, options: OpenOptions): number {
  const { backing } = driver.facts(node);
  const expected = driver.kinship?.(node).expected ?? [];
  if (backing === null || expected.length === 0) throw new ImageError('check/relink-none', {}, { file });
  const { policy } = options;
  const below = openImage(resolveReference(file, backing.path), {
    format: backing.format,
    withBacking: false,
    guestData: false,
    ...(policy === undefined ? {} : { policy }),
  });
  try {
    const own = below.driver.kinship?.(below.node).own ?? null;
    const same = expected.some(
      ({ id, version }) => id === own?.id && (version === null || own.version === null || version === own.version),
    );
    if (same) return 0;
  } finally {
    below.node.close();
  }
  node.setBacking(backing);
  return 1;
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
