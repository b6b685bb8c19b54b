// qcow2 images for tests: made by qemu-img and qemu-io, then damaged byte by byte.
import fs from 'node:fs';
import { mustRun } from '../../../peers.ts';

/** An image file whose bytes are changed in place. Offsets in bytes, numbers big-endian. */
export class Crafted {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** A new image; `writes` are commands of qemu-io. */
  static create(path: string, size: string, options = '', writes: readonly string[] = []): Crafted {
    fs.rmSync(path, { force: true });
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), path, size]);
    if (writes.length > 0) mustRun('qemu-io', [...writes.flatMap((command) => ['-c', command]), path]);
    return new Crafted(path);
  }

  get length(): number {
    return fs.statSync(this.path).size;
  }

  /** 64 bits at `offset`. */
  get(offset: number): bigint {
    const bytes = Buffer.alloc(8);
    this.#with('r', (file) => fs.readSync(file, bytes, 0, 8, offset));
    return bytes.readBigUInt64BE();
  }

  set(offset: number, value: bigint | number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)));
    return this.bytes(offset, bytes);
  }

  /** 32 bits at `offset`. */
  get32(offset: number): number {
    return Number(this.get(offset) >> 32n);
  }

  set32(offset: number, value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return this.bytes(offset, bytes);
  }

  bytes(offset: number, bytes: Uint8Array): this {
    this.#with('r+', (file) => fs.writeSync(file, bytes, 0, bytes.length, offset));
    return this;
  }

  /** Changes 64 bits by what they are. */
  change(offset: number, how: (value: bigint) => bigint): this {
    return this.set(offset, how(this.get(offset)));
  }

  truncate(length: number): this {
    fs.truncateSync(this.path, length);
    return this;
  }

  get l1(): number {
    return Number(this.get(40));
  }

  get refcountTable(): number {
    return Number(this.get(48));
  }

  get snapshots(): number {
    return Number(this.get(64));
  }

  /** Offset of the L2 table of an L1 entry. */
  l2(index = 0): number {
    return Number(this.get(this.l1 + 8 * index) & 0x00ff_ffff_ffff_fe00n);
  }

  /** Offset of a refcount block. */
  block(index = 0): number {
    return Number(this.get(this.refcountTable + 8 * index));
  }

  #with(flags: string, use: (file: number) => void): void {
    const file = fs.openSync(this.path, flags);
    try {
      use(file);
    } finally {
      fs.closeSync(file);
    }
  }
}
