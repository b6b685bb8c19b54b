// What a description may set beside the file: for any node, and for the nodes of one format.
import type { CacheMode } from '../core/block/file.ts';
import type { OpenOptions } from '../core/formats/open.ts';
import { refuse, type Level } from './description.ts';

/** What is set for any node, and what it means here. */
export interface NodeSettings {
  readonly share: boolean;
  readonly cache: CacheMode | null;
  readonly readOnly: boolean;
  /** Where a verb writes over an existing image: what becomes of room that zeroes take the place of, and whether it looks for them. */
  readonly zeroes: Pick<OpenOptions, 'discard' | 'detectZeroes'>;
}

/**
 * Takes what may be set for any node. `auto-read-only` and `node-name` are checked and change nothing: a verb that writes cannot do with
 * an image that it may only read, and there is no graph in which a node could be looked up by name. Throws `request/invalid-value`.
 */
export function takeNodeSettings(level: Level, writable: boolean): NodeSettings {
  const name = level.take('node-name');
  if (name !== null && !/^[A-Za-z][A-Za-z0-9._-]*$/.test(name)) throw refuse(`Invalid node-name: '${name}'`);
  level.takeBool('auto-read-only');
  const discard = level.takeWord('discard', ['ignore', 'off', 'unmap', 'on'], () => 'Invalid discard option');
  const keeps = discard === null ? !writable : discard === 'ignore' || discard === 'off';
  const detect = level.takeWord('detect-zeroes', ['off', 'on', 'unmap']);
  if (detect === 'unmap' && keeps) {
    throw refuse('setting detect-zeroes to unmap is not allowed without setting discard operation to unmap');
  }
  const direct = level.takeBool('cache.direct') === true;
  const noFlush = level.takeBool('cache.no-flush') === true;
  const readOnly = level.takeBool('read-only') === true;
  const share = level.takeBool('force-share') === true;
  if (writable && readOnly) throw refuse('Block node is read-only');
  if (writable && share) throw refuse('force-share=on can only be used with read-only images');
  return {
    share,
    cache: noFlush ? 'unsafe' : direct ? 'none' : null,
    readOnly,
    zeroes: {
      ...(discard !== null && keeps ? { discard: 'ignore' } : {}),
      ...(detect === 'on' || detect === 'unmap' ? { detectZeroes: detect } : {}),
    },
  };
}

/**
 * What may be set for the file below a format. `aio` is checked and changes nothing: it says how QEMU's threads talk to the system, and
 * what is read and written is the same. Throws `request/invalid-value`.
 */
export function takeFileSettings(level: Level, writable: boolean, above: CacheMode | null): NodeSettings {
  const settings = takeNodeSettings(level, writable);
  const locking = level.takeWord('locking', ['auto', 'on', 'off']);
  const aio = level.takeWord('aio', ['threads', 'native', 'io_uring']);
  const direct = (above ?? settings.cache) === 'none';
  if (aio === 'native' && !direct) {
    throw refuse('aio=native was specified, but it requires cache.direct=on, which was not specified.');
  }
  return { ...settings, share: settings.share || locking === 'off' };
}

type SettingType = 'size' | 'bool' | 'text';

const encryptSettings = { 'encrypt.format': 'text', 'encrypt.key-secret': 'text' } as const;

/** The settings that a format takes from the one who opens, as `runtime` hands them over. */
const formatSettings: Readonly<Record<string, Readonly<Record<string, SettingType>>>> = {
  raw: { offset: 'size', size: 'size' },
  luks: { 'key-secret': 'text' },
  qcow: encryptSettings,
  ova: { disk: 'text' },
  qcow2: { ...encryptSettings, 'lazy-refcounts': 'bool', 'pass-discard-snapshot': 'bool' },
  vpc: { force_size_calc: 'text' },
};

/** Without a stated format: whatever the content turns out to be may be encrypted. */
const unstatedSettings: Readonly<Record<string, SettingType>> = {
  ...formatSettings.raw,
  ...formatSettings.luks,
  ...formatSettings.ova,
  ...encryptSettings,
};

/** Settings that belong to the name of an image: without them it is another disk, or none. */
export const strongSettings: readonly string[] = ['offset', 'size', 'disk', 'key-secret', 'encrypt.key-secret'];

/** Takes the settings of `format` (null: not stated), by name as the driver wants them. Throws `request/invalid-value`. */
export function takeFormatSettings(level: Level, format: string | null): Record<string, string> {
  const runtime: Record<string, string> = {};
  const settings = format === null ? unstatedSettings : (formatSettings[format] ?? {});
  for (const [key, type] of Object.entries(settings)) {
    if (!level.has(key)) continue;
    const value = takeSetting(level, key, type);
    if (value !== null) runtime[key] = value;
  }
  if (runtime.size !== undefined && Number(runtime.size) % 512 !== 0) {
    throw refuse('Specified size is not multiple of 512');
  }
  if (format === 'qcow2') takeQcow2Tuning(level);
  return runtime;
}

function takeSetting(level: Level, key: string, type: SettingType): string | null {
  if (type === 'size') return level.takeSize(key);
  if (type === 'text') return level.take(key);
  const value = level.takeBool(key);
  return value === null ? null : value ? 'on' : 'off';
}

const overlapChecks: readonly string[] = [
  'main-header',
  'active-l1',
  'active-l2',
  'refcount-table',
  'refcount-block',
  'snapshot-table',
  'inactive-l1',
  'inactive-l2',
  'bitmap-directory',
];

/**
 * Settings of qcow2 that tune QEMU's driver and change no result here; what is wrong with them is said as QEMU says it.
 *
 * - `cache-size`, `l2-cache-size`, `l2-cache-entry-size`, `refcount-cache-size`, `cache-clean-interval`: the caches here have bounds of
 *   their own, and hold a table from the moment it is read.
 * - `overlap-check`, `overlap-check.*`: what is about to be written is held against all metadata, whatever is said: that costs nothing
 *   that could be saved, and only ever stops a write that would destroy the image.
 * - `pass-discard-request`, `pass-discard-other`, `discard-no-unref`: `off` is what is done here (clusters that are given up stay in the
 *   file until they are used again); `on` is refused, as `compact` is what gives their room back.
 */
function takeQcow2Tuning(level: Level): void {
  const sizes = ['cache-size', 'l2-cache-size', 'refcount-cache-size'].map((name) => level.takeSize(name));
  if (sizes.every((size) => size !== null)) {
    throw refuse('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
  }
  const [all, tables, counts] = sizes.map((size) => (size === null ? null : Number(size)));
  if (all !== null && all !== undefined) {
    if ((tables ?? 0) > all) throw refuse('l2-cache-size may not exceed cache-size');
    if ((counts ?? 0) > all) throw refuse('refcount-cache-size may not exceed cache-size');
  }
  const piece = Number(level.takeSize('l2-cache-entry-size') ?? 512);
  if (piece < 512 || piece > 2 ** 21 || !Number.isInteger(Math.log2(piece))) {
    throw refuse('L2 cache entry size must be a power of two between 512 and the cluster size');
  }
  const interval = level.takeNumber('cache-clean-interval') ?? 0;
  if (interval < 0 || interval > 0xffff_ffff) throw refuse('Cache clean interval too big');
  takeOverlapCheck(level);
  for (const name of ['pass-discard-request', 'pass-discard-other', 'discard-no-unref']) {
    if (level.takeBool(name) === true) {
      throw refuse(`'${name}=on' is not available: the room of clusters that are given up is given back by 'compact'`);
    }
  }
}

function takeOverlapCheck(level: Level): void {
  const templates = ['none', 'constant', 'cached', 'all'];
  const wrong = (value: string): string =>
    `Unsupported value '${value}' for qcow2 option 'overlap-check'. Allowed are any of the following: none, constant, cached, all`;
  const check = level.takeWord('overlap-check', templates, wrong);
  const template = level.takeWord('overlap-check.template', templates, wrong);
  if (check !== null && template !== null && check !== template) {
    throw refuse(
      `Conflicting values for qcow2 options 'overlap-check' ('${check}') and 'overlap-check.template' ('${template}')`,
    );
  }
  for (const name of overlapChecks) level.takeBool(`overlap-check.${name}`);
}
