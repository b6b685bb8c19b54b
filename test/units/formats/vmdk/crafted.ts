// Images of kinds that no program here makes, byte by byte from the specification: ESX server sparse, seSparse, their descriptors.
import fs from 'node:fs';
import path from 'node:path';

const sector = 512;

/** Grain number to its bytes; what is missing is not allocated, 'zero' is declared zero. */
export type Grains = ReadonlyMap<number, Uint8Array | 'zero' | 'unmapped'>;

/** A descriptor around `lines`. */
export function descriptorText(createType: string, lines: readonly string[], more = ''): string {
  return [
    '# Disk DescriptorFile',
    'version=1',
    'CID=11223344',
    'parentCID=ffffffff',
    `createType="${createType}"`,
    more,
    '# Extent description',
    ...lines,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    'ddb.adapterType = "lsilogic"',
    '',
  ].join('\n');
}

export function writeDescriptorFile(folder: string, name: string, text: string | Buffer): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, text);
  return file;
}

/** "COWD": header of four sectors, directory at sector 4, tables of 4096 entries only where there are grains. */
export function cowdFile(sectors: number, grainSectors: number, grains: Grains): Buffer {
  const tables = Math.ceil(sectors / grainSectors / 4096);
  const directorySectors = Math.ceil((tables * 4) / sector);
  const header = Buffer.alloc((4 + directorySectors) * sector);
  header.write('COWD', 0, 'latin1');
  const numbers = [1, 3, sectors, grainSectors, 4, tables];
  numbers.forEach((value, i) => header.writeUInt32LE(value, 4 + 4 * i));
  header.writeUInt32LE(63, 40);
  let next = header.length / sector;
  const parts: Buffer[] = [];
  const tableOf = new Map<number, Buffer>();
  for (const [grain, bytes] of grains) {
    if (typeof bytes === 'string') throw new Error('COWD has no zeroed grains');
    const number = Math.floor(grain / 4096);
    let table = tableOf.get(number);
    if (table === undefined) {
      table = Buffer.alloc(4096 * 4);
      tableOf.set(number, table);
      header.writeUInt32LE(next, 4 * sector + 4 * number);
      parts.push(table);
      next += table.length / sector;
    }
    table.writeUInt32LE(next, 4 * (grain % 4096));
    const data = Buffer.alloc(grainSectors * sector);
    data.set(bytes);
    parts.push(data);
    next += grainSectors;
  }
  header.writeUInt32LE(next, 28);
  return Buffer.concat([header, ...parts]);
}

/** seSparse: grains of 4 KiB, tables of 4096 entries of 64 bits. */
export function seSparseFile(sectors: number, grains: Grains, change: (file: Buffer) => void = () => {}): Buffer {
  const tables = Math.ceil(sectors / 8 / 4096);
  const directorySectors = Math.ceil((tables * 8) / sector);
  const used = [...new Set([...grains.keys()].map((grain) => Math.floor(grain / 4096)))];
  const directoryAt = 2;
  const tablesAt = directoryAt + directorySectors;
  const grainsAt = tablesAt + used.length * 64;
  const stored = [...grains].filter(([, bytes]) => typeof bytes !== 'string');
  const file = Buffer.alloc((grainsAt + stored.length * 8) * sector);
  const put = (at: number, value: bigint): unknown => file.writeBigUInt64LE(value, at);
  const fields: Record<number, number | bigint> = {
    0: 0xcafebaben,
    8: 0x2_0000_0001n,
    16: sectors,
    24: 8,
    32: 64,
    80: 1,
    88: 1,
    128: directoryAt,
    136: directorySectors,
    144: tablesAt,
    152: used.length * 64,
    192: grainsAt,
    200: stored.length * 8,
  };
  for (const [at, value] of Object.entries(fields)) put(Number(at), BigInt(value));
  put(sector, 0xcafecafen);
  used.forEach((table, i) => put(directoryAt * sector + 8 * table, 0x1000_0000_0000_0000n | BigInt(i)));
  let next = 0;
  for (const [grain, bytes] of grains) {
    const at = (tablesAt + used.indexOf(Math.floor(grain / 4096)) * 64) * sector + 8 * (grain % 4096);
    if (bytes === 'unmapped') put(at, 1n << 60n);
    else if (bytes === 'zero') put(at, 2n << 60n);
    else {
      // The low twelve bits of the number stand above the others.
      const number = BigInt(next);
      put(at, (3n << 60n) | ((number & 0xfffn) << 48n) | (number >> 12n));
      file.set(bytes, (grainsAt + next * 8) * sector);
      next++;
    }
  }
  change(file);
  return file;
}
