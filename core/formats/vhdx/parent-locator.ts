// The parent locator (2.6.2.6): how a differencing disk says which VHDX it is based on, and where that was.
import path from 'node:path';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { parentLocatorEntry, parentLocatorHeader, vhdxLocator } from './spec.ts';

export interface ParentLocator {
  /** DataWriteGuids that the parent may have: parent_linkage, parent_linkage2. Lower case, without braces. */
  readonly identities: readonly string[];
  /** All pairs as they stand there. */
  readonly pairs: ReadonlyMap<string, string>;
}

/** Reads the item. Throws `vhdx/locator`, `vhdx/locator-type`, `bytes/limit`. */
export function parseParentLocator(item: Uint8Array, where: Where): ParentLocator {
  const { LocatorType, KeyValueCount } = parentLocatorHeader.parse(item, where);
  if (LocatorType !== vhdxLocator) throw new ImageError('vhdx/locator-type', { guid: LocatorType }, where);
  const pairs = new Map<string, string>();
  const end = parentLocatorHeader.size + KeyValueCount * parentLocatorEntry.size;
  if (end > item.length) throw new ImageError('vhdx/locator', { reason: 'its table is longer than the item' }, where);
  for (let index = 0; index < KeyValueCount; index++) {
    const at = parentLocatorHeader.size + index * parentLocatorEntry.size;
    const entry = parentLocatorEntry.parse(item.subarray(at), where);
    const key = text(item, entry.KeyOffset, entry.KeyLength, where);
    if (pairs.has(key)) throw new ImageError('vhdx/locator', { reason: `'${key}' stands there twice` }, where);
    pairs.set(key, text(item, entry.ValueOffset, entry.ValueLength, where));
  }
  const identities = ['parent_linkage', 'parent_linkage2'].flatMap((key) => {
    const value = pairs.get(key);
    return value === undefined ? [] : [value.replace(/^\{|\}$/g, '').toLowerCase()];
  });
  if (identities.length === 0) throw new ImageError('vhdx/locator', { reason: 'it has no parent_linkage' }, where);
  return { identities, pairs };
}

function text(item: Uint8Array, offset: number, length: number, where: Where): string {
  if (length % 2 !== 0 || offset + length > item.length) {
    throw new ImageError('vhdx/locator', { reason: 'a key or value lies outside the item' }, where);
  }
  return new TextDecoder('utf-16le').decode(item.subarray(offset, offset + length)).replace(/\0+$/, '');
}

/** The item for a parent with this DataWriteGuid at these paths. */
export function serialiseParentLocator(identity: string, paths: ReadonlyMap<string, string>): Uint8Array {
  const pairs = [['parent_linkage', `{${identity}}`] as const, ...paths];
  const texts = pairs.map(([key, value]) => [Buffer.from(key, 'utf16le'), Buffer.from(value, 'utf16le')] as const);
  const tableEnd = parentLocatorHeader.size + pairs.length * parentLocatorEntry.size;
  const length = texts.reduce((sum, [key, value]) => sum + key.length + value.length, tableEnd);
  const item = new Uint8Array(length);
  parentLocatorHeader.patch(item, { LocatorType: vhdxLocator, KeyValueCount: pairs.length });
  let end = tableEnd;
  texts.forEach(([key, value], index) => {
    parentLocatorEntry.patch(item.subarray(parentLocatorHeader.size + index * parentLocatorEntry.size), {
      KeyOffset: end,
      ValueOffset: end + key.length,
      KeyLength: key.length,
      ValueLength: value.length,
    });
    item.set(key, end);
    item.set(value, end + key.length);
    end += key.length + value.length;
  });
  return item;
}

const windows = process.platform === 'win32';

/**
 * The paths to try for the parent, in the order of 2.6.2.6.3, in the spelling of this host: relative ones as they are, absolute ones
 * where this host has such names, at last the parent's bare name beside the image.
 */
export function parentPaths({ pairs }: ParentLocator): string[] {
  const candidates: string[] = [];
  const add = (candidate: string | null): void => {
    if (candidate !== null && candidate !== '' && !candidates.includes(candidate)) candidates.push(candidate);
  };
  add(hostRelative(pairs.get('relative_path')));
  const absolute = pairs.get('absolute_win32_path');
  if (windows) add(pairs.get('volume_path') ?? null);
  add(hostAbsolute(absolute));
  for (const key of ['relative_path', 'absolute_win32_path', 'volume_path']) {
    add(path.win32.basename(pairs.get(key) ?? ''));
  }
  return candidates;
}

/** The name of the parent for people: the first path there is. */
export function parentName(locator: ParentLocator): string {
  const { pairs } = locator;
  const relative = hostRelative(pairs.get('relative_path'));
  return relative ?? pairs.get('absolute_win32_path') ?? pairs.get('volume_path') ?? '';
}

function hostRelative(value: string | undefined): string | null {
  if (value === undefined) return null;
  const slashed = windows ? value : value.replaceAll('\\', '/');
  return slashed.replace(/^\.[\\/]/, '');
}

function hostAbsolute(value: string | undefined): string | null {
  if (value === undefined) return null;
  if (windows) return value.replace(/^\\\\\?\\(?=[A-Za-z]:)/, '');
  return value.startsWith('/') ? value : null;
}

/** What to record for the parent at the path `parent` (resolved) of the image `image`: its place from there, and at all. */
export function recordedPaths(image: string, parent: string): Map<string, string> {
  const folder = path.dirname(path.resolve(image));
  const absolute = path.resolve(parent);
  const relative = path.relative(folder, absolute);
  const paths = new Map<string, string>();
  if (!path.isAbsolute(relative)) {
    const backslashed = relative.replaceAll('/', '\\');
    paths.set('relative_path', backslashed.startsWith('..\\') ? backslashed : `.\\${backslashed}`);
  }
  paths.set('absolute_win32_path', windows ? `\\\\?\\${absolute}` : absolute);
  return paths;
}
