// commit: what an image holds itself goes into a layer below it; then the image is emptied, as everything it held is below.
import { copyGuest } from '../block/copy/copy.ts';
import { identityOfName } from '../block/host/opening.ts';
import { lend } from '../block/lent.ts';
import { isWritable, type BackingReference, type BlockNode, type WritableNode } from '../block/node.ts';
import { readRun, resolveOne } from '../block/read.ts';
import { writeGuest } from '../block/write.ts';
import { becauseOfPassphrase, ImageError } from '../errors/image-error.ts';
import type { FormatDriver } from '../formats/driver.ts';
import { resolveReference } from '../formats/gate.ts';
import { openedAgain, openImage, optionsBelow, type OpenOptions } from '../formats/open.ts';
import { driverNamed } from '../formats/registry.ts';
import type { Job } from '../job.ts';
import { wouldBecome } from './guessed-raw.ts';
import { changeInPlace, type InPlaceOptions } from './in-place.ts';

export interface CommitParams {
  readonly path: string;
  readonly options: OpenOptions;
  /** The layer to commit into: its name in the image above it, or its path; null: the one directly below. */
  readonly base: string | null;
  /** Leave in the image what it holds. Always so with `base`. */
  readonly keep: boolean;
  /** Bytes per second at most; 0: as fast as it goes. */
  readonly rate: number;
  readonly dependents?: InPlaceOptions['dependents'];
  readonly force?: boolean;
}

export interface CommitResult {
  /** The layer that was written. */
  readonly base: string;
  /** Bytes of data that were written into it, and bytes that became zeroes there. */
  readonly copied: number;
  readonly zeroed: number;
  /** The image was emptied; null: that was not asked for. False: its format cannot do that, and it still holds what it held. */
  readonly emptied: boolean | null;
}

/** One image of the chain, as the first look found it. */
interface Layer {
  readonly path: string;
  readonly format: string;
  readonly options: OpenOptions;
  readonly size: number;
  /** What it says of the layer below. */
  readonly backing: BackingReference | null;
  /** The format of the layer below, where the image or a description states one. */
  readonly formatBelow: string | null;
  /** The layer below is one that a description put there. */
  readonly described: boolean;
}

/**
 * Commits; `opened` hears of the image's format before anything is done. Order on the disk: 1 the base is grown to the size of the image if it is smaller, 2 links that know the base by its content's
 * identity are renewed, 3 the data is copied and lasts, 4 the image is emptied. Until 4 the image reads the same from what it holds. Layers
 * between the image and the base lose their meaning, as with qemu-img. Throws what opening throws, `in-place/*`, `commit/*`,
 * `request/cancelled`.
 */
export async function commit(
  params: CommitParams,
  job: Job,
  opened: (driver: FormatDriver) => void = () => {},
): Promise<CommitResult> {
  const layers = survey(params, opened);
  const depth = findBase(layers, params);
  const base = layers[depth];
  if (base === undefined) throw new ImageError('commit/no-backing', {}, { file: params.path });
  const { force } = params;
  const others = dependentsBeside(layers, params.dependents);
  let isOpen = false;
  let open: OpenOptions | null = null;
  try {
    open = openedAgain(base.options);
    return await changeInPlace(
      base.path,
      { verb: 'commit', open: { ...open, format: base.format }, dependents: others, force },
      (image) => {
        isOpen = true;
        return commitInto(image.node, layers.slice(0, depth), params, job);
      },
    );
  } catch (error) {
    open?.backing?.node?.close();
    if (isOpen || !(error instanceof ImageError) || error.code.startsWith('in-place/')) throw error;
    const detail = { name: base.path, reason: error.message, ...becauseOfPassphrase(error) };
    throw new ImageError('commit/open', detail, error.where, error);
  }
}

/** The chain, looked at read-only: who is to be opened how. */
function survey({ path, options }: CommitParams, opened: (driver: FormatDriver) => void): Layer[] {
  const { node, driver } = openImage(path, { ...options, writable: false });
  try {
    opened(driver);
    const layers: Layer[] = [];
    let layerOptions = options;
    let file = path;
    for (let layer: BlockNode | null = node; layer !== null; layer = layer.backing) {
      const { backing } = driverNamed(layer.format).facts(layer);
      const from: { readonly options: OpenOptions } | undefined = layerOptions.backing?.from;
      layers.push({
        path: file,
        format: layer.format,
        options: layerOptions,
        size: layer.size,
        backing,
        formatBelow: from === undefined ? (backing?.format ?? null) : (from.options.format ?? null),
        described: from !== undefined,
      });
      layerOptions = from?.options ?? optionsBelow(layerOptions);
      file = layer.backing?.name ?? '';
    }
    return layers;
  } finally {
    node.close();
  }
}

/** How many layers below the image the base is. Throws `commit/no-backing`, `commit/not-in-chain`. */
function findBase(layers: readonly Layer[], { base, path }: CommitParams): number {
  if (base !== null) {
    for (let depth = 1; depth < layers.length; depth++) {
      const above = layers[depth - 1];
      const layer = layers[depth];
      if (above === undefined || layer === undefined) continue;
      if (above.backing?.path === base || isSamePath(above.path, base, layer.path)) return depth;
    }
    throw new ImageError('commit/not-in-chain', { base, name: path }, { file: path });
  }
  if (layers.length < 2) throw new ImageError('commit/no-backing', {}, { file: path });
  return 1;
}

/** Is `name`, seen from the image `from`, the file `path`? */
function isSamePath(from: string, name: string, path: string): boolean {
  try {
    return fileOf(resolveReference(from, name)) === fileOf(path);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return false; // a name with a protocol is no file
  }
}

/** Images other than those of the chain that read through one. */
function dependentsBeside(
  layers: readonly Layer[],
  dependents: InPlaceOptions['dependents'],
): InPlaceOptions['dependents'] {
  if (dependents === undefined) return undefined;
  const own = new Set(layers.map(({ path }) => fileOf(path)));
  return (path) => dependents(path).filter((other) => !own.has(fileOf(other)));
}

/** Equal for two names of one file; the name itself where nothing is. */
function fileOf(path: string): string {
  return identityOfName(path) ?? path;
}

/** `upper`: the image and the layers between it and the base, which is open. */
async function commitInto(
  base: WritableNode,
  upper: readonly Layer[],
  params: CommitParams,
  job: Job,
): Promise<CommitResult> {
  const drops = params.keep || params.base !== null;
  const relinks = base.identityFollowsContent === true;
  // A link is renewed by the name in the image; a description may mean another file.
  if (relinks && upper.some(({ described }) => described)) {
    throw new ImageError('commit/described', {}, { file: params.path });
  }
  const chain: BlockNode[] = [];
  /** Opens the layer over `below`, and those above it; then does the work. */
  const climb = async (depth: number, below: BlockNode): Promise<CommitResult> => {
    const layer = upper[depth];
    if (layer === undefined) throw new Error('a commit without an image');
    const open = { ...layer.options, format: layer.format, backing: { node: below } };
    const isTop = depth === 0;
    const go = async (node: BlockNode): Promise<CommitResult> => {
      chain.push(node);
      if (!isTop) return await climb(depth - 1, lend(node));
      return { ...(await copyDown(base, node, upper, chain, params, job)), emptied: null };
    };
    if (!relinks && (drops || !isTop)) {
      const { node } = openImage(layer.path, { ...open, writable: false });
      try {
        return await go(node);
      } finally {
        node.close();
      }
    }
    const { dependents, force } = params;
    const others = isTop ? dependents : undefined;
    return await changeInPlace(layer.path, { verb: 'commit', open, dependents: others, force }, async ({ node }) => {
      const done = await go(node);
      return isTop && !drops ? { ...done, emptied: empty(node, job) } : done;
    });
  };
  return await climb(upper.length - 1, lend(base));
}

/** `chain`: the open layers above the base, the lowest first. */
async function copyDown(
  base: WritableNode,
  top: BlockNode,
  upper: readonly Layer[],
  chain: readonly BlockNode[],
  params: CommitParams,
  job: Job,
): Promise<Omit<CommitResult, 'emptied'>> {
  const depth = upper.length;
  job.throwIfCancelled();
  if (base.size < top.size) {
    tell('commit/grow', base.name, () => {
      base.resize(top.size);
      base.flush();
    });
  }
  if (base.format === 'raw' && (upper.at(-1)?.formatBelow ?? null) === null) {
    const found = wouldBecome(base, [{ source: top, start: 0 }]);
    if (found !== null) throw new ImageError('commit/would-change-format', { found }, { file: base.name });
  }
  if (base.identityFollowsContent === true) renewLinks(base, upper, chain);
  try {
    const counts = await copyGuest(
      {
        parts: [{ source: top, start: 0, length: top.size }],
        target: base,
        targetIsZero: false,
        targetBacking: 0,
        // What comes from the base, or from below it, is there.
        leaves: (run) => run.depth >= depth,
        sparse: 4096,
        packed: false,
        offload: false,
        depth: 8,
        outOfOrder: false,
        rate: params.rate,
        salvage: null,
      },
      job,
    );
    base.flush();
    return { base: base.name, copied: counts.data, zeroed: counts.zeroes };
  } catch (error) {
    if (!(error instanceof ImageError) || error.code === 'request/cancelled') throw error;
    const reason = String(error.facts.reason ?? error.message);
    throw new ImageError('commit/copy', { reason }, error.where, error);
  }
}

/**
 * The base gets its new identity before any of its bytes change, and the layers above learn of it one after the other: from then on the
 * chain opens whatever happens.
 */
function renewLinks(base: WritableNode, upper: readonly Layer[], chain: readonly BlockNode[]): void {
  touch(base);
  base.flush();
  chain.forEach((node, index) => {
    const layer = upper[upper.length - 1 - index];
    if (layer === undefined || layer.backing === null || !isWritable(node)) return;
    const { backing } = layer;
    tell('commit/link', layer.path, () => {
      node.setBacking(backing);
      node.flush();
    });
  });
}

/** A write that changes no byte of the disk, but says that it was written. */
function touch(base: WritableNode): void {
  if (base.size === 0) return;
  const run = resolveOne(base, { start: 0, length: base.size });
  if (run.mapping.kind === 'zero' && base.zero({ start: 0, length: run.length }, true) !== null) return;
  const bytes = new Uint8Array(Math.min(512, run.length));
  readRun(run, bytes);
  writeGuest(base, bytes, 0);
}

/** Gives all that the image holds back to the layer below. False: some of it stays. */
function empty(node: WritableNode, job: Job): boolean {
  return tell('commit/empty', node.name, () => {
    if (node.empty !== undefined) return node.empty();
    let whole = true;
    const { size } = node;
    const unit = Math.max(512, node.granularity);
    for (let at = 0; at < size;) {
      job.throwIfCancelled();
      const done = node.release({ start: at, length: size - at });
      if (done !== null && done.length > 0) at += done.length;
      else {
        whole = false;
        at = Math.min(size, at - (at % unit) + unit);
      }
    }
    node.flush();
    return whole;
  });
}

function tell<Result>(
  code: 'commit/grow' | 'commit/link' | 'commit/empty',
  name: string,
  action: () => Result,
): Result {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof ImageError) || error.code === 'request/cancelled') throw error;
    throw new ImageError(code, { name, reason: error.message }, error.where, error);
  }
}
