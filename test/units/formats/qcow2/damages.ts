// Ways to damage a qcow2 image, by what they break: for the check and for the repair.
import type { Crafted } from './crafted.ts';

export type Damage = readonly [name: string, damage: (crafted: Crafted) => Crafted];

export const copied = 1n << 63n;

/** To an image of 64 KiB clusters with data at 0 and at 1 MiB. */
export const damages: readonly Damage[] = [
  ['L1 entry with reserved bits', (c) => c.change(c.l1, (e) => e | 0x2000_0000_0000_0002n)],
  ['L1 entry without copied bit', (c) => c.change(c.l1, (e) => e & ~copied)],
  ['L1 entry of zero offset', (c) => c.set(c.l1, copied)],
  ['L2 table unaligned', (c) => c.change(c.l1, (e) => e | 0x200n)],
  ['L2 table outside the file', (c) => c.set(c.l1, copied | 0x1000000000n)],
  ['L2 table just behind the file', (c) => c.set(c.l1, copied | BigInt(c.length))],
  ['L2 table at the end of what can be addressed', (c) => c.set(c.l1, 0x80ff_ffff_ffff_0000n)],
  ['L2 entry with reserved bits', (c) => c.change(c.l2(), (e) => e | 0x2000_0000_0000_0002n)],
  ['L2 entry without copied bit', (c) => c.change(c.l2() + 8, (e) => e & ~copied)],
  ['data unaligned', (c) => c.change(c.l2(), (e) => e | 0x200n)],
  ['data unaligned, reading as zeroes', (c) => c.change(c.l2(), (e) => e | 0x201n)],
  ['data outside the file', (c) => c.set(c.l2(), copied | 0x1000000000n)],
  ['data outside the file, unaligned', (c) => c.set(c.l2(), copied | 0x1000000200n)],
  ['data far outside', (c) => c.set(c.l2(), 0x80ff_ffff_ffff_0000n)],
  ['data cluster referenced twice', (c) => c.set(c.l2(), c.get(c.l2() + 8))],
  ['data cluster is the header', (c) => c.set(c.l2(), copied | 0x200n)],
  ['data cluster is the L1 table', (c) => c.set(c.l2(), copied | BigInt(c.l1))],
  ['data cluster is the refcount block', (c) => c.set(c.l2(), copied | BigInt(c.block()))],
  ['data cluster lost', (c) => c.set(c.l2(), 0)],
  ['zero cluster with copied bit only', (c) => c.set(c.l2(), copied | 1n)],
  ['unallocated cluster with copied bit', (c) => c.set(c.l2() + 800, copied)],
  ['L2 table full of ones', (c) => c.bytes(c.l2(), Buffer.alloc(65536, 0xff))],
  [
    'L2 table full of rubbish',
    (c) => c.bytes(c.l2(), Buffer.from(Array.from({ length: 65536 }, (_, i) => (i * i * 31 + (i >> 5)) & 0xff))),
  ],
  ['compressed entry with copied bit', (c) => c.set(c.l2() + 80, 0xc000_0000_0005_0000n)],
  ['compressed entry outside the file', (c) => c.set(c.l2() + 80, 0x4000_0010_0005_0000n)],
  ['compressed entry at the very end', (c) => c.set(c.l2() + 80, 0x7fff_ffff_ffff_ffffn)],
  ['compressed entry over three clusters', (c) => c.set(c.l2() + 80, 0x7fc0_0000_0005_ffffn)],
  ['refcount too low', (c) => c.bytes(c.block() + 2 * 5, Buffer.from([0, 0]))],
  ['refcount too high', (c) => c.bytes(c.block() + 2 * 5, Buffer.from([0, 7]))],
  ['refcounts of free clusters', (c) => c.bytes(c.block() + 2 * 100, Buffer.alloc(60, 1)).truncate(120 * 65536)],
  ['refcounts of clusters behind the file', (c) => c.bytes(c.block() + 2 * 100, Buffer.alloc(60, 1))],
  ['refcount block zero', (c) => c.bytes(c.block(), Buffer.alloc(65536))],
  ['refcount table entry with reserved bits', (c) => c.change(c.refcountTable, (e) => e | 0x20n)],
  ['refcount block unaligned', (c) => c.change(c.refcountTable, (e) => e | 0x200n)],
  ['second refcount block unaligned', (c) => c.set(c.refcountTable + 8, 0x20200)],
  ['refcount block outside', (c) => c.set(c.refcountTable, 0x10000000)],
  ['refcount block far outside', (c) => c.set(c.refcountTable, 0xffff_ffff_ffff_0000n)],
  ['refcount block missing', (c) => c.set(c.refcountTable, 0)],
  ['refcount block twice', (c) => c.set(c.refcountTable + 8, c.block())],
  ['refcount block is the L2 table', (c) => c.set(c.refcountTable + 8, BigInt(c.l2()))],
  ['corrupt bit', (c) => c.change(72, (e) => e | 2n)],
  ['dirty bit', (c) => c.change(72, (e) => e | 1n)],
  ['no refcount table', (c) => c.set32(56, 0)],
  ['refcount table over the header', (c) => c.set(48, 0)],
  ['snapshot table unaligned', (c) => c.set32(60, 1).set(64, 0x300)],
  ['too many snapshots', (c) => c.set32(60, 70000).set(64, 0x10000000)],
  ['a snapshot of zeroes', (c) => c.set32(60, 1).set(64, 0x10000000)],
  ['a snapshot of rubbish', (c) => c.set32(60, 1).set(64, c.l2())],
];

/** To one with a snapshot. */
export const snapshotDamages: readonly Damage[] = [
  ['too much extra data', (c) => c.set32(c.snapshots + 36, 2000)],
  ['too little extra data', (c) => c.set32(c.snapshots + 36, 8)],
  ['no extra data', (c) => c.set32(c.snapshots + 36, 0)],
  ['L1 table unaligned', (c) => c.change(c.snapshots, (e) => e + 512n)],
  ['L1 table too large', (c) => c.set32(c.snapshots + 8, 5_000_000)],
  ['L1 table outside', (c) => c.set(c.snapshots, 0x1_0000_0000)],
  ['L1 table empty', (c) => c.set32(c.snapshots + 8, 0)],
  ['L1 table longer than it is', (c) => c.set32(c.snapshots + 8, 20_000)],
  ['L1 table is the active one', (c) => c.set(c.snapshots, c.l1)],
  ['shared L2 table with a fault', (c) => c.change(c.l2(), (e) => e | 2n)],
  ['the same table twice', (c) => c.set32(60, 2)],
  ['one snapshot fewer', (c) => c.set32(60, 0)],
];

/** To one with subclusters. */
export const extendedDamages: readonly Damage[] = [
  ['allocated and zero', (c) => c.set(c.l2() + 8, 0xffff_ffff_ffff_ffffn)],
  ['allocated without cluster', (c) => c.set(c.l2() + 16 * 20 + 8, 1n)],
  ['zero without cluster', (c) => c.set(c.l2() + 16 * 20 + 8, 1n << 32n)],
  ['bit 0 of the descriptor', (c) => c.change(c.l2(), (e) => e | 1n)],
  ['unaligned with data', (c) => c.change(c.l2(), (e) => e | 0x200n)],
  ['unaligned without data', (c) => c.change(c.l2(), (e) => e | 0x200n).set(c.l2() + 8, 0)],
  ['compressed with a bitmap', (c) => c.set(c.l2() + 16 * 20, 0x4000_0000_0005_0000n).set(c.l2() + 16 * 20 + 8, 1n)],
  ['compressed', (c) => c.set(c.l2() + 16 * 20, 0x4000_0000_0005_0000n)],
  ['copied bit without cluster', (c) => c.set(c.l2() + 16 * 20, copied)],
];
