// The index of a tar archive: where each file's bytes are. Headers are read, contents are skipped.
import type { Storage } from '../../block/storage.ts';
import { alignUp, type HostOffset } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { blockSize, checksumPlace, limits, tarHeader, tarType, type TarHeader } from './spec.ts';

/** One file of the archive. */
export interface TarEntry {
  /** As the archive has it. */
  readonly name: string;
  /** Where its headers begin, those of long names included. */
  readonly start: HostOffset;
  /** Where its bytes begin, and how many there are. */
  readonly offset: HostOffset;
  readonly size: number;
  /** `other`: a folder, a link, a device; `sparse`: a file with holes left out. */
  readonly kind: 'file' | 'sparse' | 'other';
}

export type TarSource = Pick<Storage, 'name' | 'size' | 'readAt'>;

/** What headers before an entry say of it. */
interface Said {
  readonly start: HostOffset;
  name: string | null;
  size: number | null;
  sparse: boolean;
}

/**
 * The entries, one by one. Stops at a block of zeroes or at the end of the file. Throws `ova/tar-*` for what is no header, for names and
 * sizes beyond the limits, and for an entry that goes on past the end of the file; `storage/*`.
 */
export function* tarEntries(source: TarSource): Generator<TarEntry, void, void> {
  const block = new Uint8Array(blockSize);
  let at = 0;
  let entries = 0;
  let said: Said | null = null;
  for (let headers = 0; at < source.size; headers++) {
    const where = { file: source.name, offset: at };
    if (headers >= limits.headers || entries >= limits.entries) {
      throw new ImageError('ova/tar-many', { allowed: limits.entries }, where);
    }
    if (at + blockSize > source.size) throw new ImageError('ova/tar-cut', { size: source.size }, where);
    source.readAt(block, at);
    if (block.every((byte) => byte === 0)) return;
    const header = parseHeader(block, where);
    said ??= { start: at, name: null, size: null, sparse: false };
    const isMetadata = ['x', 'g', 'L', 'K'].includes(header.typeflag);
    const size = isMetadata ? sizeOf(header, where) : (said.size ?? sizeOf(header, where));
    const offset = at + blockSize;
    const end = offset + size;
    const name = isMetadata ? header.typeflag : (said.name ?? nameOf(header));
    if (!Number.isSafeInteger(end) || end > source.size) {
      throw new ImageError('ova/tar-truncated', { name, end, size: source.size }, { ...where, field: 'size' });
    }
    if (isMetadata) {
      readMetadata(source, header.typeflag, { offset, size }, said);
    } else {
      yield { name, start: said.start, offset, size, kind: kindOf(header, said) };
      entries++;
      said = null;
    }
    at = alignUp(end, blockSize);
  }
}

function parseHeader(block: Uint8Array, where: Where): TarHeader {
  const header = tarHeader.parse(block, where);
  const stated = parseOctal(header.chksum);
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < blockSize; i++) {
    const inField = i >= checksumPlace.offset && i < checksumPlace.offset + checksumPlace.length;
    const byte = inField ? 0x20 : (block[i] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  if (stated === null || (stated !== unsigned && stated !== signed)) {
    throw new ImageError('ova/tar-header', { found: header.chksum }, { ...where, field: 'chksum' });
  }
  return header;
}

function parseOctal(text: string): number | null {
  const digits = text.trim();
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : null;
}

/** Octal digits, or base 256 behind a set top bit. */
function sizeOf(header: TarHeader, where: Where): number {
  const field = header.size;
  const first = field[0] ?? 0;
  if ((first & 0x80) === 0) {
    const text = Buffer.from(field).toString('latin1').replace(/\0.*$/s, '');
    const size = text.trim() === '' ? 0 : parseOctal(text);
    if (size === null) throw new ImageError('ova/tar-size', { found: text }, { ...where, field: 'size' });
    return size;
  }
  let size = first & 0x7f;
  for (const byte of field.subarray(1)) size = size * 256 + byte;
  if (!Number.isSafeInteger(size)) {
    throw new ImageError('ova/tar-size', { found: Buffer.from(field).toString('hex') }, { ...where, field: 'size' });
  }
  return size;
}

/** Old GNU archives have other things where ustar has the prefix. */
function nameOf(header: TarHeader): string {
  const usesPrefix = header.magic === 'ustar' && header.prefix !== '';
  const latin = usesPrefix ? `${header.prefix}/${header.name}` : header.name;
  return Buffer.from(latin, 'latin1').toString('utf8');
}

function kindOf({ typeflag, name }: TarHeader, said: Said): TarEntry['kind'] {
  if (said.sparse || typeflag === tarType.gnuSparse) return 'sparse';
  const plain: readonly string[] = [tarType.file, tarType.oldFile, tarType.contiguous];
  // Before ustar a folder was a file whose name ends in a slash.
  return plain.includes(typeflag) && !name.endsWith('/') ? 'file' : 'other';
}

/** Takes over what a header that stands for the next entry says. Names in global pax headers make no sense and are not looked at. */
function readMetadata(source: TarSource, type: string, place: { offset: number; size: number }, said: Said): void {
  const where = { file: source.name, offset: place.offset };
  if (place.size > limits.metadata) {
    throw new ImageError('ova/tar-metadata', { found: place.size, allowed: limits.metadata }, where);
  }
  if (type === tarType.paxGlobal || type === tarType.gnuLongLink) return;
  const content = new Uint8Array(place.size);
  source.readAt(content, place.offset);
  if (type === tarType.gnuLongName) {
    const end = content.indexOf(0);
    said.name = Buffer.from(end < 0 ? content : content.subarray(0, end)).toString('utf8');
    return;
  }
  for (const [key, value] of paxRecords(content, where)) {
    if (key === 'path') said.name = value;
    else if (key === 'size') said.size = paxSize(value, where);
    else if (key.startsWith('GNU.sparse.')) said.sparse = true;
  }
}

function paxSize(value: string, where: Where): number {
  const size = /^[0-9]{1,16}$/.test(value) ? Number(value) : NaN;
  if (!Number.isSafeInteger(size)) throw new ImageError('ova/tar-size', { found: value }, { ...where, field: 'size' });
  return size;
}

/** `LENGTH KEY=VALUE\n`, the length counting the whole record. */
function* paxRecords(content: Uint8Array, where: Where): Generator<readonly [string, string], void, void> {
  for (let at = 0; at < content.length && content[at] !== 0;) {
    const blank = content.indexOf(0x20, at);
    const digits = blank < 0 ? '' : Buffer.from(content.subarray(at, blank)).toString('latin1');
    const length = /^[0-9]{1,6}$/.test(digits) ? Number(digits) : 0;
    const record = Buffer.from(content.subarray(blank + 1, at + length)).toString('utf8');
    const equals = record.indexOf('=');
    if (length <= digits.length + 1 || at + length > content.length || equals < 0 || !record.endsWith('\n')) {
      throw new ImageError('ova/tar-pax', {}, { ...where, offset: (where.offset ?? 0) + at });
    }
    yield [record.slice(0, equals), record.slice(equals + 1, -1)];
    at += length;
  }
}

/** Is this the head of an archive whose first file is an OVF descriptor? Never throws. */
export function startsWithDescriptor(head: Uint8Array, size: number): boolean {
  const source: TarSource = {
    name: '',
    size,
    readAt(into, offset) {
      if (offset + into.length > head.length) throw new ImageError('ova/tar-cut', { size: head.length });
      into.set(head.subarray(offset, offset + into.length));
    },
  };
  try {
    for (const entry of tarEntries(source)) return entry.kind === 'file' && /\.ovf$/i.test(entry.name);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
  }
  return false;
}
