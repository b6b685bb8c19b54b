// Damages that a repair can put right, and under which the guest reads the same before and after it: byte by byte, from the specifications.
import fs from 'node:fs';

const sector = 512;

const damages: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  /** A cluster of data that nobody refers to, in qcow2: entries of the first L2 table are gone. */
  'qcow2-leak'(bytes) {
    const table = qcow2Word(bytes, qcow2Word(bytes, 40));
    return bytes.fill(0, table + 8, table + 40);
  },
  /** References that nobody counted. */
  'qcow2-refcounts'(bytes) {
    const block = qcow2Word(bytes, qcow2Word(bytes, 48));
    return bytes.fill(0, block + 20, block + 60);
  },
  /** Two blocks in one place, no modification UUID, and a wrong number of blocks. */
  vdi(bytes) {
    const map = bytes.readUInt32LE(0x154);
    bytes.writeUInt32LE(bytes.readUInt32LE(map), map + 4);
    bytes.writeUInt32LE(1, 0x184);
    return bytes.fill(0, 0x198, 0x1a8);
  },
  /** Two blocks in one room, and the footer at the end is lost. */
  vpc(bytes) {
    const table = Number(bytes.readBigUInt64BE(sector + 16));
    bytes.writeUInt32BE(bytes.readUInt32BE(table), table + 4);
    return bytes.fill(0x55, bytes.length - sector);
  },
  /** The checksum of the footer of a fixed disk. */
  'vpc-fixed'(bytes) {
    bytes.writeUInt32BE(1, bytes.length - sector + 64);
    return bytes;
  },
  /** The header that does not count, and the first copy of the region table. */
  vhdx(bytes) {
    const sequence = [1, 2].map((slot) => bytes.readBigUInt64LE(slot * 65_536 + 8));
    const old = (sequence[0] ?? 0n) < (sequence[1] ?? 0n) ? 1 : 2;
    bytes.fill(0x55, old * 65_536 + 8, old * 65_536 + 40);
    return bytes.fill(0, 3 * 65_536, 4 * 65_536);
  },
  /** Redundant grain tables that lag behind. */
  'vmdk-behind'(bytes) {
    const table = vmdkRedundant(bytes);
    return bytes.fill(0, table, table + 8);
  },
  /** Redundant grain tables that contradict. */
  vmdk(bytes) {
    const table = vmdkRedundant(bytes);
    bytes.writeUInt32LE(bytes.readUInt32LE(table) + 128, table);
    return bytes.fill(0, table + 8, table + 12);
  },
};

function qcow2Word(bytes: Buffer, offset: number): number {
  return Number(bytes.readBigUInt64BE(offset) & 0x00ff_ffff_ffff_fe00n);
}

/** Offset of the first redundant grain table. */
function vmdkRedundant(bytes: Buffer): number {
  const directory = Number(bytes.readBigUInt64LE(48)) * sector;
  return bytes.readUInt32LE(directory) * sector;
}

/** Makes the image `file` need repair. */
export function damage(file: string, how: string): void {
  const change = damages[how];
  if (change === undefined) throw new Error(`no damage ${how}`);
  fs.writeFileSync(file, change(fs.readFileSync(file)));
}
