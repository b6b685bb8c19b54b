// What else may stand in a volume: recognised by its magic bytes, named, and left alone.
import type { Volume } from './volume.ts';

interface Signature {
  readonly kind: string;
  readonly offset: number;
  /** As latin1 text. */
  readonly magic: string;
}

/** Magic bytes by the documentation of each. */
const signatures: readonly Signature[] = [
  { kind: 'BitLocker', offset: 3, magic: '-FVE-FS-' },
  { kind: 'exFAT', offset: 3, magic: 'EXFAT   ' },
  { kind: 'ReFS', offset: 3, magic: 'ReFS\0\0\0\0' },
  { kind: 'LUKS', offset: 0, magic: 'LUKS\xba\xbe' },
  { kind: 'XFS', offset: 0, magic: 'XFSB' },
  { kind: 'SquashFS', offset: 0, magic: 'hsqs' },
  { kind: 'APFS', offset: 32, magic: 'NXSB' },
  { kind: 'HFS+', offset: 1024, magic: 'H+\0\x04' },
  { kind: 'HFSX', offset: 1024, magic: 'HX\0\x05' },
  { kind: 'F2FS', offset: 1024, magic: '\x10\x20\xf5\xf2' },
  { kind: 'LVM', offset: 512, magic: 'LABELONE' },
  { kind: 'LVM', offset: 0, magic: 'LABELONE' },
  { kind: 'Linux RAID', offset: 0, magic: '\xfc\x4e\x2b\xa9' },
  { kind: 'Linux RAID', offset: 4096, magic: '\xfc\x4e\x2b\xa9' },
  { kind: 'swap', offset: 4096 - 10, magic: 'SWAPSPACE2' },
  { kind: 'swap', offset: 65_536 - 10, magic: 'SWAPSPACE2' },
  { kind: 'suspended Linux', offset: 4096 - 10, magic: 'S1SUSPEND\0' },
  { kind: 'ISO 9660', offset: 0x8001, magic: 'CD001' },
  { kind: 'btrfs', offset: 0x1_0040, magic: '_BHRfS_M' },
  { kind: 'bcachefs or bcache', offset: 4096 + 24, magic: '\xc6\x85\x73\xf6\x4e\x1a\x45\xca' },
];

/** What is recognised in `volume` by name. Throws what reading the image throws. */
export function recognisedIn(volume: Volume): string[] {
  const found = new Set<string>();
  for (const { kind, offset, magic } of signatures) {
    if (!volume.holds(offset, magic.length)) continue;
    const bytes = volume.bytes(offset, magic.length, 'a signature');
    if (Buffer.from(bytes).toString('latin1') === magic) found.add(kind);
  }
  return [...found];
}
