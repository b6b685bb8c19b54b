// From a description to what is opened: the file, its format, the settings, and the layers that it names itself.
import { ImageError } from '../core/errors/image-error.ts';
import { hasScheme } from '../core/formats/gate.ts';
import {
  openImage,
  type OpenedBacking,
  type OpenedImage,
  type OpenOptions,
  type SettingsBelow,
} from '../core/formats/open.ts';
import { findDriver } from '../core/formats/registry.ts';
import { Level, refuse, type Description } from './description.ts';
import type { Json } from './json.ts';
import {
  strongSettings,
  takeFileSettings,
  takeFormatSettings,
  takeNodeSettings,
  type NodeSettings,
} from './node-settings.ts';
import { warn } from './print.ts';

/** What a description stands for. */
export interface ReadImage {
  readonly path: string;
  readonly options: OpenOptions;
  /** The description that says all; null: the path does. */
  readonly strong: Json | null;
}

/**
 * Reads a description; `base` is what the command line says besides. A layer that it puts below the image is opened here; the image owns
 * it once it is open. Throws `request/invalid-value`, and what opening throws.
 */
export function readDescription(description: Description, base: OpenOptions): ReadImage {
  return readImage(new Level(description), base);
}

/** A path without the `file:` that may stand before it; then a colon is a colon. Other protocols are not spoken here. */
export function plainPath(name: string): string {
  const prefixed = name.startsWith('file:');
  const path = prefixed ? name.slice('file:'.length) : name;
  if (path === '') throw refuse("The 'file' block driver requires a file name");
  if (!hasScheme(path)) return path;
  if (prefixed) return `./${path}`;
  throw refuse(`Unknown protocol '${path.slice(0, path.indexOf(':'))}'`);
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
  const writable = base.writable === true;
  const settings = takeNodeSettings(level, writable);
  const runtime = takeFormatSettings(level, stated);
  const dataFile = stated === 'qcow2' || stated === null ? readDataFile(level, writable) : null;
  const backing = readBacking(level, stated, base);
  const shown: Record<string, Json> = {};
  for (const key of strongSettings) {
    const given = level.raw(key);
    if (runtime[key] !== undefined && given !== undefined) shown[key] = given;
  }
  const below = readFile(file, writable, settings.cache);
  level.refuseRest(`Block format '${stated ?? 'raw'}' does not support the option`);
  const cache = settings.cache ?? below.cache;
  const opened = backing !== null && !('settings' in backing) ? backing : null;
  const isPlain = Object.keys(shown).length === 0 && (opened === null || opened.backing.node === null);
  return {
    path: below.path,
    options: {
      ...base,
      ...settings.zeroes,
      format: stated,
      ...(settings.share || below.share ? { share: true } : {}),
      ...(cache === null ? {} : { cache }),
      ...(Object.keys(runtime).length === 0 ? {} : { runtime }),
      ...(dataFile === null ? {} : { files: { 'data-file': dataFile } }),
      ...(opened === null ? {} : { backing: opened.backing }),
      ...(backing !== null && 'settings' in backing ? { below: backing.settings } : {}),
    },
    strong: isPlain
      ? null
      : {
          ...shown,
          ...(dataFile === null ? {} : { 'data-file': { driver: 'file', filename: dataFile } }),
          ...(opened === null ? {} : { backing: opened.strong }),
          driver: stated ?? 'raw',
          file: { driver: 'file', filename: below.path },
        },
  };
}

/** `driver=file,filename=…` with nothing above it: the bytes of the file. */
function readPlainFile(level: Level, base: OpenOptions): ReadImage {
  const file = readFile(level, base.writable === true, null);
  return {
    path: file.path,
    options: {
      ...base,
      ...file.zeroes,
      format: 'raw',
      ...(file.share ? { share: true } : {}),
      ...(file.cache === null ? {} : { cache: file.cache }),
    },
    strong: null,
  };
}

type ReadFile = NodeSettings & { readonly path: string };

function readFile(level: Level, writable: boolean, above: NodeSettings['cache']): ReadFile {
  const driver = level.take('driver');
  if (driver !== null && !['file', 'host_device', 'host_cdrom'].includes(driver)) {
    if (findDriver(driver) === null) throw refuse(`Unknown driver '${driver}'`);
    throw refuse(`A '${driver}' image inside another image is not opened here`);
  }
  const filename = level.take('filename');
  const settings = takeFileSettings(level, writable, above);
  level.refuseRest("Block protocol 'file' doesn't support the option");
  if (filename === null || filename === '') throw refuse("The 'file' block driver requires a file name");
  return { ...settings, path: filename };
}

/** `data-file.filename=…`: in place of the name that the image has for its data file; null: not said. */
function readDataFile(level: Level, writable: boolean): string | null {
  const below = level.below('data-file');
  return below === null ? null : readFile(below, writable, null).path;
}

/** A layer that a description puts below, or what it says of the one that the image names. */
type DescribedBacking =
  { readonly backing: OpenedBacking; readonly strong: Json } | { readonly settings: SettingsBelow };

function readBacking(level: Level, format: string | null, base: OpenOptions): DescribedBacking | null {
  if (format !== null && findDriver(format)?.hasBacking !== true) return null;
  const given = level.raw('backing');
  if (given === null || given === '') {
    level.take('backing');
    if (given === '') warn('Use of "backing": "" is deprecated; use "backing": null instead');
    return { backing: { node: null }, strong: null };
  }
  if (given !== undefined) throw refuse(`Cannot find device='${given}' nor node-name='${given}'`);
  const below = level.below('backing');
  if (below === null) return null;
  if (!below.names('file') && !below.has('driver')) return { settings: readSettingsBelow(below) };
  const { path, options, strong } = readImage(below, { ...base, format: null, writable: false });
  const { node, driver } = openBelow(path, options);
  const backing = { node, from: { path, options } };
  return { backing, strong: strong ?? { driver: driver.id, file: { driver: 'file', filename: path } } };
}

/** Throws `gate/backing`, as where the image itself names the layer. */
function openBelow(path: string, options: OpenOptions): OpenedImage {
  try {
    return openImage(path, options);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw new ImageError('gate/backing', { reason: error.message, name: path }, error.where, error);
  }
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
  level.refuseRest('The layer below does not take the option');
  return { runtime, ...(below === null ? {} : { below }) };
}
