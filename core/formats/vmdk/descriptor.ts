// The descriptor: the text that says what an image consists of. Parsed, and edited without touching what is not meant.
import { ImageError, type Where } from '../../errors/image-error.ts';
import { extentLimit, noParent, sectorSize } from './spec.ts';

/** A line of the extent description. Sizes and offsets in bytes. */
export interface ExtentLine {
  readonly access: 'RW' | 'RDONLY' | 'NOACCESS';
  readonly size: number;
  /** FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, SESPARSE; others are refused when they are opened. */
  readonly type: string;
  /** Null: the extent has no file. */
  readonly name: string | null;
  readonly offset: number;
}

/** What a descriptor says. */
export interface Descriptor {
  /** As it stands in the file, one character per byte. */
  readonly text: string;
  readonly cid: number;
  /** `noParent` where there is none. */
  readonly parentCid: number;
  readonly createType: string;
  readonly parentHint: string | null;
  readonly encoding: string | null;
  readonly extents: readonly ExtentLine[];
  /** The disk data base, keys in lower case (`ddb.uuid`, …), and the keys of the header. */
  readonly values: ReadonlyMap<string, string>;
}

/** Names of Windows code pages that TextDecoder does not know under that name. */
const encodingNames: Record<string, string> = {
  'windows-932': 'shift_jis',
  'windows-936': 'gbk',
  'windows-950': 'big5',
};

const accesses: readonly string[] = ['RW', 'RDONLY', 'NOACCESS'];

/**
 * Parses the bytes of a descriptor, up to the first zero byte. Throws `vmdk/descriptor` when it has no createType,
 * `vmdk/descriptor-value` for CIDs that are no numbers, `vmdk/extent-line`, `vmdk/extent-count`.
 */
export function parseDescriptor(bytes: Uint8Array, where: Where): Descriptor {
  const end = bytes.indexOf(0);
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, end < 0 ? bytes.length : end).toString('latin1');
  const raw = new Map<string, string>();
  const lines: string[] = [];
  for (const line of text.split(/\r?\n|\r/)) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    if (/^(?:RW|RDONLY|NOACCESS)\s+\d/.test(trimmed)) {
      if (lines.length >= extentLimit) throw new ImageError('vmdk/extent-count', { allowed: extentLimit }, where);
      lines.push(trimmed);
      continue;
    }
    const equals = trimmed.indexOf('=');
    const key = trimmed.slice(0, Math.max(0, equals)).trim().toLowerCase();
    if (key !== '' && !raw.has(key)) raw.set(key, unquoted(trimmed.slice(equals + 1).trim()));
  }
  const createType = raw.get('createtype');
  if (createType === undefined) throw new ImageError('vmdk/descriptor', {}, where);
  const encoding = raw.get('encoding') ?? null;
  const decode = decoderFor(encoding);
  const values = new Map([...raw].map(([key, value]) => [key, decode(value)]));
  return {
    text,
    cid: parseCid(raw.get('cid'), 'CID', where),
    parentCid: raw.has('parentcid') ? parseCid(raw.get('parentcid'), 'parentCID', where) : noParent,
    createType: decode(createType),
    parentHint: values.get('parentfilenamehint') ?? null,
    encoding,
    extents: lines.map((line) => parseExtent(line, decode, where)).filter(({ size }) => size > 0),
    values,
  };
}

function parseCid(value: string | undefined, key: string, where: Where): number {
  const digits = /^(?:0x)?([0-9a-fA-F]{1,8})$/.exec(value ?? '')?.[1];
  if (digits === undefined) {
    const found = value === undefined ? 'nothing' : `'${value.slice(0, 32)}'`;
    throw new ImageError('vmdk/descriptor-value', { key, found }, { ...where, field: key });
  }
  return Number.parseInt(digits, 16);
}

function unquoted(value: string): string {
  if (!value.startsWith('"')) return value;
  const end = value.indexOf('"', 1);
  return end < 0 ? value.slice(1) : value.slice(1, end);
}

/** `RW 4194304 SPARSE "disk-s001.vmdk"`; flat extents have an offset behind, devices on Windows two more values. */
function parseExtent(line: string, decode: (text: string) => string, where: Where): ExtentLine {
  const invalid = (): ImageError => new ImageError('vmdk/extent-line', { line: decode(line.slice(0, 600)) }, where);
  const open = line.indexOf('"');
  const close = line.indexOf('"', open + 1);
  if (open >= 0 && close < 0) throw invalid();
  const [access = '', sectors = '', kind = '', ...more] = line
    .slice(0, open < 0 ? undefined : open)
    .trim()
    .split(/\s+/);
  const behind =
    open < 0
      ? []
      : line
          .slice(close + 1)
          .trim()
          .split(/\s+/);
  const offsetText = behind[0] ?? '';
  const type = kind.toUpperCase();
  const name = open < 0 ? null : decode(line.slice(open + 1, close));
  const size = Number(sectors) * sectorSize;
  const offset = Number(offsetText) * sectorSize;
  const plain = accesses.includes(access) && /^\d+$/.test(sectors) && type !== '' && more.length === 0;
  if (!plain || !/^\d*$/.test(offsetText) || !Number.isSafeInteger(size) || !Number.isSafeInteger(offset))
    throw invalid();
  if (type !== 'ZERO' && (name === null || name === '')) throw invalid();
  if (type === 'FLAT' ? offsetText === '' : offset !== 0) throw invalid();
  return { access: access as ExtentLine['access'], size, type, name, offset };
}

/** Bytes (one per character) to text. Unknown encodings are read as UTF-8, and what is not UTF-8 as windows-1252. */
function decoderFor(encoding: string | null): (text: string) => string {
  const label = encoding === null ? 'utf-8' : (encodingNames[encoding.toLowerCase()] ?? encoding);
  return (text) => {
    if (isAscii(text)) return text;
    const bytes = Buffer.from(text, 'latin1');
    for (const name of [label, 'utf-8']) {
      try {
        return new TextDecoder(name, { fatal: true }).decode(bytes);
      } catch (error) {
        if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
      }
    }
    return new TextDecoder('windows-1252').decode(bytes);
  };
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** A CID as it is written. */
export function cidText(cid: number): string {
  return cid.toString(16).padStart(8, '0');
}

/** What a new descriptor says. */
export interface NewDescriptor {
  readonly cid: number;
  readonly parentCid: number;
  readonly createType: string;
  readonly parentHint: string | null;
  readonly extents: readonly {
    readonly size: number;
    readonly type: 'FLAT' | 'SPARSE' | 'VMFS';
    readonly name: string;
  }[];
  readonly hardwareVersion: string;
  readonly cylinders: number;
  readonly heads: number;
  readonly adapter: string;
  readonly toolsVersion: string;
  /** Null: none, as qemu-img leaves it. */
  readonly uuid: string | null;
}

/**
 * The text of a new descriptor as qemu-img writes it, one character per byte (UTF-8, which it says where it is not ASCII).
 * Throws `vmdk/name` for names that cannot stand between quotes.
 */
export function newDescriptor(values: NewDescriptor): string {
  const names = [...values.extents.map(({ name }) => name), values.parentHint ?? ''];
  for (const name of names) refuseUnquotable(name);
  const encoded = names.every(isAscii) ? '' : 'encoding="UTF-8"\n';
  const lines = values.extents.map(
    ({ size, type, name }) => `RW ${size / sectorSize} ${type} "${name}"${type === 'FLAT' ? ' 0' : ''}\n`,
  );
  const text =
    `# Disk DescriptorFile\nversion=1\n${encoded}CID=${cidText(values.cid)}\nparentCID=${cidText(values.parentCid)}\n` +
    `createType="${values.createType}"\n` +
    (values.parentHint === null ? '' : `parentFileNameHint="${values.parentHint}"`) +
    `\n# Extent description\n${lines.join('')}\n# The Disk Data Base\n#DDB\n\n` +
    `ddb.virtualHWVersion = "${values.hardwareVersion}"\n` +
    `ddb.geometry.cylinders = "${values.cylinders}"\nddb.geometry.heads = "${values.heads}"\n` +
    `ddb.geometry.sectors = "63"\nddb.adapterType = "${values.adapter}"\nddb.toolsVersion = "${values.toolsVersion}"\n` +
    (values.uuid === null ? '' : `ddb.uuid = "${vmwareUuid(values.uuid)}"\nddb.uuid.image="${values.uuid}"\n`);
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** A UUID as VMware writes it: `60 00 C2 98 5d 08 de f2-a0 14 2e 05 94 9d d8 38`. */
function vmwareUuid(uuid: string): string {
  const bytes = uuid.replaceAll('-', '').match(/../g) ?? [];
  return `${bytes.slice(0, 8).join(' ')}-${bytes.slice(8).join(' ')}`;
}

/** The UUID of the disk: VirtualBox's key, else VMware's; null where there is none (or it is all zero). */
export function diskUuid(descriptor: Descriptor): string | null {
  for (const key of ['ddb.uuid.image', 'ddb.uuid']) {
    const digits = (descriptor.values.get(key) ?? '').replaceAll(/[\s-]/g, '').toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(digits) || /^0+$/.test(digits)) continue;
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }
  return null;
}

function refuseUnquotable(name: string): void {
  if (/["\r\n\0]/.test(name)) throw new ImageError('vmdk/name', { name });
}

/** `text` with another CID. */
export function withCid(text: string, cid: number): string {
  return withField(text, 'CID', cidText(cid));
}

/** `text` with another parent, or none (`hint` null). Throws `vmdk/name` for a name that the text cannot hold. */
export function withParent(text: string, parentCid: number, hint: string | null): string {
  let result = withField(text, 'parentCID', cidText(parentCid));
  const pattern = /^[^\S\r\n]*parentFileNameHint[^\S\r\n]*=.*$/im;
  if (hint === null) return result.replace(pattern, '');
  refuseUnquotable(hint);
  const line = `parentFileNameHint="${Buffer.from(hint, 'utf8').toString('latin1')}"`;
  const encoding = /^[^\S\r\n]*encoding[^\S\r\n]*=[^\S\r\n]*"?([^"\s]*)/im.exec(result)?.[1];
  if (!isAscii(hint) && encoding !== undefined && encoding.toLowerCase() !== 'utf-8') {
    throw new ImageError('vmdk/name', { name: hint });
  }
  if (!isAscii(hint) && encoding === undefined) {
    result = result.replace(/^([^\S\r\n]*CID[^\S\r\n]*=)/im, 'encoding="UTF-8"\n$1');
  }
  if (pattern.test(result)) return result.replace(pattern, () => line);
  // Where qemu-img writes it: in the line after createType, which is empty in an image without a parent.
  return result.replace(/^([^\S\r\n]*createType[^\S\r\n]*=.*?)(\r?\n)(\r?\n)?/im, (_all, before: string, end: string) =>
    before.concat(end, line, end),
  );
}

/** `text` with another size (bytes) of the extent in line `index` of the extents that are larger than 0. */
export function withExtentSize(text: string, index: number, size: number): string {
  let at = 0;
  return text.replace(
    /^([^\S\r\n]*(?:RW|RDONLY|NOACCESS)[^\S\r\n]+)(\d+)([^\S\r\n]+[A-Za-z])/gm,
    (all, before: string, sectors: string, after: string) =>
      Number(sectors) > 0 && at++ === index ? `${before}${size / sectorSize}${after}` : all,
  );
}

/** The lines of extents that are larger than 0: where they stand in `text`, line ends included. */
function extentLines(text: string): { start: number; end: number }[] {
  const pattern = /^[^\S\r\n]*(?:RW|RDONLY|NOACCESS)[^\S\r\n]+(\d+)[^\S\r\n]+[A-Za-z][^\r\n]*(?:\r\n|\n|\r|$)/gm;
  return [...text.matchAll(pattern)]
    .filter((match) => Number(match[1]) > 0)
    .map((match) => ({ start: match.index, end: match.index + match[0].length }));
}

/** `text` without the extents from line `index` on (counted as in `withExtentSize`). */
export function withoutExtents(text: string, index: number): string {
  let result = text;
  for (const { start, end } of extentLines(text).slice(index).reverse()) {
    result = result.slice(0, start) + result.slice(end);
  }
  return result;
}

/** `text` with further extents behind the last one. Throws `vmdk/name`. */
export function withFurtherExtents(
  text: string,
  extents: readonly { size: number; type: string; name: string }[],
): string {
  const at = extentLines(text).at(-1)?.end ?? text.length;
  const end = text.includes('\r\n') ? '\r\n' : '\n';
  const lines = extents.map(({ size, type, name }) => {
    refuseUnquotable(name);
    const latin = Buffer.from(name, 'utf8').toString('latin1');
    return `RW ${size / sectorSize} ${type} "${latin}"${type === 'FLAT' ? ' 0' : ''}${end}`;
  });
  const lead = at > 0 && !/[\r\n]$/.test(text.slice(0, at)) ? end : '';
  return text.slice(0, at) + lead + lines.join('') + text.slice(at);
}

/** `text` with another number of cylinders, if it has one. */
export function withCylinders(text: string, cylinders: number): string {
  return text.replace(/^([^\S\r\n]*ddb\.geometry\.cylinders[^\S\r\n]*=[^\S\r\n]*")[^"\r\n]*"/im, `$1${cylinders}"`);
}

function withField(text: string, key: string, value: string): string {
  return text.replace(new RegExp(`^([^\\S\\r\\n]*${key}[^\\S\\r\\n]*=[^\\S\\r\\n]*)[^\\s]*`, 'im'), `$1${value}`);
}
