// overlay: a new, empty image over another one: what is written from now on goes to it, and the other stays as it is.
import path from 'node:path';
import type { SecretSource } from '../block/crypto/secret.ts';
import { ImageError } from '../errors/image-error.ts';
import type { OptionValue } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import { createDriverNamed } from '../formats/registry.ts';
import type { Job } from '../job.ts';
import { create, planCreate, type CreateParams, type CreateResult } from './create.ts';

export interface OverlayParams {
  /** The image that stays as it is. */
  readonly base: string;
  /** How the base is opened; its format is probed unless stated here. */
  readonly baseOptions: OpenOptions;
  /** The new image; what is there is replaced. */
  readonly path: string;
  /** Name of the new format; null: that of the base. */
  readonly format: string | null;
  /** Creation options by name, without `size`, `backing_file`, `backing_fmt`. */
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly secret?: SecretSource | undefined;
}

/**
 * What `create` is to be told so that it makes the overlay: the base's format unless another is stated, its size, and its name as seen
 * from the new image: relative where it lies in the same folder or below. Throws what opening the base throws,
 * `overlay/no-differencing`, `overlay/no-create`, `create/same-name`, `format/unknown-output`.
 */
export function planOverlay(params: OverlayParams): CreateParams {
  const { base, path: target, format, options, secret } = params;
  const { node, driver } = openImage(base, { ...params.baseOptions, guestData: false });
  const { size } = node;
  node.close();
  if (path.resolve(base) === path.resolve(target)) throw new ImageError('create/same-name', {}, { file: target });
  const chosen = format === null ? driver : createDriverNamed(format);
  const file = format === null ? base : target;
  if (!chosen.hasBacking) throw new ImageError('overlay/no-differencing', { format: chosen.id }, { file });
  if (chosen.create === undefined) throw new ImageError('overlay/no-create', { format: chosen.id }, { file });
  const backing = { path: nameSeenFrom(target, base), format: driver.id };
  const { policy } = params.baseOptions;
  return {
    path: target,
    format: chosen.id,
    size,
    options,
    backing,
    unsafe: false,
    secret,
    ...(policy === undefined ? {} : { policy }),
  };
}

/** The name of `file` as the image `from` records it. */
export function nameSeenFrom(from: string, file: string): string {
  const folder = path.dirname(path.resolve(from));
  const whole = path.resolve(file);
  const relative = path.relative(folder, whole);
  const above = relative === '..' || relative.startsWith(`..${path.sep}`) || path.isAbsolute(relative);
  const name = above ? whole : relative.split(path.sep).join('/');
  // A colon before any slash would be read as a protocol.
  return !above && /^[^/]*:/.test(name) ? `./${name}` : name;
}

/** Makes the overlay. Throws what `planOverlay` and `create` throw. */
export function overlay(params: OverlayParams, job: Job): Promise<CreateResult> {
  return Promise.resolve().then(() => {
    const plan = planOverlay(params);
    planCreate(plan);
    return create(plan, job);
  });
}
