// Formats that are known by name only: what they are called, and what to do instead of opening them here.
import { ImageError } from '../errors/image-error.ts';
import { diskContent } from './raw/content.ts';

/** A format that is recognised and refused. */
export interface Foreign {
  /** The name for people. */
  readonly label: string;
  /** The name that qemu-img has for it, if it has one. */
  readonly name?: string;
  /** What to do with such a file. */
  readonly instead: string;
  /** Do these first and last bytes of a file of `size` bytes belong to it? */
  matches(head: Uint8Array, tail: Uint8Array, size: number): boolean;
}

const starts = (...magics: readonly string[]): Foreign['matches'] => {
  const wanted = magics.map((magic) => Uint8Array.from(magic, (character) => character.charCodeAt(0)));
  return (head) => wanted.some((magic) => magic.every((byte, at) => head[at] === byte));
};

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The trailer of an Apple disk image (UDIF): its magic, version 4, 512 bytes, and a property list that lies within the file. */
function hasUdifTrailer(_head: Uint8Array, tail: Uint8Array, size: number): boolean {
  if (tail.length < 512) return false;
  const trailer = view(tail.subarray(tail.length - 512));
  if (trailer.getUint32(0) !== 0x6b6f6c79 || trailer.getUint32(4) !== 4 || trailer.getUint32(8) !== 512) return false;
  const listEnd = trailer.getBigUint64(216) + trailer.getBigUint64(224);
  return listEnd > 0n && listEnd + 512n <= BigInt(size);
}

/** Version 2 of the copy-on-write files of User Mode Linux, which early QEMU wrote. */
function isCow(head: Uint8Array): boolean {
  return head.length >= 8 && view(head).getUint32(0) === 0x4f4f4f4d && [1, 2, 3].includes(view(head).getUint32(4));
}

function isParallels(head: Uint8Array): boolean {
  return starts('WithoutFreeSpace', 'WithouFreSpacExt')(head, head, 0) && view(head).getUint32(16, true) === 2;
}

function isLuks2(head: Uint8Array): boolean {
  return starts('LUKS\xba\xbe')(head, head, 0) && view(head).getUint16(6) === 2;
}

const convert = (format: string): string => `convert it to raw or qcow2 with qemu-img (-f ${format}) first`;
const asItIs = 'state the format raw (-f raw) to take it byte by byte as it is';

/** In the order in which they are asked. ISO 9660 is not among them: it is raw, as for qemu-img. */
const foreign: readonly Foreign[] = [
  {
    label: 'a cow image of early QEMU',
    name: 'cow',
    instead: 'convert it to raw with a QEMU of version 2.1 or older first',
    matches: isCow,
  },
  { label: 'a Parallels disk', name: 'parallels', instead: convert('parallels'), matches: isParallels },
  { label: 'a Bochs disk', name: 'bochs', instead: convert('bochs'), matches: starts('Bochs Virtual HD Image\0') },
  {
    label: 'a cloop image',
    name: 'cloop',
    instead: convert('cloop'),
    matches: starts('#!/bin/sh\n#V2.0 Format\n'),
  },
  {
    label: 'an encrypted Apple disk image',
    instead: 'convert it with hdiutil on a Mac (hdiutil convert -format UDTO) first',
    matches: starts('encrcdsa', 'cdsaencr'),
  },
  {
    label: 'an Apple disk image (DMG)',
    name: 'dmg',
    instead: 'convert it to raw with qemu-img (-f dmg) or hdiutil (hdiutil convert -format UDTO) first',
    matches: hasUdifTrailer,
  },
  {
    label: 'a LUKS version 2 container',
    instead: `open it with cryptsetup and convert the device that this makes, or ${asItIs}`,
    matches: isLuks2,
  },
  {
    label: 'a volume encrypted by BitLocker',
    instead: `unlock it with dislocker or cryptsetup bitlkOpen and convert what this makes, or ${asItIs}`,
    matches: (head) => starts('-FVE-FS-')(head.subarray(3), head, 0),
  },
  {
    label: 'an EnCase evidence file',
    instead: 'export it to raw with ewfexport first',
    matches: starts('EVF\t\r\n\xff\0', 'LVF\t\r\n\xff\0', 'EVF2\r\n\x81\0', 'LEF2\r\n\x81\0'),
  },
  {
    label: 'a Windows imaging file (WIM)',
    instead: 'apply it to a disk with wimlib-imagex or DISM',
    matches: starts('MSWIM\0\0\0'),
  },
  {
    label: 'a backup archive of Proxmox (VMA)',
    instead: 'take the disks out of it with vma extract',
    matches: starts('VMA\0'),
  },
  {
    label: 'a CHD disk of MAME',
    instead: 'convert it to raw with chdman extracthd first',
    matches: starts('MComprHD'),
  },
];

/**
 * The foreign format that a file is in, or null. A disk that shows a partition table or a file system is never taken for one: it is
 * raw, whatever its first bytes happen to be. Never throws.
 */
export function recogniseForeign(head: Uint8Array, tail: Uint8Array, size: number): Foreign | null {
  if (head.length < 512) return null;
  const found = foreign.find((one) => one.matches(head, tail, size)) ?? null;
  return found === null || diskContent(head) !== null ? null : found;
}

/** Throws `format/foreign` if the file is in a foreign format. */
export function refuseForeign(head: Uint8Array, tail: Uint8Array, size: number): void {
  const found = recogniseForeign(head, tail, size);
  if (found === null) return;
  throw new ImageError('format/foreign', { label: found.label, instead: found.instead });
}

/** Is `name` what qemu-img calls a foreign format? */
export function isForeignName(name: string): boolean {
  return foreign.some((one) => one.name === name);
}

/** Throws `format/foreign-name` if `name` is what qemu-img calls a foreign format. */
export function refuseForeignName(name: string): void {
  const found = foreign.find((one) => one.name === name);
  if (found === undefined) return;
  throw new ImageError('format/foreign-name', { name, label: found.label, instead: found.instead });
}
