// What a differencing disk says of its parent: the name, and up to eight names for single platforms ("Parent Locator Entry").
import path from 'node:path';
import type { Storage } from '../../block/storage.ts';
import { alignUp, KiB, type HostOffset } from '../../block/units.ts';
import { dynamicHeader, firstLocator, locatorCount, parentLocator, sectorSize, type ParentLocator } from './spec.ts';

/** Names of paths are shorter than this on every system; longer ones are not read. */
const longestName = 64 * KiB;

export interface Locator {
  readonly index: number;
  readonly entry: ParentLocator;
  /** Null: not text (a Mac alias), or outside the file. */
  readonly name: string | null;
}

/** The locators of a header that are in use, with their names. Throws `storage/*` when the file cannot be read. */
export function readLocators(header: Uint8Array, storage: Storage): Locator[] {
  const locators: Locator[] = [];
  for (let index = 0; index < locatorCount; index++) {
    const at = firstLocator + index * parentLocator.size;
    const raw = header.subarray(at, at + parentLocator.size);
    if (raw.every((byte) => byte === 0) || raw.subarray(0, 4).every((byte) => byte === 0)) continue;
    let entry: ParentLocator;
    try {
      entry = parentLocator.parseLoosely(raw);
    } catch {
      // an offset beyond 2^53: the entry leads nowhere
      const code = String.fromCharCode(...raw.subarray(0, 4));
      entry = {
        platform_code: code,
        platform_data_space: 0,
        platform_data_length: 0,
        reserved: 0,
        platform_data_offset: storage.size,
      };
    }
    locators.push({ index, entry, name: readName(entry, storage) });
  }
  return locators;
}

function readName(entry: ParentLocator, storage: Storage): string | null {
  const { platform_data_length: length, platform_data_offset: offset } = entry;
  if (length === 0 || length > longestName || offset + length > storage.size) return null;
  const bytes = new Uint8Array(length);
  storage.readAt(bytes, offset);
  switch (entry.platform_code) {
    case 'W2ru':
    case 'W2ku':
      return utf16Text(bytes, true);
    case 'Wi2r':
    case 'Wi2k':
      return upToNul(Buffer.from(bytes).toString('latin1'));
    case 'MacX':
      return upToNul(Buffer.from(bytes).toString('utf8'));
    default:
      return null;
  }
}

function upToNul(text: string): string | null {
  const end = text.indexOf('\0');
  const name = end < 0 ? text : text.slice(0, end);
  return name === '' ? null : name;
}

function utf16Text(bytes: Uint8Array, little: boolean): string | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let text = '';
  for (let at = 0; at + 2 <= bytes.length; at += 2) text += String.fromCharCode(view.getUint16(at, little));
  return upToNul(text);
}

/** The name of the parent in the header itself; null: none. */
export function unicodeName(header: Uint8Array): string | null {
  const { offset, type } = dynamicHeader.fields.parent_unicode_name;
  return utf16Text(header.subarray(offset, offset + type.width), false);
}

/**
 * Where the parent may be, best first: beside the image as the relative name says, then absolute, then a file of its name in the
 * image's folder. Names of Windows become paths of this host where they can.
 */
export function parentPaths(locators: readonly Locator[], unicode: string | null): string[] {
  const named = (...codes: string[]): string[] =>
    locators.flatMap(({ entry, name }) => (name !== null && codes.includes(entry.platform_code) ? [name] : []));
  const relative = named('W2ru', 'Wi2r').map(relativePath);
  const absolute = [...named('W2ku', 'Wi2k'), ...named('MacX').map(fromUrl)].filter(isHostAbsolute);
  const windows = named('W2ru', 'W2ku', 'Wi2r', 'Wi2k');
  const everything = [...windows, ...(unicode === null ? [] : [unicode]), ...named('MacX').map(fromUrl)];
  const beside = everything.map((name) => name.split(/[\\/]/).at(-1) ?? '');
  const candidates = [...relative, ...absolute, ...beside].filter((name) => name !== '' && !name.includes('\0'));
  return [...new Set(candidates)];
}

function relativePath(name: string): string {
  const parts = name.replaceAll('\\', '/').split('/');
  return parts.filter((part, index) => part !== '.' && !(part === '' && index > 0)).join('/');
}

function isHostAbsolute(name: string): boolean {
  return path.isAbsolute(name);
}

function fromUrl(name: string): string {
  const plain = name.replace(/^file:\/\/(localhost)?/, '');
  try {
    return decodeURIComponent(plain);
  } catch {
    return plain;
  }
}

/** The stored form of the names of a parent: what the header holds, and the bytes that the locators point to. */
export interface StoredNames {
  readonly unicodeName: Uint8Array;
  readonly locators: readonly { readonly code: 'W2ru' | 'W2ku'; readonly bytes: Uint8Array; readonly space: number }[];
}

/**
 * Names for the parent at `parent` (absolute) as the image in the folder `folder` (absolute) records them: relative and absolute. Between two
 * drives of Windows there is no relative name.
 */
export function storedNames(folder: string, parent: string): StoredNames {
  const relative = path.relative(folder, parent);
  const unicode = new Uint8Array(dynamicHeader.fields.parent_unicode_name.type.width);
  unicode.set(utf16Bytes(path.basename(parent), false).subarray(0, unicode.length - 2));
  const locators: { code: 'W2ru' | 'W2ku'; bytes: Uint8Array; space: number }[] = [];
  const add = (code: 'W2ru' | 'W2ku', name: string): void => {
    const bytes = utf16Bytes(name, true);
    locators.push({ code, bytes, space: alignUp(bytes.length, sectorSize) });
  };
  if (!path.isAbsolute(relative)) {
    const windows = relative.split(path.sep).join('\\');
    add('W2ru', windows.startsWith('..') ? windows : `.\\${windows}`);
  }
  add('W2ku', parent);
  return { unicodeName: unicode, locators };
}

function utf16Bytes(text: string, little: boolean): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(i * 2, text.charCodeAt(i), little);
  return bytes;
}

/** Bytes that all names take in the file. */
export function namesLength(names: StoredNames): number {
  return names.locators.reduce((sum, { space }) => sum + space, 0);
}

/** Enters `names` into a header: entries 1 and 2 are ours, the others are emptied. Their bytes stand from `offset` on. */
export function enterNames(header: Uint8Array, names: StoredNames, offset: HostOffset): void {
  dynamicHeader.patch(header, { parent_unicode_name: names.unicodeName });
  header.fill(0, firstLocator, firstLocator + locatorCount * parentLocator.size);
  let at = offset;
  names.locators.forEach(({ code, bytes, space }, index) => {
    const entry = parentLocator.serialise({
      platform_code: code,
      platform_data_space: space,
      platform_data_length: bytes.length,
      platform_data_offset: at,
    });
    header.set(entry, firstLocator + index * parentLocator.size);
    at += space;
  });
}

/** The bytes of all names, each in its room. */
export function namesBytes(names: StoredNames): Uint8Array {
  const bytes = new Uint8Array(namesLength(names));
  let at = 0;
  for (const locator of names.locators) {
    bytes.set(locator.bytes, at);
    at += locator.space;
  }
  return bytes;
}
