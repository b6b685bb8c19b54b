// create: an empty image, with a layer below it if one is named.
import type { SecretSource } from '../block/crypto/secret.ts';
import type { CacheMode } from '../block/file.ts';
import type { BackingReference, BlockNode } from '../block/node.ts';
import { alignUp } from '../block/units.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver, OptionValue } from '../formats/driver.ts';
import { followFiles, requireAllowed, resolveReference, type GatePolicy } from '../formats/gate.ts';
import { openImage } from '../formats/open.ts';
import { createDriverNamed, driverNamed, isFormatName } from '../formats/registry.ts';
import type { Job } from '../job.ts';
import { newTarget, shapeFrom } from './target.ts';
import { watchedStorage } from './watched-storage.ts';

export interface CreateParams {
  readonly path: string;
  /** Name of the format. */
  readonly format: string;
  /** Virtual size in bytes; null: that of the layer below. */
  readonly size: number | null;
  /** Creation options by name, without `size`, `backing_file`, `backing_fmt`. */
  readonly options: Readonly<Record<string, OptionValue>>;
  /** The layer below as the image will record it; relative paths start at the image's folder. */
  readonly backing: BackingReference | null;
  /** Do not open the layer below. */
  readonly unsafe: boolean;
  readonly cache?: CacheMode | undefined;
  readonly policy?: GatePolicy | undefined;
  /** Hands out the passphrase of an encrypted image. */
  readonly secret?: SecretSource | undefined;
}

export interface CreateResult {
  readonly path: string;
  readonly format: string;
  /** Virtual size that was asked, or that of the layer below. */
  readonly askedSize: number;
  /** Virtual size of the image: whole sectors, or what the format can hold. */
  readonly size: number;
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly backing: BackingReference | null;
}

/**
 * What `create` would do; touches nothing. Throws `format/unknown-output`, `format/no-create`, `create/*`, and for a layer below that
 * cannot be opened `create/backing`.
 */
export function planCreate(params: CreateParams): CreateResult {
  const driver = driverFor(params.format);
  const { backing } = params;
  if (backing !== null && !driver.hasBacking) throw new ImageError('create/no-backing', { format: driver.id });
  if (backing?.path === '') throw new ImageError('create/empty-backing');
  if (backing !== null && backing.path === params.path) throw new ImageError('create/same-name');
  let askedSize = params.size;
  if (backing !== null && !params.unsafe) {
    const below = openBelow(params, backing);
    askedSize ??= below.size;
    below.close();
  }
  if (backing !== null && backing.format === null) throw new ImageError('create/backing-format', { detected: '' });
  if (askedSize === null) throw new ImageError('create/no-size');
  const size = driver.sizeFor?.(askedSize, params.options) ?? alignUp(askedSize, 512);
  return { path: params.path, format: driver.id, askedSize, size, options: params.options, backing };
}

function driverFor(format: string): FormatDriver {
  const driver = createDriverNamed(format);
  if (driver.create === undefined) throw new ImageError('format/no-create', { name: driver.id });
  if (driver.onlyConverted === true) throw new ImageError('create/only-converted', { format: driver.id });
  return driver;
}

/** Opens the layer below, which must be named with its format. Throws `create/backing`, `create/backing-format`. */
function openBelow(params: CreateParams, backing: BackingReference): BlockNode {
  const { policy = followFiles } = params;
  let opened;
  try {
    const path = resolveReference(params.path, backing.path);
    requireAllowed(policy, { from: params.path, path, role: 'backing' });
    if (backing.format !== null) driverNamed(backing.format);
    opened = openImage(path, { format: backing.format, policy, guestData: false });
  } catch (error) {
    if (!(error instanceof ImageError) || error.code === 'gate/ask') throw error;
    const named =
      error.code === 'storage/open' ? `Could not open '${error.where.file}': ${error.message}` : error.message;
    throw new ImageError('create/backing', { reason: named }, error.where, error);
  }
  if (backing.format === null) {
    opened.node.close();
    throw new ImageError('create/backing-format', { detected: opened.driver.id });
  }
  return opened.node;
}

/**
 * Creates the image; it carries its name only when it is complete. An existing file is replaced, a block device written in place.
 * Throws what `planCreate` throws, `create/too-large`, `create/value`, the format's codes, `storage/*`, `request/cancelled`.
 */
export function create(params: CreateParams, job: Job): Promise<CreateResult> {
  return Promise.resolve().then(() => createNow(params, job));
}

function createNow(params: CreateParams, job: Job): CreateResult {
  const driver = driverFor(params.format);
  const planned = planCreate(params);
  if (!Number.isSafeInteger(planned.size)) {
    const hint = driver.options.some(({ name }) => name === 'cluster_size') ? ' (try using a larger cluster size)' : '';
    throw new ImageError('create/too-large', { format: driver.id, hint });
  }
  checkValues(driver, params.options);
  checkBackingFormat(driver, params.backing);
  let below: BlockNode | null = null;
  const target = newTarget(params.path, { cache: params.cache, shape: shapeFrom(params.options) });
  try {
    job.throwIfCancelled();
    driver.create?.({
      storage: watchedStorage(target.storage, planned.size, job),
      name: params.path,
      size: planned.size,
      options: params.options,
      backing: params.backing,
      openBacking() {
        if (params.backing === null) throw new Error('a new image without a backing file asked for one');
        below ??= openBelow(params, params.backing);
        return below;
      },
      createFile: (path, role) => watchedStorage(target.createFile(path, role), planned.size, job),
      secret: params.secret,
      job,
    });
    job.throwIfCancelled();
    target.complete();
  } catch (error) {
    target.abandon();
    throw error;
  } finally {
    (below as BlockNode | null)?.close();
  }
  return planned;
}

/** A layer that is not opened may have any format that there is. Throws `create/backing-unknown`. */
function checkBackingFormat(driver: FormatDriver, backing: BackingReference | null): void {
  const format = backing?.format ?? null;
  if (format === null || isFormatName(format)) return;
  throw new ImageError('create/backing-unknown', { format, owner: driver.id });
}

/** Values of options that take one of a few words. Throws `create/value`, `create/preallocation`, `create/mode`. */
function checkValues(driver: FormatDriver, options: Readonly<Record<string, OptionValue>>): void {
  for (const [name, value] of Object.entries(options)) {
    const values = driver.options.find((row) => row.name === name)?.values;
    if (values === undefined || values.includes(String(value))) continue;
    if (name === 'preallocation' && !values.includes('metadata')) {
      throw new ImageError(value === 'metadata' ? 'create/preallocation' : 'create/mode', { found: value });
    }
    throw new ImageError('create/value', { name: spokenName(name), found: String(value) });
  }
}

/** The name under which qemu checks a value. */
function spokenName(name: string): string {
  return name === 'compat' ? 'version' : name.replaceAll('_', '-');
}
