// Names of images on the command line: plain paths, `json:{…}` and `--image-opts` descriptions.
import type { SecretSource } from '../core/block/crypto/secret.ts';
import type { CacheMode } from '../core/block/file.ts';
import type { OpenOptions } from '../core/formats/open.ts';
import { driverNamed } from '../core/formats/registry.ts';
import { plainPath, readDescription } from './described-image.ts';
import { describeJson, describeWords, type Description } from './description.ts';
import { tellUnasked } from './finding.ts';
import { chosenPolicy } from './gate-policy.ts';
import { flatJson } from './json.ts';
import { CommandError, openFailure } from './print.ts';
import { chosenUndo } from './undo-option.ts';

/** An image as the command line names it. */
export interface NamedImage {
  /** As it was given: what messages say. */
  readonly name: string;
  readonly path: string;
  readonly options: OpenOptions;
  /** What `info` and `map` call it: the path, or a description where a path does not say all. */
  readonly shownAs: string;
}

/** How a name is to be understood. */
export interface NamingOptions {
  /** `-f`; null: probe. */
  readonly format?: string | null;
  /** `--image-opts`: the name is a description. */
  readonly imageOpts?: boolean;
  /** `-U`. */
  readonly share?: boolean;
  readonly cache?: CacheMode;
  /** It will be opened for writing. */
  readonly writable?: boolean;
  /** The exit code when it cannot be opened. */
  readonly exitCode?: number;
  /** Hands out the passphrases of encrypted images. */
  readonly secret?: SecretSource;
  /** `--disk`; null: none was named. */
  readonly disk?: string | null;
}

const cacheModes: readonly string[] = [
  'writeback',
  'writethrough',
  'none',
  'directsync',
  'unsafe',
] satisfies CacheMode[];

/** `-t`, `-T`: the cache mode called `text` (`off` is `none`). `what` is in the message: `Invalid cache option: x`. */
export function cacheMode(text: string, what: 'cache' | 'source cache', exitCode = 1): CacheMode {
  const mode = text === 'off' ? 'none' : text;
  if (!cacheModes.includes(mode)) throw new CommandError(`Invalid ${what} option: ${text}`, { exitCode });
  return mode as CacheMode;
}

/** Of several `--disk` the one for the image with this index; null: none, or an empty one. */
export function diskOf(given: readonly string[], index: number): string | null {
  const disk = given[index];
  return disk === undefined || disk === '' ? null : disk;
}

/**
 * What `name` stands for. Throws `CommandError` (`Could not open 'NAME': …`) for descriptions that say something unknown or
 * impossible. A layer that a description puts below the image is opened here; the image owns it once it is open.
 */
export function nameImage(name: string, how: NamingOptions = {}): NamedImage {
  const base: OpenOptions = {
    format: how.format ?? null,
    ...(how.share === true ? { share: true } : {}),
    ...chosenPolicy(),
    ...chosenUndo(),
    ...(how.cache === undefined ? {} : { cache: how.cache }),
    ...(how.writable === true ? { writable: true } : {}),
    tell: tellUnasked,
    ...(how.secret === undefined ? {} : { secret: how.secret }),
    ...(how.disk === undefined || how.disk === null ? {} : { runtime: { disk: how.disk } }),
  };
  try {
    if (how.imageOpts === true) {
      if (how.format !== undefined && how.format !== null) {
        throw new CommandError('--image-opts and --format are mutually exclusive', { exitCode: how.exitCode ?? 1 });
      }
      return fromDescription(name, describeWords(name), base);
    }
    if (base.format !== null && base.format !== undefined) driverNamed(base.format);
    if (name.startsWith('json:')) return fromDescription(name, describeJson(name.slice('json:'.length)), base);
    const path = plainPath(name);
    return { name, path, options: base, shownAs: path };
  } catch (error) {
    throw error instanceof CommandError ? error : openFailure(name, error, how.exitCode);
  }
}

function fromDescription(name: string, description: Description, base: OpenOptions): NamedImage {
  const { path, options, strong } = readDescription(description, base);
  const shownAs = strong === null ? path : `json:${flatJson(strong)}`;
  const runtime = { ...base.runtime, ...options.runtime };
  return { name, path, options: { ...options, runtime }, shownAs };
}
