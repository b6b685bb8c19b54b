// Address arithmetic of VMDK: tables for a size, the layout of a new extent, names and sizes of split extents, geometry.
import { alignUp, GiB } from '../../block/units.ts';
import { hostedTableEntries, sectorSize } from './spec.ts';

/** Geometry of the sparse extents that are created here: grains of 64 KiB, 512 of them to a table. Sectors. */
export const newGrainSectors = 128;
export const newGrainSize = newGrainSectors * sectorSize;
/** Where a new extent has its descriptor and how many sectors that may take. */
export const newDescriptorSector = 1;
export const newDescriptorSectors = 20;

/** Where the parts of a new hosted sparse extent stand, in sectors (as qemu-img lays it out). */
export interface HostedLayout {
  readonly tables: number;
  readonly directorySectors: number;
  readonly tableSectors: number;
  readonly rgdOffset: number;
  readonly gdOffset: number;
  /** First grain. */
  readonly overHead: number;
}

/** Number of grain tables for `size` bytes in grains of `grainSize` bytes, `entries` to a table. */
export function tablesFor(size: number, grainSize: number, entries: number): number {
  return Math.ceil(Math.ceil(size / grainSize) / entries);
}

/** Layout of a new sparse extent of `size` bytes: descriptor, redundant directory and tables, directory and tables, grains. */
export function hostedLayout(size: number): HostedLayout {
  const tables = tablesFor(size, newGrainSize, hostedTableEntries);
  const tableSectors = (hostedTableEntries * 4) / sectorSize;
  const directorySectors = Math.ceil((tables * 4) / sectorSize);
  const rgdOffset = newDescriptorSector + newDescriptorSectors;
  const gdOffset = rgdOffset + directorySectors + tables * tableSectors;
  const end = gdOffset + directorySectors + tables * tableSectors;
  return { tables, directorySectors, tableSectors, rgdOffset, gdOffset, overHead: alignUp(end, newGrainSectors) };
}

/** First grain of a new stream, in sectors: header and descriptor, rounded up to a grain. */
export const streamOverHead = newGrainSectors;

/** Bytes that end a stream: directory marker, directory, footer marker, footer, end-of-stream marker. */
export function streamTrailerLength(tables: number): number {
  return sectorSize + alignUp(tables * 4, sectorSize) + 3 * sectorSize;
}

const splitSize = 2 * GiB;

/** Sizes of the extents of a disk of `size` bytes whose files hold 2 GiB at most. */
export function splitSizes(size: number): number[] {
  const sizes: number[] = [];
  for (let at = 0; at < size; at += splitSize) sizes.push(Math.min(splitSize, size - at));
  return sizes;
}

/** The file name at the end of `name`, as qemu-img finds it: after the last slash, else backslash, else colon. */
export function baseName(name: string): string {
  for (const separator of ['/', '\\', ':']) {
    const at = name.lastIndexOf(separator);
    if (at >= 0) return name.slice(at + 1);
  }
  return name;
}

/** Name of an extent file beside the descriptor `name`: `disk-flat.vmdk`, `disk-f001.vmdk`, `disk-s001.vmdk`. */
export function siblingName(name: string, kind: 'flat' | 'f' | 's', index: number): string {
  const base = baseName(name);
  const dot = base.lastIndexOf('.');
  const [prefix, ending] = dot < 0 ? [base, ''] : [base.slice(0, dot), base.slice(dot)];
  return kind === 'flat' ? `${prefix}-flat${ending}` : `${prefix}-${kind}${String(index).padStart(3, '0')}${ending}`;
}

/** Heads of the geometry in the descriptor for an adapter; VMware works with 255 for everything but ide. */
export function headsFor(adapter: string): number {
  return adapter === 'ide' ? 16 : 255;
}

/** Cylinders of a disk of `size` bytes with 63 sectors to a track. */
export function cylindersFor(size: number, heads: number): number {
  return Math.floor(size / (63 * heads * sectorSize));
}
