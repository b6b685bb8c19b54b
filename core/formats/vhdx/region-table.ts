// The region table (2.2.3): two copies of the list of regions, of which every opener must know BAT and metadata.
import type { Storage } from '../../block/storage.ts';
import { alignUp } from '../../block/units.ts';
import { crc32cWithHole } from '../../bytes/checksum.ts';
import { ImageError } from '../../errors/image-error.ts';
import {
  alignment,
  batRegion,
  headerSectionLength,
  maxRegions,
  metadataRegion,
  regionTableEntry,
  regionTableHeader,
  regionTableLength,
  regionTableOffsets,
  type Header,
} from './spec.ts';

const checksumAt = regionTableHeader.fields.Checksum.offset;

export interface FileRegion {
  readonly guid: string;
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly required: boolean;
}

export interface RegionTable {
  readonly regions: readonly FileRegion[];
  readonly bat: FileRegion;
  readonly metadata: FileRegion;
  /** Which copies have a valid signature and checksum, and whether both say the same. */
  readonly valid: readonly [boolean, boolean];
  readonly same: boolean;
}

const names: Record<string, string> = { [batRegion]: 'BAT', [metadataRegion]: 'metadata' };

/**
 * Reads the region table; the second copy stands in for a damaged first one. Throws `vhdx/region-*`. Regions lie in whole MiB inside
 * the file, over nothing else; `tolerant`: the BAT may reach beyond its end.
 */
export function readRegionTable(storage: Storage, header: Header, tolerant = false): RegionTable {
  const copies = regionTableOffsets.map((offset) => readCopy(storage, offset)) as [
    Uint8Array | null,
    Uint8Array | null,
  ];
  const bytes = copies[0] ?? copies[1];
  const tableOffset = copies[0] === null ? regionTableOffsets[1] : regionTableOffsets[0];
  const where = { file: storage.name, offset: tableOffset };
  if (bytes === null) throw new ImageError('vhdx/region-table', {}, where);
  const regions = parseEntries(bytes, where);
  checkPlaces(storage, header, regions, where, tolerant);
  const find = (guid: string): FileRegion => {
    const region = regions.find((candidate) => candidate.guid === guid);
    if (region === undefined) throw new ImageError('vhdx/region-missing', { name: names[guid] ?? guid }, where);
    return region;
  };
  for (const region of regions) {
    if (region.required && names[region.guid] === undefined) {
      throw new ImageError('vhdx/region-unknown', { guid: region.guid }, where);
    }
  }
  const same = copies[0] !== null && copies[1] !== null && Buffer.compare(copies[0], copies[1]) === 0;
  return {
    regions,
    bat: find(batRegion),
    metadata: find(metadataRegion),
    valid: [copies[0] !== null, copies[1] !== null],
    same,
  };
}

function readCopy(storage: Storage, offset: number): Uint8Array | null {
  const bytes = new Uint8Array(regionTableLength);
  storage.readAt(bytes, offset);
  return isRegionTable(bytes) ? bytes : null;
}

/** True when these 64 KiB have the signature and the checksum of a region table. */
function isRegionTable(bytes: Uint8Array): boolean {
  const values = regionTableHeader.parseLoosely(bytes);
  return values.Signature === 'regi' && values.Checksum === crc32cWithHole(bytes, checksumAt);
}

function parseEntries(bytes: Uint8Array, where: { file: string; offset: number }): FileRegion[] {
  const { EntryCount } = regionTableHeader.parse(bytes, where);
  const regions: FileRegion[] = [];
  const seen = new Set<string>();
  for (let index = 0; index < EntryCount; index++) {
    const at = regionTableHeader.size + index * regionTableEntry.size;
    const entry = regionTableEntry.parse(bytes.subarray(at), { ...where, offset: where.offset + at });
    const name = names[entry.Guid] ?? `{${entry.Guid}}`;
    if (seen.has(entry.Guid)) {
      throw new ImageError('vhdx/region-twice', { name }, { ...where, offset: where.offset + at });
    }
    seen.add(entry.Guid);
    regions.push({
      guid: entry.Guid,
      name,
      offset: entry.FileOffset,
      length: entry.Length,
      required: (entry.Required & 1) !== 0,
    });
  }
  return regions;
}

function checkPlaces(
  storage: Storage,
  header: Header,
  regions: readonly FileRegion[],
  where: { file: string; offset: number },
  tolerant: boolean,
): void {
  for (const region of regions) {
    const refuse = (reason: string): never => {
      const detail = { name: region.name, offset: region.offset, length: region.length, reason };
      throw new ImageError('vhdx/region-place', detail, where);
    };
    if (region.length === 0 || region.offset % alignment !== 0 || region.length % alignment !== 0) {
      refuse('is not in whole MB');
    }
    if (region.offset < headerSectionLength) refuse('lies in the header section');
    const known = names[region.guid] !== undefined && !(tolerant && region.guid === batRegion);
    if (known && region.offset + region.length > storage.size) refuse('reaches beyond the end of the file');
  }
  const log = { name: 'log', offset: header.LogOffset, length: header.LogLength };
  const placed = [log, ...regions].filter((region) => region.length > 0).sort((a, b) => a.offset - b.offset);
  placed.forEach((region, index) => {
    const before = placed[index - 1];
    if (before !== undefined && before.offset + before.length > region.offset) {
      const spell = (one: { offset: number; length: number }): string => `${one.offset}-${one.offset + one.length}`;
      throw new ImageError('vhdx/region-overlap', { first: spell(before), second: spell(region) }, where);
    }
  });
}

/** The 64 KiB of a region table. */
export function serialiseRegionTable(regions: readonly Omit<FileRegion, 'name'>[]): Uint8Array {
  if (regions.length > maxRegions) throw new Error(`${regions.length} regions`);
  const bytes = new Uint8Array(regionTableLength);
  regionTableHeader.patch(bytes, { Signature: 'regi', EntryCount: regions.length });
  regions.forEach((region, index) => {
    regionTableEntry.patch(bytes.subarray(regionTableHeader.size + index * regionTableEntry.size), {
      Guid: region.guid,
      FileOffset: region.offset,
      Length: region.length,
      Required: region.required ? 1 : 0,
    });
  });
  regionTableHeader.patch(bytes, { Checksum: crc32cWithHole(bytes, checksumAt) });
  return bytes;
}

/** The end of the last region or log, whichever comes later: behind it only blocks stand. */
export function endOfRegions(header: Header, table: RegionTable): number {
  const ends = table.regions.map((region) => region.offset + region.length);
  return alignUp(Math.max(headerSectionLength, header.LogOffset + header.LogLength, ...ends), alignment);
}
