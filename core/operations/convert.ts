// convert: the guest content of one image, or several in a row, into a new image or over an existing one.
import { firstDifference } from '../block/compare.ts';
import type { SecretSource } from '../block/crypto/secret.ts';
import { copyGuest, type CopyResult } from '../block/copy/copy.ts';
import type { CopyPart } from '../block/copy/plan.ts';
import type { CacheMode } from '../block/file.ts';
import { isWritable, type BackingReference, type BlockNode, type WritableNode } from '../block/node.ts';
import { alignUp, type GuestRange } from '../block/units.ts';
import { windowOf } from '../block/window.ts';
import { becauseOfPassphrase, ImageError } from '../errors/image-error.ts';
import type { FormatDriver, OpenGate, OptionValue } from '../formats/driver.ts';
import { followFiles, resolveReference, type GatePolicy } from '../formats/gate.ts';
import { openImage, type OpenedImage, type OpenOptions } from '../formats/open.ts';
import { createDriverNamed, findDriver } from '../formats/registry.ts';
import { withoutUnused } from '../guest/unused-space.ts';
import type { Fill, Job } from '../job.ts';
import { breather } from './breathe.ts';
import { verifyArchive, writeArchive } from './convert-archive.ts';
import { checkSourceBitmaps, checkTargetBitmaps, copyBitmaps, type BitmapsWanted } from './convert-bitmaps.ts';
import { withGptAtEnd, type GptAtEnd } from './convert-gpt.ts';
import { wouldBecome } from './guessed-raw.ts';
import { newTarget, shapeFrom, type NewTarget } from './target.ts';

/** An image to read, as it was named. */
export interface ConvertSource {
  readonly path: string;
  readonly options: OpenOptions;
  /** Only this part of the disk. */
  readonly window?: GuestRange | undefined;
  /** What the guest's file systems mark free reads as zeroes. */
  readonly withoutUnused?: boolean;
}

export interface ConvertParams {
  readonly sources: readonly ConvertSource[];
  /** Read this internal snapshot (id or name) of the only source; null: the disk as it is. */
  readonly snapshot: string | null;
  readonly target: string;
  /** Format of the target. */
  readonly format: string;
  /** Creation options by name. `size` makes the target larger than the sources. */
  readonly options: Readonly<Record<string, OptionValue>>;
  /** The new image becomes an overlay over this; what the source has from below its top layer is left to it. */
  readonly backing: BackingReference | null;
  /** Write over an existing image of exactly this kind, opened with these options; null: create. */
  readonly existing: OpenOptions | null;
  /** The existing target reads as zeroes everywhere. */
  readonly targetIsZero: boolean;
  readonly compress: boolean;
  /** Let the host move the bytes where it can. */
  readonly offload: boolean;
  /** Zero detection in bytes; 0: none, and all is written. */
  readonly sparse: number;
  /** Cache mode of the target; `unsafe` leaves the flush out. */
  readonly cache: CacheMode | undefined;
  /** Chunks under way at once. */
  readonly depth: number;
  readonly outOfOrder: boolean;
  /** Bytes per second; 0: no limit. */
  readonly rate: number;
  /** Go on where the source cannot be read; zeroes take the place. */
  readonly salvage: boolean;
  /** Read the result back and compare it with the source before it gets its name. */
  readonly verify: boolean;
  /** Give the target the ids of the only source. */
  readonly keepIdentity: boolean;
  /** Take the dirty bitmaps of the only source along; null or absent: leave them. */
  readonly bitmaps?: BitmapsWanted | null;
  /** Put the raw image into a gzipped tar, under this name; null or absent: do not. */
  readonly archivedAs?: string | null;
  /** Where the disk grows, its backup GPT stands at the new end, as far as that can be; absent: it stays where it is. */
  readonly gptAtEnd?: boolean;
  /** Asked when the bytes of the sources are known: what is to be made of them, in place of what stands here. */
  readonly choose?: ((length: number) => ChosenTarget) | undefined;
  readonly policy?: GatePolicy | undefined;
  /** Hands out the passphrase of a new encrypted target, and of the layer below it. */
  readonly secret?: SecretSource | undefined;
}

/** What the size of the sources decides. */
export type ChosenTarget = Pick<ConvertParams, 'format' | 'options' | 'archivedAs'>;

export interface ConvertResult {
  /** Virtual size of the target. */
  readonly size: number;
  /** Bytes written as data, stored bytes of packed units, bytes found to be zero. */
  readonly copied: CopyResult;
  /** What could not be read and became zeroes (with `salvage`), and why; neighbours merged, the first ones only. */
  readonly unreadable: readonly { readonly start: number; readonly length: number; readonly reason: string }[];
  readonly unreadableBytes: number;
  readonly verified: boolean;
  /** Names of bitmaps that were left out because they are inconsistent. */
  readonly skippedBitmaps: readonly string[];
  /** With `gptAtEnd`: what became of the backup GPT of a disk that grew; null: there was nothing to move. */
  readonly gpt: GptAtEnd | null;
}

/** How many unreadable stretches are listed; their bytes are counted all the same. */
const listedStretches = 1000;

/**
 * Converts; `targetOpened` hears of the format of an existing target. A new target carries its final name only when it is complete; on any error nothing is left of it.
 * Throws what opening the sources throws, `convert/create` for the target, `convert/*` for what was asked, `storage/*`.
 */
export async function convert(
  given: ConvertParams,
  job: Job,
  targetOpened: (driver: FormatDriver) => void = () => {},
): Promise<ConvertResult> {
  const opened: OpenedImage[] = [];
  const views: BlockNode[] = [];
  try {
    for (const source of given.sources) opened.push(openImage(source.path, source.options));
    if (!given.salvage) await verifySources(opened, job);
    const bitmaps = bitmapsOf(given, opened);
    const nodes = opened.map((image, index) => {
      const whole = snapshotView(image, given.snapshot, views);
      const { window, withoutUnused: leavesOut = false } = given.sources[index] ?? {};
      const view = leavesOut ? withoutUnused(whole, job) : whole;
      return window === undefined ? view : windowOf(view, window);
    });
    const parts = layOut(nodes);
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const params = given.choose === undefined ? given : { ...given, ...given.choose(length) };
    if (archivesRaw(params)) return await convertToArchive(params, params.archivedAs, parts, length, job);
    return params.existing === null
      ? await convertToNew(withIdentity(params, opened), parts, length, job, bitmaps)
      : await convertOver(params, params.existing, parts, length, job, bitmaps, targetOpened);
  } finally {
    for (const view of views) view.close();
    for (const image of opened) image.node.close();
  }
}

function archivesRaw(params: ConvertParams): params is ConvertParams & { readonly archivedAs: string } {
  const { archivedAs = null } = params;
  if (archivedAs === null) return false;
  const { format, existing, backing, compress, keepIdentity, salvage, bitmaps = null } = params;
  const plain = existing === null && backing === null && bitmaps === null && !compress && !keepIdentity && !salvage;
  if (format !== 'raw' || !plain) throw new ImageError('convert/archive', { format });
  return true;
}

/** The disk in a gzipped tar, written in one pass. */
async function convertToArchive(
  params: ConvertParams,
  name: string,
  given: readonly CopyPart[],
  length: number,
  job: Job,
): Promise<ConvertResult> {
  const size = sizeOf(params, length);
  const { parts, gpt } = grown(params, given, size);
  const target = newTarget(params.target, { cache: params.cache });
  try {
    const copied = await writeArchive({ name, parts, size, storage: target.storage, rate: params.rate }, job);
    const verified = params.verify && (await verifyArchive({ name, parts, size, storage: target.storage }, job));
    job.throwIfCancelled();
    target.complete();
    return { size, copied, unreadable: [], unreadableBytes: 0, verified, skippedBitmaps: [], gpt };
  } catch (error) {
    target.abandon();
    throw error;
  }
}

/** The image whose bitmaps are to be taken along, or null. Throws what `checkSourceBitmaps` throws. */
function bitmapsOf({ bitmaps = null }: ConvertParams, opened: readonly OpenedImage[]): OpenedImage | null {
  const [source] = opened;
  if (bitmaps === null || source === undefined) return null;
  checkSourceBitmaps(source, bitmaps);
  return source;
}

/** What comes with checksums is held against them before it is taken over. Throws what the formats say of a difference. */
async function verifySources(opened: readonly OpenedImage[], job: Job): Promise<void> {
  const breathe = breather();
  for (const { driver, node } of opened) {
    for (const _step of driver.verify?.(node, job) ?? []) await breathe();
  }
}

function snapshotView(image: OpenedImage, snapshot: string | null, views: BlockNode[]): BlockNode {
  if (snapshot === null) return image.node;
  if (image.driver.snapshots === undefined) {
    throw new ImageError('convert/no-snapshots', { format: image.driver.id }, { file: image.node.name });
  }
  const view = image.driver.snapshots.open(image.node, snapshot);
  views.push(view);
  return view;
}

/** The creation options with those that keep the source's ids. Throws `convert/no-identity`. */
function withIdentity(params: ConvertParams, opened: readonly OpenedImage[]): ConvertParams {
  const [source] = opened;
  if (!params.keepIdentity || source === undefined) return params;
  const target = createDriverNamed(params.format);
  const identity = source.driver.identity?.(source.node);
  if (identity !== undefined && target.id === source.driver.id) {
    return { ...params, options: { ...identity.options, ...params.options } };
  }
  const { diskIdOption } = target;
  if (identity === undefined || identity.disk === null || diskIdOption === undefined) {
    throw new ImageError('convert/no-identity', { source: source.driver.id, target: target.id });
  }
  return { ...params, options: { [diskIdOption]: identity.disk, ...params.options } };
}

/** The sources one behind the other, each in whole sectors. */
function layOut(nodes: readonly BlockNode[]): CopyPart[] {
  let start = 0;
  return nodes.map((source) => {
    const part = { source, start, length: alignUp(source.size, 512) };
    start += part.length;
    return part;
  });
}

async function convertToNew(
  params: ConvertParams,
  given: readonly CopyPart[],
  length: number,
  job: Job,
  bitmaps: OpenedImage | null,
): Promise<ConvertResult> {
  const driver = createDriverNamed(params.format);
  if (driver.create === undefined) throw new ImageError('format/no-create', { name: params.format });
  if (params.backing !== null && !driver.hasBacking) {
    throw new ImageError('convert/no-backing', { format: driver.id });
  }
  const size = sizeOf(params, length);
  const startsAsZeroes = driver.startsAsZeroes?.(params.options) !== false;
  const backing = params.backing === null ? null : openBacking(params, params.backing);
  let target: NewTarget | null = null;
  try {
    const { node, files } = attemptCreate(params, () => {
      target = newTarget(params.target, { cache: params.cache, shape: shapeFrom(params.options) });
      return createTarget(params, driver, target, size, job, backing);
    });
    try {
      if (bitmaps !== null) checkTargetBitmaps(driver, node);
      checkTarget(params, node, length);
      const { parts, gpt } = grown(params, given, node.size);
      const result = await copyInto(params, parts, node, {
        targetIsZero: params.backing === null && !files.inPlace && startsAsZeroes,
        ...(files.inPlace || backing === null || !startsAsZeroes ? {} : { zeroFrom: backing.size }),
        targetBacking: backing?.size ?? 0,
        fill: job.makes?.({
          path: files.path,
          partial: files.partial,
          format: driver.id,
          size: node.size,
          granularity: node.granularity,
        }),
        job,
      });
      const skippedBitmaps = bitmaps === null ? [] : copyBitmaps(bitmaps, driver, node);
      node.writeBack();
      const verified = params.verify && verifyTarget(parts, node, job);
      node.close();
      job.throwIfCancelled();
      files.complete();
      return { ...result, size: node.size, verified, skippedBitmaps, gpt };
    } finally {
      node.close();
    }
  } catch (error) {
    (target as NewTarget | null)?.abandon();
    throw error;
  } finally {
    backing?.close();
  }
}

/** Errors while the target comes to be are told with its name and format. */
function attemptCreate<T>(params: ConvertParams, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const detail = { target: params.target, format: params.format, reason: error.message };
    throw new ImageError('convert/create', detail, error.where, error);
  }
}

function createTarget(
  params: ConvertParams,
  driver: FormatDriver,
  files: NewTarget,
  size: number,
  job: Job,
  backing: BlockNode | null,
): { node: WritableNode; files: NewTarget } {
  const siblings = new Map<string, ReturnType<NewTarget['createFile']>>();
  driver.create?.({
    storage: files.storage,
    name: params.target,
    size,
    options: params.options,
    backing: params.backing,
    ...(backing === null ? {} : { openBacking: () => backing }),
    createFile(path, role) {
      const storage = files.createFile(path, role);
      siblings.set(path, storage);
      return storage;
    },
    secret: params.secret,
    job,
  });
  const gate: OpenGate = {
    openImage: () => {
      if (backing === null) throw new Error('a new image without a backing file asked for one');
      return lent(backing);
    },
    openFile: (reference) => {
      const sibling = siblings.get(reference.path);
      if (sibling === undefined) throw new Error(`a new image asked for '${reference.path}', which it did not create`);
      return sibling;
    },
  };
  const node = driver.open(files.storage, {
    writable: true,
    gate,
    withBacking: backing !== null,
    runtime: keySettings(params.options),
    fresh: true,
    forRepair: false,
    secret: params.secret,
  });
  if (!isWritable(node)) throw new Error(`${driver.id} opened a new image read-only`);
  return { node, files };
}

/** A new encrypted image is opened with the passphrase that it was created with. */
function keySettings(options: Readonly<Record<string, OptionValue>>): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const name of ['key-secret', 'encrypt.key-secret']) {
    if (options[name] !== undefined) settings[name] = String(options[name]);
  }
  return settings;
}

/** A view of a node that is closed by somebody else. */
function lent(node: BlockNode): BlockNode {
  return {
    format: node.format,
    name: node.name,
    size: node.size,
    granularity: node.granularity,
    backing: node.backing,
    files: node.files,
    map: (range) => node.map(range),
    close: () => {},
  };
}

/** Throws `gate/backing` with the target's name, `convert/create` for a format that there is not. */
function openBacking(params: ConvertParams, { path, format }: BackingReference): BlockNode {
  const { policy = followFiles, secret, target } = params;
  if (format !== null && findDriver(format) === null) {
    const unknown = new ImageError('create/backing-unknown', { format, owner: params.format }, { file: target });
    const detail = { target, format: params.format, reason: unknown.message };
    throw new ImageError('convert/create', detail, unknown.where, unknown);
  }
  try {
    return openImage(resolveReference(target, path), { format, policy, secret }).node;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const detail = { reason: error.message, name: path, ...becauseOfPassphrase(error) };
    // The file that wants a passphrase is the one to be named.
    throw new ImageError('gate/backing', detail, detail.because === undefined ? { file: target } : error.where, error);
  }
}

async function convertOver(
  params: ConvertParams,
  existing: OpenOptions,
  parts: readonly CopyPart[],
  length: number,
  job: Job,
  bitmaps: OpenedImage | null,
  opened: (driver: FormatDriver) => void,
): Promise<ConvertResult> {
  const { node, driver } = openImage(params.target, { ...existing, writable: true });
  try {
    opened(driver);
    if (!isWritable(node)) throw new ImageError('format/read-only', { format: node.format }, { file: params.target });
    if (bitmaps !== null) checkTargetBitmaps(driver, node);
    checkTarget(params, node, length);
    if (driver.id === 'raw' && (existing.format ?? null) === null) {
      const found = wouldBecome(node, parts, params.salvage);
      if (found !== null) throw new ImageError('convert/would-change-format', { found }, { file: params.target });
    }
    const looks = params.sparse === 0 && existing.detectZeroes !== undefined;
    const result = await copyInto(looks ? { ...params, sparse: 512 } : params, parts, node, {
      targetIsZero: params.targetIsZero,
      keepSpace: existing.discard === 'ignore' || (looks && existing.detectZeroes === 'on'),
      targetBacking: params.backing === null ? 0 : (node.backing?.size ?? 0),
      job,
    });
    const skippedBitmaps = bitmaps === null ? [] : copyBitmaps(bitmaps, driver, node);
    if (params.cache === 'unsafe') node.writeBack();
    else node.flush();
    const verified = params.verify && verifyTarget(parts, node, job);
    return { ...result, size: node.size, verified, skippedBitmaps, gpt: null };
  } finally {
    node.close();
  }
}

/** What is copied to a disk of `size` bytes. */
function grown(params: ConvertParams, parts: readonly CopyPart[], size: number): ReturnType<typeof withGptAtEnd> {
  return params.gptAtEnd === true ? withGptAtEnd(parts, size) : { parts, gpt: null };
}

/** The target's virtual size: what the sources have, or what `-o size` says beyond it. Throws `convert/too-small`. */
function sizeOf(params: ConvertParams, length: number): number {
  const { size } = params.options;
  if (typeof size !== 'number') return length;
  if (size < length)
    throw new ImageError('convert/too-small', { found: size, needed: length }, { file: params.target });
  return size;
}

function checkTarget(params: ConvertParams, node: WritableNode, length: number): void {
  if (params.compress && node.packed === undefined) {
    throw new ImageError('convert/no-compression', { format: node.format }, { file: params.target });
  }
  if (node.size < length) {
    throw new ImageError('convert/too-small', { found: node.size, needed: length }, { file: params.target });
  }
}

async function copyInto(
  params: ConvertParams,
  parts: readonly CopyPart[],
  target: WritableNode,
  state: {
    targetIsZero: boolean;
    zeroFrom?: number;
    keepSpace?: boolean;
    targetBacking: number;
    fill?: Fill | undefined;
    job: Job;
  },
): Promise<Omit<ConvertResult, 'size' | 'verified' | 'skippedBitmaps' | 'gpt'>> {
  const unreadable: { start: number; length: number; reason: string }[] = [];
  let unreadableBytes = 0;
  const salvage = (range: GuestRange, error: unknown): void => {
    if (!(error instanceof ImageError)) throw error;
    unreadableBytes += range.length;
    const last = unreadable.at(-1);
    if (last !== undefined && last.start + last.length === range.start) last.length += range.length;
    else if (unreadable.length < listedStretches) unreadable.push({ ...range, reason: error.message });
  };
  const copied = await copyGuest(
    {
      parts,
      target,
      targetIsZero: state.targetIsZero,
      ...(state.zeroFrom === undefined ? {} : { zeroFrom: state.zeroFrom }),
      keepSpace: state.keepSpace === true,
      targetBacking: state.targetBacking,
      sparse: params.sparse,
      // Some targets hold packed units only (a streamOptimized VMDK), whatever was asked.
      packed: params.compress || target.packed?.always === true,
      offload: params.offload,
      depth: params.depth,
      // And those are written in order.
      outOfOrder: params.outOfOrder && target.packed?.always !== true,
      rate: params.rate,
      salvage: params.salvage ? salvage : null,
      fill: state.fill,
    },
    state.job,
  );
  return { copied, unreadable, unreadableBytes };
}

/** Reads the target back. Throws `convert/differs` with the first guest offset that is not as in the source. */
function verifyTarget(parts: readonly CopyPart[], target: WritableNode, job: Job): boolean {
  for (const part of parts) {
    const stretch = { start: 0, otherStart: part.start, length: part.source.size };
    const difference = firstDifference(part.source, target, stretch, job);
    if (difference !== null) {
      throw new ImageError('convert/differs', { offset: part.start + difference }, { file: target.name });
    }
  }
  return true;
}
