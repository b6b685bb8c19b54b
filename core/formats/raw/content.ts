// What stands at the start of a raw disk: a partition table, a file system. Only a name; nothing here is followed.

const text = (head: Uint8Array, offset: number, length: number): string =>
  String.fromCharCode(...head.subarray(offset, offset + length));

const has = (head: Uint8Array, offset: number, magic: string): boolean => text(head, offset, magic.length) === magic;

/** Bytes of the head that are looked at. */
export const contentHead = 72 * 1024;

/** Superblocks and tables by their place and their magic, surest first. */
const signs: readonly (readonly [offset: number, magic: string, name: string])[] = [
  [512, 'EFI PART', 'GPT partition table'],
  [4096, 'EFI PART', 'GPT partition table'],
  [32769, 'CD001', 'ISO 9660 file system'],
  [3, 'NTFS    ', 'NTFS file system'],
  [3, 'EXFAT   ', 'exFAT file system'],
  [82, 'FAT32   ', 'FAT file system'],
  [54, 'FAT16   ', 'FAT file system'],
  [54, 'FAT12   ', 'FAT file system'],
  [0, 'XFSB', 'XFS file system'],
  [65600, '_BHRfS_M', 'Btrfs file system'],
  [1024, 'H+\0\x04', 'HFS Plus file system'],
  [512, 'LABELONE', 'LVM physical volume'],
];

/** The name of what the first bytes of a disk are the start of; null: nothing that is known here. Never throws. */
export function diskContent(head: Uint8Array): string | null {
  const sign = signs.find(([offset, magic]) => has(head, offset, magic));
  if (sign !== undefined) return sign[2];
  if (head[1080] === 0x53 && head[1081] === 0xef) return 'ext2, ext3 or ext4 file system';
  return isPartitioned(head) ? 'MBR partition table' : null;
}

/** A boot sector with at least one partition and no entry that cannot be one. */
function isPartitioned(head: Uint8Array): boolean {
  if (head.length < 512 || head[510] !== 0x55 || head[511] !== 0xaa) return false;
  const view = new DataView(head.buffer, head.byteOffset, 512);
  let used = 0;
  for (let at = 446; at < 510; at += 16) {
    const status = view.getUint8(at);
    if (status !== 0 && status !== 0x80) return false;
    if (view.getUint8(at + 4) === 0) continue;
    if (view.getUint32(at + 8, true) === 0 || view.getUint32(at + 12, true) === 0) return false;
    used++;
  }
  return used > 0;
}
