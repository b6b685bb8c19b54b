// compact: gives back the space that an image takes in vain, in place where the format can, otherwise by writing it anew.
import type { BlockNode, WritableNode } from '../block/node.ts';
import { ImageError } from '../errors/image-error.ts';
import type { CompactPlan, CompactWay } from '../formats/compact-driver.ts';
import type { FormatDriver } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import { UnusedSpace, type FileSystemUse } from '../guest/unused-space.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';
import { scan, type ScanResult } from './compact-scan.ts';
import { convert } from './convert.ts';
import { changeInPlace, type InPlaceOptions } from './in-place.ts';

export interface CompactParams {
  readonly path: string;
  readonly options: OpenOptions;
  /** Touch nothing: only say what each step would give. */
  readonly estimate: boolean;
  /** Give back also what the guest's file systems mark free. */
  readonly zeroUnused: boolean;
  /** Write the image anew even where it can be compacted in place. */
  readonly rewrite: boolean;
  readonly dependents?: InPlaceOptions['dependents'];
  readonly force?: boolean | undefined;
}

/** Bytes of all files of the image: their length, and what the host has set aside for them. */
export interface FileFigures {
  readonly length: number;
  readonly allocated: number;
}

/** What will be done, known before anything is. Bytes. */
export interface CompactEstimate {
  readonly format: string;
  readonly way: CompactWay;
  /** Why it is not done in place, as the rest of a sentence; null: it is. */
  readonly reason: string | null;
  readonly before: FileFigures;
  readonly steps: {
    /** Units that hold only zeroes. */
    readonly zero: number;
    /** Zeroes within units that stay, made holes of the file. */
    readonly zeroHoles: number;
    /** Units of which the guest uses nothing; and parts of units that stay. Null: not asked for. */
    readonly unused: number | null;
    readonly unusedHoles: number | null;
    /** Clusters that nothing refers to, by their own count. */
    readonly leaked: number;
    /** Other room in the file that nothing uses. */
    readonly free: number;
  };
  /** About how long the file will be. */
  readonly length: number;
  /** What stands on the disk, where that was asked. */
  readonly fileSystems: readonly FileSystemUse[];
}

export interface CompactResult extends CompactEstimate {
  /** Null: nothing was done. */
  readonly after: FileFigures | null;
}

/**
 * Compacts. `onEstimate` hears what will be done before anything is. Throws what opening and checking throw, `compact/impossible`,
 * `compact/rewrite`, `compact/damaged`, `compact/content`, `in-place/*`, the format's codes.
 */
export async function compact(
  params: CompactParams,
  job: Job,
  onEstimate: (estimate: CompactEstimate) => void = () => {},
): Promise<CompactResult> {
  const leaks = await checkBefore(params, job);
  const looked = openImage(params.path, { ...params.options, writable: false });
  let found: Found;
  try {
    found = await look(params, looked.node, looked.driver, leaks, job);
  } finally {
    looked.node.close();
  }
  onEstimate(found.estimate);
  if (params.estimate) return { ...found.estimate, after: null };
  const format = found.estimate.format;
  const stated = { ...params, options: { ...params.options, format } };
  if (found.estimate.way === 'rewrite') await rewrite(stated, found, job);
  else await inPlace(stated, job);
  return { ...found.estimate, after: figuresOf(stated) };
}

interface Found {
  readonly estimate: CompactEstimate;
  readonly plan: CompactPlan;
  readonly scanned: ScanResult;
  readonly backing: { readonly path: string; readonly format: string | null } | null;
  /** Others may know the image by ids, which a new one keeps. */
  readonly keepIdentity: boolean;
}

/** A finding about the layer below. */
const isOfParent = (code: string): boolean => /^\w+\/parent-/.test(code);

/** Refuses an image with errors; bytes in leaked clusters come back. */
async function checkBefore(params: CompactParams, job: Job): Promise<number> {
  const options = { ...params.options, writable: false, withBacking: false, forRepair: true };
  const { node, driver } = openImage(params.path, options);
  const breathe = breather();
  try {
    let errors = 0;
    let leaks = 0;
    for (const { code, severity, count } of driver.check?.(node, job) ?? []) {
      // A parent that is not found is told when the image is opened with it.
      if (severity === 'corruption' && !isOfParent(code)) errors += count;
      if (severity === 'leak') leaks += count;
      await breathe();
    }
    if (errors > 0) throw new ImageError('compact/damaged', { count: errors }, { file: params.path });
    return driver.id === 'qcow2' ? leaks * (driver.facts(node).clusterSize ?? 0) : 0;
  } finally {
    node.close();
  }
}

async function look(
  params: CompactParams,
  node: BlockNode,
  driver: FormatDriver,
  leaked: number,
  job: Job,
): Promise<Found> {
  const where = { file: params.path };
  const plan = planFor(params, node, driver);
  if (params.zeroUnused && plan.way === 'moves' && plan.keepsContent !== null) {
    throw new ImageError('compact/content', { reason: plan.keepsContent }, where);
  }
  const { compact: giving } = driver;
  if (giving === undefined) throw new ImageError('compact/impossible', { reason: 'the format cannot' }, where);
  const unused = params.zeroUnused ? UnusedSpace.of(node, job) : null;
  const scanned = await scan({ node, change: null, plan, driver: giving, unused }, job);
  const before = figures(node);
  const free = plan.way === 'holes' ? 0 : Math.max(0, lostRoom(node, driver, plan.unit, job) - leaked);
  const gone = scanned.zeroUnits + scanned.unusedUnits + leaked + free;
  const estimate: CompactEstimate = {
    format: driver.id,
    way: plan.way,
    reason: plan.reason,
    before,
    steps: {
      zero: scanned.zeroUnits,
      zeroHoles: scanned.zeroHoles,
      unused: unused === null ? null : scanned.unusedUnits,
      unusedHoles: unused === null ? null : scanned.unusedHoles,
      leaked,
      free,
    },
    length: plan.way === 'holes' ? before.length : Math.max(0, before.length - gone),
    fileSystems: unused?.fileSystems ?? [],
  };
  return { estimate, plan, scanned, backing: driver.facts(node).backing, keepIdentity: driver.identity !== undefined };
}

/** Throws `compact/impossible`, `compact/rewrite`. */
function planFor(params: CompactParams, node: BlockNode, driver: FormatDriver): CompactPlan {
  const where = { file: params.path };
  const plan = driver.compact?.plan(node);
  if (plan === undefined) throw new ImageError('compact/impossible', { reason: 'the format cannot' }, where);
  if (plan.way === 'none') throw new ImageError('compact/impossible', { reason: plan.reason ?? '' }, where);
  if (!params.rewrite && plan.way !== 'rewrite') return plan;
  if ('refused' in plan.rewrite) throw new ImageError('compact/rewrite', { reason: plan.rewrite.refused }, where);
  const reason = params.rewrite ? 'that was asked for' : plan.reason;
  return { ...plan, way: 'rewrite', hole: 0, reason };
}

/** Room of at least a unit that the file has and nothing uses. */
function lostRoom(node: BlockNode, driver: FormatDriver, unit: number, job: Job): number {
  let lost = 0;
  let seen = 0;
  for (const { role } of node.files) {
    for (const { kind, length } of driver.regions(node, role)) {
      if (seen++ % 4096 === 0) job.throwIfCancelled();
      if (kind === 'lost') lost += length - (length % unit);
    }
  }
  return lost;
}

async function inPlace(params: CompactParams, job: Job): Promise<void> {
  const { dependents, force, options } = params;
  // A journal that is kept would hold what was given back.
  const open: OpenOptions = { ...options, undo: options.undo ?? 'rollback' };
  await changeInPlace(params.path, { verb: 'compact', open, dependents, force }, async ({ node, driver }) => {
    const unused = params.zeroUnused ? UnusedSpace.of(node, job) : null;
    await compactNode(node, driver, unused, job);
  });
}

/** Compacts an open image in place; `unused` null: every byte counts as used. Throws as `compact`. */
export async function compactNode(
  node: WritableNode,
  driver: FormatDriver,
  unused: UnusedSpace | null,
  job: Job,
): Promise<void> {
  const giving = driver.compact;
  if (giving === undefined)
    throw new ImageError('compact/impossible', { reason: 'the format cannot' }, { file: node.name });
  const plan = giving.plan(node);
  giving.begin?.(node, unused !== null);
  await scan({ node, change: node, plan, driver: giving, unused }, job);
  node.flush();
  if (plan.way !== 'moves') return;
  const breathe = breather();
  for (const { done, total } of giving.settle?.(node, job) ?? []) {
    job.progress({ phase: 'move', done, total });
    await breathe();
  }
}

/** A new file that takes the place of the old one when it is complete and was read back. */
async function rewrite(
  params: CompactParams,
  { plan, scanned, backing, keepIdentity }: Found,
  job: Job,
): Promise<void> {
  if ('refused' in plan.rewrite) throw new Error('a rewrite that was refused goes on');
  const { path, options } = params;
  const format = options.format ?? '';
  await convert(
    {
      // The target's lock on the file is the one that keeps others away meanwhile.
      sources: [{ path, options: { ...options, writable: false, share: true }, withoutUnused: params.zeroUnused }],
      snapshot: null,
      target: path,
      format,
      options: plan.rewrite.options,
      backing,
      existing: null,
      targetIsZero: false,
      compress: scanned.packed,
      offload: false,
      sparse: 4096,
      cache: options.cache,
      depth: 8,
      outOfOrder: false,
      rate: 0,
      salvage: false,
      verify: true,
      keepIdentity,
      policy: options.policy,
      secret: options.secret,
    },
    job,
  );
}

function figures(node: BlockNode): FileFigures {
  const storages = node.files.map(({ storage }) => storage);
  return {
    length: storages.reduce((sum, { size }) => sum + size, 0),
    allocated: storages.reduce((sum, storage) => sum + storage.allocated(), 0),
  };
}

function figuresOf({ path, options }: CompactParams): FileFigures {
  const { node } = openImage(path, { ...options, writable: false, guestData: false });
  try {
    return figures(node);
  } finally {
    node.close();
  }
}
