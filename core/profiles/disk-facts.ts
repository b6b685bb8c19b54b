// What rules are held against: an image's info, and what its partition table and file systems say of the guest.
import { isZero } from '../block/copy/zeroes.ts';
import type { BlockNode } from '../block/node.ts';
import { readGuest } from '../block/read.ts';
import { MiB } from '../block/units.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FactTree } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import { fileSystemsOf } from '../guest/file-systems.ts';
import { readPartitionTable } from '../guest/partitions.ts';
import type { Job } from '../job.ts';
import { info, type ImageInfo } from '../operations/info.ts';

/** What stands on the guest's disk. */
export interface GuestFacts {
  /** Null: the disk has no partition table. */
  readonly table: 'mbr' | 'gpt' | null;
  /** There is a partition that UEFI starts from. */
  readonly efiSystemPartition: boolean;
  /** The file system over the whole disk; null: none, or the disk is partitioned. */
  readonly wholeDisk: string | null;
  /** Every file system and container of file systems, without repetition. */
  readonly kinds: readonly string[];
  /** Not one byte of the first MiB is other than zero: nothing has been installed. */
  readonly blank: boolean;
}

/** Plain data. Sizes in bytes. */
export interface DiskFacts {
  readonly path: string;
  readonly format: string;
  /** VHD, VHDX: fixed, dynamic, differencing; VDI: static, dynamic, differencing; VMDK: its create type; null: there is only one. */
  readonly subformat: string | null;
  readonly virtualSize: number;
  readonly fileLength: number;
  /** The host gives the files of the image less room than they are long; null: this host's files say nothing about it. */
  readonly sparse: boolean | null;
  readonly backing: string | null;
  readonly dataFile: string | null;
  readonly encrypted: boolean;
  /** VMDK: the adapter that the descriptor names. */
  readonly adapter: string | null;
  /** VHD: the size field of the footer. */
  readonly currentSize: number | null;
  /** VHD: its size is that of its geometry, so that it cannot have every size. */
  readonly sizedByGeometry: boolean;
  /** Null: the disk could not be read; `guestProblem` says why. */
  readonly guest: GuestFacts | null;
  readonly guestProblem: string | null;
}

/** The GPT type of an EFI system partition, and its byte in an MBR. */
const efiTypes: readonly string[] = ['c12a7328-f81f-11d2-ba4b-00a0c93ec93b', 'ef'];

/** Reads what the rules need of the image at `path`. Throws what `info` throws; a guest that cannot be read is no fault. */
export async function readDiskFacts(file: string, options: OpenOptions, job: Job): Promise<DiskFacts> {
  const [image] = await info({ path: file, options, chain: false }, job);
  if (image === undefined) throw new Error(`${file}: info said nothing`);
  return { ...factsOf(image), ...lookInside(file, options) };
}

function factsOf(image: ImageInfo): Omit<DiskFacts, 'guest' | 'guestProblem'> {
  const specific = image.specific?.data ?? {};
  const further = image.further ?? {};
  const files = image.files.filter(({ role }) => role !== 'data-file');
  return {
    path: image.path,
    format: image.format,
    subformat: image.format === 'vmdk' ? createTypeOf(further, specific) : text(further.subformat),
    virtualSize: image.virtualSize,
    fileLength: files.reduce((sum, { length }) => sum + length, 0),
    sparse: process.platform === 'win32' ? files.some(({ length, allocated }) => allocated < length) : null,
    backing: image.backing?.path ?? null,
    dataFile: text(specific['data-file']),
    encrypted: image.encrypted,
    adapter: text(further['adapter-type']),
    currentSize: typeof further['current-size'] === 'number' ? further['current-size'] : null,
    sizedByGeometry: further['size-from'] === 'geometry',
  };
}

function createTypeOf(further: FactTree, specific: FactTree): string | null {
  return text(further['descriptor-create-type']) ?? text(specific['create-type']);
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The guest's side. What cannot be opened or read (a missing parent, a damaged table) is told, not thrown. */
function lookInside(file: string, options: OpenOptions): Pick<DiskFacts, 'guest' | 'guestProblem'> {
  let node: BlockNode | null = null;
  try {
    ({ node } = openImage(file, options));
    return { guest: guestFacts(node), guestProblem: null };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return { guest: null, guestProblem: error.message };
  } finally {
    node?.close();
  }
}

function guestFacts(node: BlockNode): GuestFacts {
  const table = readPartitionTable(node);
  const found = fileSystemsOf(node);
  const kinds = [...new Set(found.map(({ fileSystem }) => fileSystem.kind))].filter((kind) => kind !== 'unknown');
  return {
    table: table?.kind ?? null,
    efiSystemPartition: table?.partitions.some(({ type }) => efiTypes.includes(type)) ?? false,
    wholeDisk: found.find(({ partition }) => partition === null)?.fileSystem.kind ?? null,
    kinds,
    blank: table === null && found.length === 0 && isBlank(node),
  };
}

/** Nothing stands at the start of the disk. */
function isBlank(node: BlockNode): boolean {
  const start = Buffer.alloc(Math.min(MiB, node.size));
  readGuest(node, start, 0);
  return isZero(start, 0, start.length);
}
