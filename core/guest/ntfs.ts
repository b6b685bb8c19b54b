// NTFS: which clusters its $Bitmap calls free, unless the volume was not left cleanly.
import type { GuestRange } from '../block/units.ts';
import { KiB } from '../block/units.ts';
import { isImageError } from '../errors/image-error.ts';
import {
  applyFixups,
  FileRecords,
  largestIndex,
  nameIn,
  type AttributeValue,
  type NtfsLayout,
} from './ntfs-records.ts';
import {
  attributeType,
  bootSector,
  fileNumber,
  noClient,
  oemId,
  restartArea,
  restartPage,
  volumeFlags,
  volumeIsClean,
} from './ntfs-spec.ts';
import { clearRuns, damaged, joined, leftAlone, type FileSystem, type Volume } from './volume.ts';

const pieceLength = 64 * KiB;

/** The NTFS of `volume`; null: there is none. Throws what reading the image throws. */
export function ntfsIn(volume: Volume): FileSystem | null {
  if (!volume.holds(0, 512)) return null;
  const head = volume.bytes(0, 512, 'the boot sector');
  const at = bootSector.fields.oem_id.offset;
  if (Buffer.from(head.subarray(at, at + 8)).toString('latin1') !== oemId) return null;
  try {
    const layout = layoutOf(head, volume);
    if (typeof layout === 'string') return leftAlone('ntfs', volume, layout);
    const files = new FileRecords(volume, layout);
    const reason = volumeRefusal(files) ?? logRefusal(files) ?? hibernation(files);
    if (reason !== null) return leftAlone('ntfs', volume, reason);
    return { kind: 'ntfs', volume, refused: null, freeRanges: () => joined(freeClusters(files)) };
  } catch (error) {
    if (!isImageError(error, 'guest/damaged')) throw error;
    return leftAlone('ntfs', volume, error.message);
  }
}

/** The layout, each number checked; or what is wrong, in words. */
function layoutOf(head: Uint8Array, volume: Volume): NtfsLayout | string {
  const fields = bootSector.parse(head);
  const { bytes_per_sector: sector, sectors_per_cluster: perCluster, clusters_per_mft_record: perRecord } = fields;
  const clusterSectors = perCluster >= 0xf4 ? 2 ** (256 - perCluster) : perCluster;
  const clusterSize = sector * clusterSectors;
  const power = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));
  if (sector < 256 || sector > 4096 || !power(sector) || !power(clusterSize) || clusterSize > 2048 * KiB) {
    return 'its cluster size is not possible';
  }
  const recordSize = perRecord >= 0x80 ? 2 ** (256 - perRecord) : perRecord * clusterSize;
  if (!power(recordSize) || recordSize < 512 || recordSize > 64 * KiB) return 'the size of its records is not possible';
  if (!Number.isSafeInteger(fields.number_of_sectors * sector) || fields.number_of_sectors * sector > volume.length) {
    return 'it is larger than its partition';
  }
  const clusters = Math.floor(fields.number_of_sectors / clusterSectors);
  if (clusters >= 2 ** 32) return 'it has too many clusters';
  if (fields.mft_lcn >= clusters) return 'its master file table lies outside';
  return { clusterSize, clusters, mftOffset: fields.mft_lcn * clusterSize, recordSize };
}

/** Offset of the flags in $VOLUME_INFORMATION: behind eight reserved bytes and the version. */
const volumeFlagsOffset = 10;

function volumeRefusal(files: FileRecords): string | null {
  const value = files.value(fileNumber.volume, attributeType.volumeInformation, '');
  if (value?.kind !== 'resident' || value.bytes.length < volumeFlagsOffset + 2) return 'it has no volume information';
  const flags = new DataView(value.bytes.buffer, value.bytes.byteOffset).getUint16(volumeFlagsOffset, true);
  if ((flags & volumeFlags.dirty) !== 0) return 'it is marked as dirty';
  if ((flags & (volumeFlags.chkdskUnderway | volumeFlags.resizeLogFile)) !== 0) return 'a check of it has not ended';
  return null;
}

/** What the log says: empty, or unmounted cleanly. */
function logRefusal(files: FileRecords): string | null {
  const value = files.value(fileNumber.logFile, attributeType.data, '');
  if (value?.kind !== 'runs') return 'it has no log';
  if (value.written === 0) return null;
  let newest: { lsn: bigint; clean: boolean } | null = null;
  let pageSize = 4 * KiB;
  for (let copy = 0; copy < 2; copy++) {
    if (pageSize * (copy + 1) > Math.min(value.size, value.written)) break;
    const page = new Uint8Array(pageSize);
    files.readRuns(value.runs, page, pageSize * copy, 'the log');
    if (page.every((byte) => byte === 0xff)) continue;
    const head = restartPage.parseLoosely(page);
    if (head.magic !== 'RSTR' && head.magic !== 'CHKD') {
      if (copy === 0) return 'its log is not understood';
      continue;
    }
    if (head.system_page_size !== pageSize) {
      if (copy > 0 || head.system_page_size < 512 || head.system_page_size > 64 * KiB)
        return 'its log is not understood';
      pageSize = head.system_page_size;
      copy--;
      continue;
    }
    if (!applyFixups(page, head.usa_ofs, head.usa_count)) continue;
    if (head.restart_area_offset + restartArea.size > page.length) return 'its log is not understood';
    const area = restartArea.parseLoosely(page.subarray(head.restart_area_offset));
    const clean = area.client_in_use_list === noClient || (area.flags & volumeIsClean) !== 0;
    if (newest === null || area.current_lsn > newest.lsn) newest = { lsn: area.current_lsn, clean };
  }
  return newest === null || newest.clean ? null : 'its log has transactions that wait to be replayed';
}

/** Windows sleeps in this volume: what it keeps in memory is not on the disk. */
function hibernation(files: FileRecords): string | null {
  const number = findInRoot(files, 'hiberfil.sys');
  if (number === null) return null;
  const value = files.value(number, attributeType.data, '');
  if (value === null) return null;
  const head = new Uint8Array(4 * KiB);
  if (value.kind === 'resident') head.set(value.bytes.subarray(0, head.length));
  else if (value.written >= head.length) files.readRuns(value.runs, head, 0, 'hiberfil.sys');
  const wakes = ['wake', 'WAKE'].includes(Buffer.from(head.subarray(0, 4)).toString('latin1'));
  return wakes || head.every((byte) => byte === 0)
    ? null
    : 'Windows is hibernated in it (or was shut down with fast startup)';
}

/** The number of a file of the root directory, whose name is compared without regard to case; null: there is none. */
function findInRoot(files: FileRecords, name: string): number | null {
  const root = files.value(fileNumber.root, attributeType.indexRoot, '$I30');
  if (root?.kind !== 'resident') throw damaged('the root directory has no index', files.volume.start);
  const found = findInEntries(root.bytes, 16, name);
  if (found !== null) return found;
  const allocation = files.value(fileNumber.root, attributeType.indexAllocation, '$I30');
  if (allocation === null) return null;
  const blockSize = new DataView(root.bytes.buffer, root.bytes.byteOffset).getUint32(8, true);
  const index = files.wholeValue(allocation, largestIndex, 'the root directory');
  if (blockSize < 512 || blockSize > 64 * KiB)
    throw damaged('the index of the root directory makes no sense', files.volume.start);
  for (let at = 0; at + blockSize <= index.length; at += blockSize) {
    const block = index.subarray(at, at + blockSize);
    const view = new DataView(block.buffer, block.byteOffset, block.length);
    if (Buffer.from(block.subarray(0, 4)).toString('latin1') !== 'INDX') continue;
    if (!applyFixups(block, view.getUint16(4, true), view.getUint16(6, true))) continue;
    const number = findInEntries(block, 24, name);
    if (number !== null) return number;
  }
  return null;
}

/** Looks through the entries of an index node whose header stands at `head`. */
function findInEntries(node: Uint8Array, head: number, name: string): number | null {
  const view = new DataView(node.buffer, node.byteOffset, node.length);
  if (head + 16 > node.length) return null;
  const end = Math.min(node.length, head + view.getUint32(head + 4, true));
  for (let at = head + view.getUint32(head, true); at + 16 <= end;) {
    const length = view.getUint16(at + 8, true);
    const isLast = (view.getUint16(at + 12, true) & 2) !== 0;
    if (isLast || length < 16 || at + length > end) return null;
    if (length >= 82 && nameIn(node, at + 82, node[at + 80] ?? 0).toLowerCase() === name) {
      return view.getUint32(at, true) + view.getUint16(at + 4, true) * 0x1_0000_0000;
    }
    at += length;
  }
  return null;
}

/** Cluster n is bit n of the $Bitmap; set: in use. */
function* freeClusters(files: FileRecords): Generator<GuestRange, void, void> {
  const { volume, layout } = files;
  const value = files.value(fileNumber.bitmap, attributeType.data, '');
  const needed = Math.ceil(layout.clusters / 8);
  if (value === null || sizeOf(value) < needed) throw damaged('the bitmap of clusters is too short', volume.start);
  for (let done = 0; done < needed; done += pieceLength) {
    const piece = new Uint8Array(Math.min(pieceLength, needed - done));
    if (value.kind === 'resident') piece.set(value.bytes.subarray(done, done + piece.length));
    else files.readRuns(value.runs, piece, done, 'the bitmap of clusters');
    const first = done * 8;
    for (const [start, length] of clearRuns(piece, Math.min(piece.length * 8, layout.clusters - first))) {
      yield volume.range((first + start) * layout.clusterSize, length * layout.clusterSize);
    }
  }
}

/** What was really written of a value: the rest would read as free. */
function sizeOf(value: AttributeValue): number {
  return value.kind === 'resident' ? value.bytes.length : Math.min(value.size, value.written);
}
