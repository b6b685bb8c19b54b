// Names of images: plain paths, `json:{…}` and `--image-opts` descriptions, for the drivers file, raw and the formats over a file.
import type { SecretSource } from '../core/block/crypto/secret.ts';
import type { CacheMode } from '../core/block/file.ts';
import { ImageError } from '../core/errors/image-error.ts';
import { hasScheme } from '../core/formats/gate.ts';
import { openImage, type OpenOptions, type SettingsBelow } from '../core/formats/open.ts';
import { driverNamed, findDriver } from '../core/formats/registry.ts';
import { flatJson, type Json } from './json.ts';
import { CommandError, openFailure, warn } from './print.ts';
import { parseKeyValues, sizeMessage } from './key-values.ts';
import { parseSize } from './size.ts';

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

/**
 * What `name` stands for. Throws `CommandError` (`Could not open 'NAME': …`) for descriptions that say something unknown or
 * impossible. A layer that a description puts below the image is opened here; the image owns it once it is open.
 */
export function nameImage(name: string, how: NamingOptions = {}): NamedImage {
  const base: OpenOptions = {
    format: how.format ?? null,
    ...(how.share === true ? { share: true } : {}),
    ...(how.cache === undefined ? {} : { cache: how.cache }),
    ...(how.writable === true ? { writable: true } : {}),
    ...(how.secret === undefined ? {} : { secret: how.secret }),
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
    return { name, path: plainPath(name), options: base, shownAs: plainPath(name) };
  } catch (error) {
    throw error instanceof CommandError ? error : openFailure(name, error, how.exitCode);
  }
}

/** A path without the `file:` that may stand before it. Other protocols are not spoken here. */
export function plainPath(name: string): string {
  const path = name.startsWith('file:') ? name.slice('file:'.length) : name;
  if (path === '') throw refuse("The 'file' block driver requires a file name");
  if (hasScheme(path)) throw refuse(`Unknown protocol '${path.slice(0, path.indexOf(':'))}'`);
  return path;
}

function refuse(reason: string): ImageError {
  return new ImageError('request/invalid-value', { reason });
}

/** Keys with dots between the levels; values as they were given. */
type Description = Map<string, string | number | boolean | null>;

function describeWords(text: string): Description {
  const description: Description = new Map();
  for (const { name, value } of parseKeyValues(text, { implied: 'file' })) description.set(name, value);
  return description;
}

function describeJson(text: string): Description {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw refuse(`Could not parse the JSON options: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw refuse('Invalid JSON object given');
  const description: Description = new Map();
  flatten(parsed as Record<string, unknown>, '', description);
  return description;
}

function flatten(value: Record<string, unknown>, prefix: string, into: Description): void {
  for (const [key, entry] of Object.entries(value)) {
    const name = prefix + key;
    if (Array.isArray(entry)) flatten(Object.fromEntries(entry.entries()), `${name}.`, into);
    else if (typeof entry === 'object' && entry !== null) flatten(entry as Record<string, unknown>, `${name}.`, into);
    else into.set(name, entry as string | number | boolean | null);
  }
}

/** One level of a description: what was said, and what of it nobody has asked for yet. */
class Level {
  readonly #values: Description;
  readonly #open: Set<string>;

  constructor(values: Description) {
    this.#values = values;
    this.#open = new Set(values.keys());
  }

  /** The value as text; null: not given, or given as null (`isNull`). */
  take(name: string): string | null {
    const value = this.#values.get(name);
    this.#open.delete(name);
    return value === undefined || value === null ? null : String(value);
  }

  takeBool(name: string): boolean | null {
    const given = this.#values.get(name);
    const value = this.take(name);
    if (value === null) return null;
    if (given === true || ['on', 'yes', 'true', 'y'].includes(value)) return true;
    if (given === false || ['off', 'no', 'false', 'n'].includes(value)) return false;
    throw refuse(`Parameter '${name}' expects 'on' or 'off'`);
  }

  /** Bytes as digits. */
  takeSize(name: string): string | null {
    const value = this.take(name);
    if (value === null) return null;
    const { value: bytes, reason } = parseSize(value);
    if (bytes === null) throw refuse(sizeMessage(name, value, reason));
    return String(bytes);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** It, or something below it, was given. */
  names(name: string): boolean {
    return [...this.#values.keys()].some((key) => key === name || key.startsWith(`${name}.`));
  }

  raw(name: string): string | number | boolean | null | undefined {
    return this.#values.get(name);
  }

  /** The level below `name`; null: nothing is said of it. */
  below(name: string): Level | null {
    const prefix = `${name}.`;
    const inner: Description = new Map();
    for (const [key, value] of this.#values) {
      if (!key.startsWith(prefix)) continue;
      inner.set(key.slice(prefix.length), value);
      this.#open.delete(key);
    }
    return inner.size === 0 ? null : new Level(inner);
  }

  /** Names that nobody asked for. */
  rest(): string[] {
    return [...this.#open];
  }
}

/** What is set for any node, and what it means here. */
interface NodeSettings {
  readonly share: boolean;
  readonly cache: CacheMode | null;
  readonly readOnly: boolean;
}

function takeNodeSettings(level: Level): NodeSettings {
  level.take('node-name');
  level.takeBool('auto-read-only');
  const discard = level.take('discard');
  if (discard !== null && !['ignore', 'off', 'unmap', 'on'].includes(discard)) throw refuse('Invalid discard option');
  const detect = level.take('detect-zeroes');
  if (detect !== null && !['off', 'on', 'unmap'].includes(detect)) throw refuse(`invalid parameter value: ${detect}`);
  const direct = level.takeBool('cache.direct') === true;
  const noFlush = level.takeBool('cache.no-flush') === true;
  return {
    share: level.takeBool('force-share') === true,
    cache: noFlush ? 'unsafe' : direct ? 'none' : null,
    readOnly: level.takeBool('read-only') === true,
  };
}

type SettingType = 'size' | 'bool' | 'text';

const encryptSettings = { 'encrypt.format': 'text', 'encrypt.key-secret': 'text' } as const;

/** The settings that a format takes from the one who opens, as `runtime` hands them over. */
const formatSettings: Readonly<Record<string, Readonly<Record<string, SettingType>>>> = {
  raw: { offset: 'size', size: 'size' },
  luks: { 'key-secret': 'text' },
  qcow: encryptSettings,
  qcow2: {
    ...encryptSettings,
    'lazy-refcounts': 'bool',
    'pass-discard-request': 'bool',
    'pass-discard-snapshot': 'bool',
    'pass-discard-other': 'bool',
    'discard-no-unref': 'bool',
    'overlap-check': 'text',
    'cache-size': 'size',
    'l2-cache-size': 'size',
    'l2-cache-entry-size': 'size',
    'refcount-cache-size': 'size',
    'cache-clean-interval': 'text',
  },
};

/** Without a stated format: whatever the content turns out to be may be encrypted. */
const unstatedSettings: Readonly<Record<string, SettingType>> = {
  ...formatSettings.raw,
  ...formatSettings.luks,
  ...encryptSettings,
};

/** Settings that belong to the name of an image: without them it is another disk, or none. */
const strongSettings = ['offset', 'size', 'key-secret', 'encrypt.key-secret'];

function fromDescription(name: string, description: Description, base: OpenOptions): NamedImage {
  const { path, options, strong } = readImage(new Level(description), base);
  const shownAs = strong === null ? path : `json:${flatJson(strong)}`;
  return { name, path, options, shownAs };
}

interface ReadImage {
  readonly path: string;
  readonly options: OpenOptions;
  /** The description that says all; null: the path does. */
  readonly strong: Json | null;
}

function readImage(level: Level, base: OpenOptions): ReadImage {
  const described = level.take('driver');
  const stated = base.format ?? described;
  if (stated === 'file') return readPlainFile(level, base);
  const reference = level.raw('file');
  if (reference !== undefined && reference !== null) {
    throw refuse(`Cannot find device='${reference}' nor node-name='${reference}'`);
  }
  if (stated !== null && findDriver(stated) === null) throw refuse(`Unknown driver '${stated}'`);
  const file = level.below('file');
  if (file === null) {
    throw refuse(
      stated === null ? 'Must specify either driver or file' : 'A block device must be specified for "file"',
    );
  }
  const settings = takeNodeSettings(level);
  const runtime: Record<string, string> = {};
  for (const [key, type] of Object.entries(settingsOf(stated))) {
    if (!level.has(key)) continue;
    const value = takeSetting(level, key, type);
    if (value !== null) runtime[key] = value;
  }
  if (runtime.size !== undefined && Number(runtime.size) % 512 !== 0) {
    throw refuse('Specified size is not multiple of 512');
  }
  const backing = readBacking(level, stated, base);
  const shown: Record<string, Json> = {};
  for (const key of strongSettings) {
    const given = level.raw(key);
    if (runtime[key] !== undefined && given !== undefined) shown[key] = given;
  }
  const below = readFile(file);
  refuseRest(level, `Block format '${stated ?? 'raw'}' does not support the option`);
  if (base.writable === true && (settings.readOnly || below.readOnly))
    throw refuse('The image is described as read-only');
  const cache = settings.cache ?? below.cache;
  return {
    path: below.path,
    options: {
      ...base,
      format: stated,
      ...(settings.share || below.share ? { share: true } : {}),
      ...(cache === null ? {} : { cache }),
      ...(Object.keys(runtime).length === 0 ? {} : { runtime }),
      ...(backing === null || 'settings' in backing ? {} : { backing: { node: backing.node } }),
      ...(backing !== null && 'settings' in backing ? { below: backing.settings } : {}),
    },
    strong:
      Object.keys(shown).length === 0 && (backing === null || 'settings' in backing || backing.node === null)
        ? null
        : {
            ...shown,
            ...(backing === null || 'settings' in backing ? {} : { backing: backing.strong }),
            driver: stated ?? 'raw',
            file: { driver: 'file', filename: below.path },
          },
  };
}

function settingsOf(format: string | null): Readonly<Record<string, SettingType>> {
  return format === null ? unstatedSettings : (formatSettings[format] ?? {});
}

function takeSetting(level: Level, key: string, type: 'size' | 'bool' | 'text'): string | null {
  if (type === 'size') return level.takeSize(key);
  if (type === 'text') return level.take(key);
  const value = level.takeBool(key);
  return value === null ? null : value ? 'on' : 'off';
}

/** `driver=file,filename=…` with nothing above it: the bytes of the file. */
function readPlainFile(level: Level, base: OpenOptions): ReadImage {
  const file = readFile(level);
  if (base.writable === true && file.readOnly) throw refuse('The image is described as read-only');
  return {
    path: file.path,
    options: {
      ...base,
      format: 'raw',
      ...(file.share ? { share: true } : {}),
      ...(file.cache === null ? {} : { cache: file.cache }),
    },
    strong: null,
  };
}

function readFile(level: Level): NodeSettings & { readonly path: string } {
  const driver = level.take('driver');
  if (driver !== null && !['file', 'host_device', 'host_cdrom'].includes(driver)) {
    if (findDriver(driver) === null) throw refuse(`Unknown driver '${driver}'`);
    throw refuse(`A '${driver}' image inside another image is not opened here`);
  }
  const filename = level.take('filename');
  const settings = takeNodeSettings(level);
  const locking = level.take('locking');
  if (locking !== null && !['auto', 'on', 'off'].includes(locking)) throw refuse(`invalid parameter value: ${locking}`);
  const aio = level.take('aio');
  if (aio !== null && !['threads', 'native', 'io_uring'].includes(aio)) throw refuse(`invalid parameter value: ${aio}`);
  if (aio !== null && aio !== 'threads') {
    throw refuse(`aio=${aio} was specified, but is not supported in this build.`);
  }
  refuseRest(level, "Block protocol 'file' doesn't support the option");
  if (filename === null || filename === '') throw refuse("The 'file' block driver requires a file name");
  return { ...settings, share: settings.share || locking === 'off', path: filename };
}

/** A layer that a description puts below, or what it says of the one that the image names. */
type DescribedBacking =
  | { readonly node: ReturnType<typeof openImage>['node'] | null; readonly strong: Json }
  | { readonly settings: SettingsBelow };

function readBacking(level: Level, format: string | null, base: OpenOptions): DescribedBacking | null {
  if (format !== null && findDriver(format)?.hasBacking !== true) return null;
  const given = level.raw('backing');
  if (given === null || given === '') {
    level.take('backing');
    if (given === '') warn('Use of "backing": "" is deprecated; use "backing": null instead');
    return { node: null, strong: null };
  }
  if (given !== undefined) throw refuse(`Cannot find device='${given}' nor node-name='${given}'`);
  const below = level.below('backing');
  if (below === null) return null;
  if (!below.names('file') && !below.has('driver')) return { settings: readSettingsBelow(below) };
  const { path, options, strong } = readImage(below, { ...base, format: null, writable: false });
  const { node, driver } = openImage(path, options);
  return { node, strong: strong ?? { driver: driver.id, file: { driver: 'file', filename: path } } };
}

/** `backing.encrypt.key-secret=…`: the image itself says which file that is. */
function readSettingsBelow(level: Level): SettingsBelow {
  const runtime: Record<string, string> = {};
  for (const key of ['key-secret', 'encrypt.key-secret', 'encrypt.format']) {
    const value = level.take(key);
    if (value !== null) runtime[key] = value;
  }
  const further = level.below('backing');
  const below = further === null ? null : readSettingsBelow(further);
  refuseRest(level, 'The layer below does not take the option');
  return { runtime, ...(below === null ? {} : { below }) };
}

function refuseRest(level: Level, sentence: string): void {
  const first = level.rest()[0];
  if (first !== undefined) throw refuse(`${sentence} '${first}'`);
}
