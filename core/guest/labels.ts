// The label of a file system, where its superblock says it in a fixed place.
import type { Volume } from './volume.ts';

interface LabelPlace {
  readonly kinds: RegExp;
  readonly offset: number;
  readonly length: number;
}

/** By the on-disk documentation of each: `s_volume_name`, `BS_VolLab`, `sb_fname`, `btrfs_super_block.label`, `volume_name`, LUKS2 `label`. */
const places: readonly LabelPlace[] = [
  { kinds: /^ext[234]/, offset: 1024 + 120, length: 16 },
  { kinds: /^fat(12|16)$/i, offset: 43, length: 11 },
  { kinds: /^fat32$/i, offset: 71, length: 11 },
  { kinds: /^XFS$/, offset: 108, length: 12 },
  { kinds: /^btrfs$/, offset: 0x1_0000 + 0x12b, length: 256 },
  { kinds: /^swap$/, offset: 1024 + 28, length: 16 },
];

/** What FAT writes where there is no label. */
const none = 'NO NAME';

/** Null: it has none, or not in a place that is known here. Throws what reading the image throws. */
export function labelOf(volume: Volume, kind: string): string | null {
  const place = places.find(({ kinds }) => kinds.test(kind));
  if (place === undefined || !volume.holds(place.offset, place.length)) return null;
  const bytes = volume.bytes(place.offset, place.length, 'the label');
  const end = bytes.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)).trim();
  return text === '' || text === none ? null : text;
}
