// FAT12, FAT16 and FAT32: which clusters the file allocation table calls free.
import type { GuestRange } from '../block/units.ts';
import { KiB } from '../block/units.ts';
import { bootSector, bootSignature, cleanBits, oldStateOffset, type BootSector } from './fat-spec.ts';
import { joined, leftAlone, type FileSystem, type Volume } from './volume.ts';

type Width = 12 | 16 | 32;

/** Offsets and lengths in bytes. */
interface FatLayout {
  readonly width: Width;
  readonly tableOffset: number;
  readonly dataOffset: number;
  readonly clusterSize: number;
  readonly clusters: number;
}

/** Bytes of the table read at once: whole entries of every width. */
const pieceLength = 192 * KiB;
const firstCluster = 2;

/** The FAT file system of `volume`; null: there is none. Throws what reading the image throws. */
export function fatIn(volume: Volume): FileSystem | null {
  if (!volume.holds(0, bootSector.size)) return null;
  const head = volume.bytes(0, bootSector.size, 'the boot sector');
  const fields = bootSector.parseLoosely(head);
  if (!isBootSector(fields, head)) return null;
  const layout = layoutOf(fields, volume);
  if (typeof layout === 'string') return leftAlone('fat', volume, layout);
  const kind = `fat${layout.width}`;
  const reason = refusal(fields, head, layout, volume);
  if (reason !== null) return leftAlone(kind, volume, reason);
  return { kind, volume, refused: null, freeRanges: () => joined(freeClusters(volume, layout)) };
}

function isBootSector(fields: BootSector, head: Uint8Array): boolean {
  const { BPB_BytsPerSec: sector, BPB_SecPerClus: perCluster, BPB_Media: media } = fields;
  const jumps = head[0] === 0xe9 || head[0] === 0xeb;
  const powers = [512, 1024, 2048, 4096].includes(sector) && perCluster !== 0 && (perCluster & (perCluster - 1)) === 0;
  const hasTables = fields.BPB_RsvdSecCnt !== 0 && (fields.BPB_NumFATs === 1 || fields.BPB_NumFATs === 2);
  return fields.BS_Sign === bootSignature && jumps && powers && hasTables && (media === 0xf0 || media >= 0xf8);
}

/** The layout, each number checked; or what is wrong, in words. The width follows from the count of clusters. */
function layoutOf(fields: BootSector, volume: Volume): FatLayout | string {
  const { BPB_BytsPerSec: sector, BPB_FATSz16: short } = fields;
  const tableSectors = short === 0 ? fields.BPB_FATSz32 : short;
  const sectors = fields.BPB_TotSec16 === 0 ? fields.BPB_TotSec32 : fields.BPB_TotSec16;
  if (tableSectors === 0 || sectors === 0) return 'its boot sector makes no sense';
  if (short === 0 && (fields.BPB_FSVer !== 0 || fields.BPB_RootEntCnt !== 0))
    return 'its version of FAT32 is not known';
  if (sectors * sector > volume.length) return 'it is larger than its partition';
  const rootSectors = Math.ceil((fields.BPB_RootEntCnt * 32) / sector);
  const firstData = fields.BPB_RsvdSecCnt + fields.BPB_NumFATs * tableSectors + rootSectors;
  const clusters = Math.floor((sectors - firstData) / fields.BPB_SecPerClus);
  if (clusters < 1) return 'its boot sector makes no sense';
  const width: Width = short === 0 ? 32 : clusters < 4085 ? 12 : 16;
  if (clusters > (width === 32 ? 0x0fff_fff5 : 65_525)) return 'it has too many clusters';
  if (((clusters + firstCluster) * width) / 8 > tableSectors * sector) return 'its table is too short';
  const only = width === 32 && (fields.BPB_ExtFlags & 0x80) !== 0 ? fields.BPB_ExtFlags & 0xf : 0;
  if (only >= fields.BPB_NumFATs) return 'the table in use is not there';
  return {
    width,
    tableOffset: (fields.BPB_RsvdSecCnt + only * tableSectors) * sector,
    dataOffset: firstData * sector,
    clusterSize: fields.BPB_SecPerClus * sector,
    clusters,
  };
}

/** Why the table cannot be believed; null: it can. FAT12 has no mark in its table. */
function refusal(fields: BootSector, head: Uint8Array, layout: FatLayout, volume: Volume): string | null {
  const { width, tableOffset } = layout;
  const state = width === 32 ? fields.BS_Reserved1 : (head[oldStateOffset] ?? 0);
  if ((state & 3) !== 0) return 'it was not unmounted cleanly';
  const table = volume.bytes(tableOffset, 8, 'the file allocation table');
  if (table[0] !== fields.BPB_Media) return 'its table does not begin as one';
  if (width === 12) return null;
  const view = new DataView(table.buffer);
  const wanted = width === 32 ? cleanBits.fat32 : cleanBits.fat16;
  const found = width === 32 ? view.getUint32(4, true) : view.getUint16(2, true);
  return (found & wanted) === wanted ? null : 'it was not unmounted cleanly';
}

function* freeClusters(volume: Volume, layout: FatLayout): Generator<GuestRange, void, void> {
  const { width, clusters, clusterSize, dataOffset } = layout;
  const perPiece = (pieceLength * 8) / width;
  const end = clusters + firstCluster;
  const piece = new Uint8Array(pieceLength);
  for (let from = 0; from < end; from += perPiece) {
    const count = Math.min(perPiece, end - from);
    const length = Math.ceil((count * width) / 8);
    volume.readInto(piece.subarray(0, length), layout.tableOffset + (from * width) / 8, 'the file allocation table');
    const isFree = reader(piece, width);
    let first = -1;
    for (let i = Math.max(0, firstCluster - from); i <= count; i++) {
      const free = i < count && isFree(i);
      if (free && first < 0) first = i;
      if (free || first < 0) continue;
      yield volume.range(dataOffset + (from + first - firstCluster) * clusterSize, (i - first) * clusterSize);
      first = -1;
    }
  }
}

/** Whether entry `i` of `piece` is zero. The upper four bits of an entry of FAT32 do not count. */
function reader(piece: Uint8Array, width: Width): (i: number) => boolean {
  const view = new DataView(piece.buffer);
  if (width === 16) return (i) => view.getUint16(i * 2, true) === 0;
  if (width === 32) return (i) => (view.getUint32(i * 4, true) & 0x0fff_ffff) === 0;
  return (i) => {
    const at = i + (i >> 1);
    const pair = (piece[at] ?? 0) | ((piece[at + 1] ?? 0) << 8);
    return ((i & 1) === 0 ? pair & 0xfff : pair >> 4) === 0;
  };
}
