// rebase: another layer below an image, or none; what the guest sees stays the same, unless it is told not to look.
import { copyGuest } from '../block/copy/copy.ts';
import type { SecretSource } from '../block/crypto/secret.ts';
import type { CacheMode } from '../block/file.ts';
import type { BackingReference, BlockNode, WritableNode } from '../block/node.ts';
import { becauseOfPassphrase, ImageError } from '../errors/image-error.ts';
import type { FormatDriver } from '../formats/driver.ts';
import { followFiles, requireAllowed, resolveReference } from '../formats/gate.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import { isFormatName } from '../formats/registry.ts';
import type { Job } from '../job.ts';
import { isOwn, keepDifferences } from './differences.ts';
import { changeInPlace, type InPlaceOptions, type WritableImage } from './in-place.ts';

export interface RebaseParams {
  readonly path: string;
  readonly options: OpenOptions;
  /** The new layer below, as the image will record it; null: none. */
  readonly backing: BackingReference | null;
  /** Change the link only; what the guest sees changes if the layers differ. */
  readonly unsafe: boolean;
  /** Store compressed what is copied. */
  readonly compress: boolean;
  /** Store zeroes of the old layer as bytes where the new one has others, as qemu-img does; otherwise they are marked where that is possible. */
  readonly storeZeroes?: boolean;
  /** How the new layer is opened. */
  readonly base: { readonly cache?: CacheMode | undefined; readonly share?: boolean; readonly secret?: SecretSource };
  readonly dependents?: InPlaceOptions['dependents'];
  readonly force?: boolean;
}

export interface RebaseResult {
  /** Bytes of the disk that the image holds itself now, as they differ in the new layer; zeroes among them. */
  readonly copied: number;
}

/**
 * Rebases; `opened` hears of the image's format before anything is done. Order on the disk: 1 what differs between the layers is copied into the image, 2 that lasts, 3 the link changes. A crash or an
 * error before 3 leaves an image that reads the same through the old layer. Throws what opening throws, `in-place/*`, `rebase/*`,
 * `convert/no-compression`, `gate/loop` for a layer that itself reads through the image, `request/cancelled`.
 */
export function rebase(
  params: RebaseParams,
  job: Job,
  opened: (driver: FormatDriver) => void = () => {},
): Promise<RebaseResult> {
  const { unsafe, dependents, force, backing } = params;
  const open = unsafe ? { ...params.options, withBacking: false } : params.options;
  return changeInPlace(params.path, { verb: 'rebase', open, dependents, force }, async (image) => {
    opened(image.driver);
    const format = backing?.format ?? null;
    if (format !== null && !isFormatName(format)) throw new ImageError('rebase/format-name', { name: format });
    const copied = unsafe ? (refuse(image, backing), 0) : await copyInto(image, params, job);
    relink(image, backing);
    return { copied };
  });
}

/** What can be told before anything is touched. */
function refuse({ driver, path }: WritableImage, backing: BackingReference | null): void {
  const name = backing === null ? '' : backing.path;
  if (backing !== null && backing.format === null && !knowsByIdentity(driver)) {
    throw new ImageError('rebase/format', { name }, { file: path });
  }
  if (!driver.hasBacking) throw new ImageError('rebase/unsupported', { name }, { file: path });
}

/** Such formats have layers of their own format only: it need not be said. */
function knowsByIdentity(driver: FormatDriver): boolean {
  return driver.hasBacking && driver.identity !== undefined;
}

/** Copies what differs between the layers, and makes it last. Bytes that were copied. */
async function copyInto(image: WritableImage, params: RebaseParams, job: Job): Promise<number> {
  const { node: top } = image;
  const { backing, compress } = params;
  if (compress && top.packed === undefined) throw new ImageError('convert/no-compression', {}, { file: image.path });
  const base = backing === null ? null : openBase(image, backing, params);
  let copied: number;
  try {
    refuse(image, backing);
    if (base !== null && knowsByIdentity(image.driver) && base.format !== image.driver.id) {
      const reason = `Below ${image.driver.id} images there are only such, and it is ${base.format}`;
      throw new ImageError('rebase/link', { name: base.name, reason }, { file: image.path });
    }
    copied =
      base === null && !compress && top.backing !== null
        ? await flatten(top, job)
        : await keepDifferences(top, base, { compress, storeZeroes: params.storeZeroes === true }, job);
  } finally {
    base?.close();
  }
  attempt('rebase/write', {}, () => top.flush());
  return copied;
}

/** The new layer, with those below it. Throws `rebase/new-base`, `gate/loop`. */
function openBase(image: WritableImage, backing: BackingReference, params: RebaseParams): BlockNode {
  const { policy = followFiles } = params.options;
  const { share = false, cache, secret } = params.base;
  const { path: from } = image;
  let node: BlockNode;
  try {
    const path = resolveReference(from, backing.path);
    requireAllowed(policy, { from, path, role: 'backing' });
    node = openImage(path, { format: backing.format, policy, share, cache, secret }).node;
  } catch (error) {
    if (!(error instanceof ImageError) || error.code === 'gate/ask') throw error;
    const detail = { name: backing.path, reason: error.message, ...becauseOfPassphrase(error) };
    throw new ImageError('rebase/new-base', detail, error.where, error);
  }
  const identity = image.node.files[0]?.storage.identity ?? null;
  for (let layer: BlockNode | null = node; layer !== null && identity !== null; layer = layer.backing) {
    if (layer.files[0]?.storage.identity !== identity) continue;
    node.close();
    throw new ImageError('gate/loop', { name: backing.path }, { file: from });
  }
  return node;
}

/** All that the layers below have becomes the image's own; what reads as zeroes will do so without them. */
async function flatten(top: WritableNode, job: Job): Promise<number> {
  const { data } = await copyGuest(
    {
      parts: [{ source: top, start: 0, length: top.size }],
      target: top,
      targetIsZero: true,
      targetBacking: 0,
      leaves: (run) => isOwn(top, run),
      sparse: 4096,
      packed: false,
      offload: false,
      depth: 8,
      outOfOrder: false,
      rate: 0,
      salvage: null,
    },
    job,
  );
  return data;
}

function relink({ node, path }: WritableImage, backing: BackingReference | null): void {
  const name = backing === null ? '' : backing.path;
  try {
    node.setBacking(backing);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    if (error.code === 'qcow2/header-full') throw new ImageError('rebase/no-room', { name }, { file: path }, error);
    throw new ImageError('rebase/link', { name, reason: error.message }, { file: path }, error);
  }
  attempt('rebase/write', {}, () => node.flush());
}

function attempt(code: 'rebase/write', detail: Record<string, string>, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw new ImageError(code, { ...detail, reason: error.message }, error.where, error);
  }
}
