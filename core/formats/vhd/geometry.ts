// The two sizes of a VHD: its CHS geometry and its CurrentSize field, and which of them counts.
import { ImageError } from '../../errors/image-error.ts';
import { alignUp } from '../../block/units.ts';
import { largestDisk, sectorSize, type Footer } from './spec.ts';

export interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors_per_track: number;
}

/** The largest geometry. A disk that has it is larger than its geometry can say: CurrentSize counts. */
export const largestGeometry: Geometry = { cylinders: 65_535, heads: 16, sectors_per_track: 255 };

/** Bytes that a geometry addresses. */
export function geometrySize(geometry: Geometry): number {
  return geometry.cylinders * geometry.heads * geometry.sectors_per_track * sectorSize;
}

/** The geometry for a number of sectors; it may address fewer ("Appendix: CHS Calculation"). */
export function geometryFor(sectors: number): Geometry {
  const total = Math.min(sectors, geometrySize(largestGeometry) / sectorSize);
  if (total >= 65_535 * 16 * 63) return cylindersOf(total, 16, 255);
  const tracks = Math.floor(total / 17);
  const heads = Math.max(4, Math.ceil(tracks / 1024));
  if (tracks < heads * 1024 && heads <= 16) return cylindersOf(total, heads, 17);
  if (Math.floor(total / 31) < 16 * 1024) return cylindersOf(total, 16, 31);
  return cylindersOf(total, 16, 63);
}

function cylindersOf(sectors: number, heads: number, perTrack: number): Geometry {
  const cylinders = Math.floor(Math.floor(sectors / perTrack) / heads);
  return { cylinders, heads, sectors_per_track: perTrack };
}

/**
 * The size that a disk gets for the `size` asked, and its geometry. By default the smallest size that a geometry addresses exactly
 * and that is not below `size`; beyond what geometries reach, and when `exact`, whole sectors under the largest geometry.
 * Throws `vhd/too-large` beyond 2040 GiB.
 */
export function roundSize(size: number, exact: boolean): { size: number; geometry: Geometry } {
  const whole = alignUp(size, sectorSize);
  if (whole > largestDisk) throw new ImageError('vhd/too-large', { found: size, allowed: largestDisk });
  let geometry: Geometry = { cylinders: 0, heads: 0, sectors_per_track: 0 };
  if (exact) geometry = largestGeometry;
  else {
    const wanted = Math.min(whole, geometrySize(largestGeometry));
    for (let extra = 0; geometrySize(geometry) < wanted; extra++) geometry = geometryFor(wanted / sectorSize + extra);
  }
  if (isLargest(geometry)) return { size: whole, geometry };
  return { size: geometrySize(geometry), geometry };
}

function isLargest(geometry: Geometry): boolean {
  return geometrySize(geometry) === geometrySize(largestGeometry);
}

/** How the size of a disk may be told: by its maker's habit, or as the user says. */
export type SizeRule = 'maker' | 'chs' | 'current_size';

/**
 * Makers whose disks are as large as CurrentSize says: qemu with force_size, Hyper-V, Disk2vhd, XenServer, XenConverter, Azure,
 * VirtualBox, Virtual Server. Virtual PC, qemu by default and everybody unknown go by the geometry.
 */
const exactMakers: readonly string[] = ['qem2', 'win ', 'd2v ', 'tap', 'CTXS', 'wa', 'vbox', 'vs  '];

/** True when the maker's disks are as large as CurrentSize says. */
export function isExactMaker(creatorApplication: string): boolean {
  return exactMakers.includes(creatorApplication);
}

/** Virtual size in bytes and the field it comes from. Throws `vhd/size` beyond 2040 GiB. */
export function diskSize(values: Footer, rule: SizeRule, file: string): { size: number; from: 'chs' | 'current_size' } {
  const bySectors = values.current_size - (values.current_size % sectorSize);
  const byGeometry = geometrySize(values);
  const geometry =
    rule === 'chs' || (rule === 'maker' && !isExactMaker(values.creator_application) && byGeometry > 0)
      ? !isLargest(values)
      : false;
  const size = geometry ? byGeometry : bySectors;
  if (size > largestDisk) {
    throw new ImageError('vhd/size', { found: size, allowed: largestDisk }, { file, field: 'current_size' });
  }
  return { size, from: geometry ? 'chs' : 'current_size' };
}
