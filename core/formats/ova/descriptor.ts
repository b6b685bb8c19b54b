// The OVF descriptor (DSP0243 1.x, and the drafts before it): which files a package has, which of them are disks, what the machine is called.
import { SaxesParser, type SaxesTagNS } from 'saxes';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { limits } from './spec.ts';

/** An element File of References (section 7.1). */
export interface OvfFile {
  readonly id: string;
  readonly href: string;
  /** Bytes as stated; null: not stated. */
  readonly size: number | null;
  /** `gzip`, …; null: stored as it is. */
  readonly compression: string | null;
  /** The file was cut into chunks of so many bytes; null: it was not. */
  readonly chunkSize: number | null;
}

/** An element Disk of DiskSection (section 9.1). */
export interface OvfDisk {
  readonly id: string;
  /** Null: an empty disk, for which there is no file. */
  readonly fileRef: string | null;
  /** Bytes; null: not stated as a number (a property of the deployment decides). */
  readonly capacity: number | null;
  /** URI of the format; null: not stated. */
  readonly format: string | null;
  readonly parentRef: string | null;
}

/** An element VirtualSystem. */
export interface OvfSystem {
  readonly id: string;
  readonly name: string | null;
}

export interface OvfDescriptor {
  readonly files: readonly OvfFile[];
  readonly disks: readonly OvfDisk[];
  readonly systems: readonly OvfSystem[];
}

/**
 * Reads a descriptor. There are no entities but those of XML itself, and a document type is refused. Throws `ova/xml` for what is not
 * well formed or not an envelope, `ova/descriptor-many` beyond our limits, `ova/value` for attributes that make no sense.
 */
export function parseDescriptor(bytes: Uint8Array, where: Where): OvfDescriptor {
  const parser = new SaxesParser({ xmlns: true, position: false });
  const reading = new Reading(where);
  const refuse = (reason: string): never => {
    throw new ImageError('ova/xml', { reason }, where);
  };
  parser.on('doctype', () => refuse('it has a document type declaration'));
  parser.on('error', (error) => refuse(error.message));
  parser.on('opentag', (tag) => reading.open(tag));
  parser.on('closetag', () => reading.close());
  parser.on('text', (text) => reading.text(text));
  parser.on('cdata', (text) => reading.text(text));
  parser.write(decode(bytes, where)).close();
  return reading.result();
}

/** UTF-8, or UTF-16 behind a byte order mark. */
function decode(bytes: Uint8Array, where: Where): string {
  const [first, second] = bytes;
  const encoding =
    first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8';
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    throw new ImageError('ova/xml', { reason: `it is not ${encoding.toUpperCase()}` }, where);
  }
}

/** What has been read so far. Elements are told by their local names: the drafts of OVF use other namespaces. */
class Reading {
  readonly #where: Where;
  readonly #path: string[] = [];
  readonly #files = new Map<string, OvfFile>();
  readonly #disks = new Map<string, OvfDisk>();
  readonly #systems: { id: string; name: string | null }[] = [];
  #text = '';

  constructor(where: Where) {
    this.#where = where;
  }

  open(tag: SaxesTagNS): void {
    const { local } = tag;
    const parent = this.#path.at(-1);
    if (parent === undefined && local !== 'Envelope') {
      throw new ImageError('ova/xml', { reason: `its root is ${local}, not Envelope` }, this.#where);
    }
    if (this.#path.length >= limits.depth) this.#tooMany('levels of elements', limits.depth);
    this.#path.push(local);
    this.#text = '';
    if (local === 'File' && parent === 'References') this.#file(tag);
    else if (local === 'Disk' && (parent === 'DiskSection' || parent === 'Section')) this.#disk(tag);
    // The drafts call a virtual system Content.
    else if (local === 'VirtualSystem' || local === 'Content') this.#system(tag);
  }

  close(): void {
    const local = this.#path.pop();
    const parent = this.#path.at(-1);
    const system = this.#systems.at(-1);
    const inSystem = parent === 'VirtualSystem' || parent === 'Content';
    if (local === 'Name' && inSystem && system !== undefined) system.name = this.#text.trim();
    this.#text = '';
  }

  text(text: string): void {
    if (this.#path.at(-1) === 'Name' && this.#text.length < 4096) this.#text += text.slice(0, 4096);
  }

  result(): OvfDescriptor {
    return { files: [...this.#files.values()], disks: [...this.#disks.values()], systems: this.#systems };
  }

  #file(tag: SaxesTagNS): void {
    const file: OvfFile = {
      id: this.#required(tag, 'id'),
      href: this.#required(tag, 'href'),
      size: this.#number(tag, 'size'),
      compression: attribute(tag, 'compression') === 'identity' ? null : attribute(tag, 'compression'),
      chunkSize: this.#number(tag, 'chunkSize'),
    };
    if (file.chunkSize === 0) this.#bad(tag, 'chunkSize', '0');
    if (this.#files.has(file.id)) this.#bad(tag, 'id', file.id);
    this.#files.set(file.id, file);
    if (this.#files.size > limits.files) this.#tooMany('files', limits.files);
  }

  #disk(tag: SaxesTagNS): void {
    const id = this.#required(tag, 'diskId');
    if (this.#disks.has(id)) this.#bad(tag, 'diskId', id);
    this.#disks.set(id, {
      id,
      fileRef: attribute(tag, 'fileRef'),
      capacity: this.#capacity(tag),
      format: attribute(tag, 'format'),
      parentRef: attribute(tag, 'parentRef'),
    });
    if (this.#disks.size > limits.disks) this.#tooMany('disks', limits.disks);
  }

  #system(tag: SaxesTagNS): void {
    this.#systems.push({ id: attribute(tag, 'id') ?? '', name: null });
    if (this.#systems.length > limits.systems) this.#tooMany('virtual systems', limits.systems);
  }

  #required(tag: SaxesTagNS, name: string): string {
    const value = attribute(tag, name);
    if (value === null || value === '') this.#bad(tag, name, value ?? '');
    return value;
  }

  #number(tag: SaxesTagNS, name: string): number | null {
    const value = attribute(tag, name)?.trim();
    if (value === undefined || value === '') return null;
    if (!/^[0-9]+$/.test(value) || !Number.isSafeInteger(Number(value))) this.#bad(tag, name, value);
    return Number(value);
  }

  /** The capacity in bytes. `${name}` refers to a property. */
  #capacity(tag: SaxesTagNS): number | null {
    const value = attribute(tag, 'capacity')?.trim();
    if (value === undefined || /^\$\{.*\}$/.test(value)) return null;
    const units = attribute(tag, 'capacityAllocationUnits') ?? 'byte';
    const factor = unitBytes(units);
    if (factor === null) this.#bad(tag, 'capacityAllocationUnits', units);
    const bytes = /^[0-9]+$/.test(value) ? Number(value) * factor : NaN;
    if (!Number.isSafeInteger(bytes)) this.#bad(tag, 'capacity', value);
    return bytes;
  }

  #bad(tag: SaxesTagNS, name: string, found: string): never {
    throw new ImageError('ova/value', { element: tag.local, name, found }, { ...this.#where, field: name });
  }

  #tooMany(what: string, allowed: number): never {
    throw new ImageError('ova/descriptor-many', { what, allowed }, this.#where);
  }
}

function attribute(tag: SaxesTagNS, name: string): string | null {
  return Object.values(tag.attributes).find(({ local, prefix }) => local === name && prefix !== 'xmlns')?.value ?? null;
}

const oldUnits: Readonly<Record<string, number>> = {
  byte: 1,
  bytes: 1,
  kilobytes: 2 ** 10,
  megabytes: 2 ** 20,
  gigabytes: 2 ** 30,
  terabytes: 2 ** 40,
};

/** Bytes that a programmatic unit of DSP0004 (appendix C) stands for: `byte * 2^30`, `byte * 1024`, and the names of older descriptors. */
export function unitBytes(units: string): number | null {
  const text = units.trim().toLowerCase();
  const known = oldUnits[text];
  if (known !== undefined) return known;
  const match = /^byte\s*\*\s*([0-9]{1,15})\s*(?:\^\s*([0-9]{1,2}))?$/.exec(text);
  if (match === null) return null;
  const factor = Number(match[1]) ** Number(match[2] ?? 1);
  return Number.isSafeInteger(factor) ? factor : null;
}
