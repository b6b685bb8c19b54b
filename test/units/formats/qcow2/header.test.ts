// Headers that are not as they should be: refused with the sentence that qemu-img prints, or opened where qemu-img opens them.
import path from 'node:path';
import { expect, it } from 'vitest';
import { ImageError } from '../../../../core/errors/image-error.ts';
import { openImage } from '../../../../core/formats/open.ts';
import { describeWith, runQemuImg } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { Crafted } from './crafted.ts';

const at = {
  version: 4,
  backing_file_offset: 8,
  backing_file_size: 16,
  cluster_bits: 20,
  size: 24,
  crypt_method: 32,
  l1_size: 36,
  l1_table_offset: 40,
  refcount_table_offset: 48,
  refcount_table_clusters: 56,
  nb_snapshots: 60,
  snapshots_offset: 64,
  incompatible_features: 72,
  compatible_features: 80,
  autoclear_features: 88,
  refcount_order: 96,
  header_length: 100,
  compression_type: 104,
} as const;

interface Case {
  readonly title: string;
  readonly change: (image: Crafted) => void;
  readonly code: string;
  readonly options?: string;
  /** qemu-img says it in other words, or not at all. */
  readonly ownWords?: true;
  /** `info` of qemu-img does not look at it. */
  readonly verb?: 'map';
}

const text = (value: string): Buffer => Buffer.from(value, 'latin1');

/** An extension of `type` right behind the header, and the end marker behind it. */
function extension(image: Crafted, type: number, length: number, data: Uint8Array = new Uint8Array(0)): void {
  image.set32(112, type).set32(116, length).bytes(120, data);
  image.set(120 + Math.ceil(data.length / 8) * 8, 0);
}

const cases: readonly Case[] = [
  { title: 'magic', change: (i) => i.set32(0, 0x514649fc), code: 'qcow2/magic', ownWords: true },
  { title: 'version 1', change: (i) => i.set32(at.version, 1), code: 'qcow2/version' },
  { title: 'version 4', change: (i) => i.set32(at.version, 4), code: 'qcow2/version' },
  { title: 'clusters of 256 bytes', change: (i) => i.set32(at.cluster_bits, 8), code: 'qcow2/cluster-bits' },
  { title: 'clusters of 4 MiB', change: (i) => i.set32(at.cluster_bits, 22), code: 'qcow2/cluster-bits' },
  { title: 'clusters of 2^(2^32-1)', change: (i) => i.set32(at.cluster_bits, 0xffff_ffff), code: 'qcow2/cluster-bits' },
  { title: 'a header of 103 bytes', change: (i) => i.set32(at.header_length, 103), code: 'qcow2/header-short' },
  { title: 'a header of 0 bytes', change: (i) => i.set32(at.header_length, 0), code: 'qcow2/header-short' },
  {
    title: 'a header longer than a cluster',
    change: (i) => i.set32(at.header_length, 65537),
    code: 'qcow2/header-long',
  },
  { title: 'a header of 4 GiB', change: (i) => i.set32(at.header_length, 0x7fff_ffff), code: 'qcow2/header-long' },
  {
    title: 'a backing name beyond the first cluster',
    change: (i) => i.set(at.backing_file_offset, 65537),
    code: 'qcow2/backing-offset',
  },
  {
    title: 'a backing name far out',
    change: (i) => i.set(at.backing_file_offset, 0x7fff_ffff_ffff_ffffn),
    code: 'qcow2/backing-offset',
  },
  {
    title: 'a backing name of 1024 bytes',
    change: (i) => i.set(at.backing_file_offset, 1024).set32(at.backing_file_size, 1024),
    code: 'qcow2/backing-name',
  },
  {
    title: 'a backing name that leaves the cluster',
    change: (i) => i.set(at.backing_file_offset, 65000).set32(at.backing_file_size, 600),
    code: 'qcow2/backing-name',
  },
  {
    title: 'compression type 2',
    change: (i) => i.bytes(at.compression_type, Uint8Array.of(2)),
    code: 'qcow2/compression-type',
  },
  {
    title: 'zstd without its bit',
    change: (i) => i.bytes(at.compression_type, Uint8Array.of(1)),
    code: 'qcow2/compression-bit',
  },
  { title: 'the bit of zstd alone', change: (i) => i.set(at.incompatible_features, 8), code: 'qcow2/compression-bit' },
  { title: 'an unknown feature', change: (i) => i.set(at.incompatible_features, 0x80), code: 'qcow2/feature' },
  {
    title: 'all unknown features',
    change: (i) => i.set(at.incompatible_features, 0xffff_ffff_ffff_fff3n),
    code: 'qcow2/feature',
  },
  {
    title: 'unknown features, one with a name',
    change(i) {
      const row = Buffer.alloc(96);
      row.set([0, 42]);
      row.set(text('Test feature'), 2);
      extension(i, 0x6803f857, 96, row);
      i.set(at.incompatible_features, (1n << 42n) | (1n << 63n));
    },
    code: 'qcow2/feature',
  },
  {
    title: 'unknown features, one with a name in a row that is cut short',
    change(i) {
      extension(i, 0x6803f857, 14, Buffer.concat([Buffer.from([0, 63]), text('Test feature')]));
      i.set(at.incompatible_features, (1n << 42n) | (1n << 63n));
    },
    code: 'qcow2/feature',
  },
  { title: 'refcounts of 128 bits', change: (i) => i.set32(at.refcount_order, 7), code: 'qcow2/refcount-width' },
  {
    title: 'subclusters of 128 bytes',
    options: 'cluster_size=4k',
    change: (i) => i.set(at.incompatible_features, 16),
    code: 'qcow2/subcluster-size',
  },
  { title: 'encryption method 3', change: (i) => i.set32(at.crypt_method, 3), code: 'qcow2/crypt-method' },
  {
    title: 'no refcount table',
    change: (i) => i.set32(at.refcount_table_clusters, 0),
    code: 'qcow2/no-refcount-table',
  },
  {
    title: 'a huge refcount table',
    change: (i) => i.set32(at.refcount_table_clusters, 0xffff_ffff),
    code: 'qcow2/table-too-large',
  },
  {
    title: 'a refcount table of 8 MiB and a cluster',
    change: (i) => i.set32(at.refcount_table_clusters, 129),
    code: 'qcow2/table-too-large',
  },
  {
    title: 'a refcount table between clusters',
    change: (i) => i.set(at.refcount_table_offset, 65536 + 512),
    code: 'qcow2/table-offset',
  },
  {
    title: 'a refcount table at 2^63',
    change: (i) => i.set(at.refcount_table_offset, 0x7fff_ffff_ffff_0000n),
    code: 'qcow2/table-offset',
  },
  {
    title: '65537 snapshots',
    change: (i) => i.set32(at.nb_snapshots, 65537).set(at.snapshots_offset, 65536),
    code: 'qcow2/table-too-large',
  },
  {
    title: 'a snapshot table between clusters',
    change: (i) => i.set32(at.nb_snapshots, 1).set(at.snapshots_offset, 512),
    code: 'qcow2/table-offset',
  },
  {
    title: 'an L1 table of 4 M entries and one',
    change: (i) => i.set32(at.l1_size, 4 * 1024 * 1024 + 1),
    code: 'qcow2/table-too-large',
  },
  {
    title: 'an L1 table between clusters',
    change: (i) => i.set(at.l1_table_offset, 0x3_0200),
    code: 'qcow2/table-offset',
  },
  {
    title: 'an L1 table at 2^64',
    change: (i) => i.set(at.l1_table_offset, 0xffff_ffff_ffff_0000n),
    code: 'qcow2/table-offset',
  },
  { title: 'an L1 table too small', change: (i) => i.set(at.size, 1n << 40n), code: 'qcow2/l1-too-small' },
  {
    title: 'an L1 table beyond the file',
    change: (i) => i.set(at.l1_table_offset, 1 << 30),
    code: 'qcow2/table-beyond-file',
    ownWords: true,
  },
  {
    title: 'an extension of 4 GiB',
    change: (i) => extension(i, 0x12345678, 0xffff_ffff),
    code: 'qcow2/extension-too-large',
  },
  {
    title: 'an extension that ends behind the backing name',
    change: (i) => extension(i.set(at.backing_file_offset, 256).set32(at.backing_file_size, 4), 1, 200),
    code: 'qcow2/extension-too-large',
  },
  {
    title: 'a backing format of 16 bytes',
    change: (i) => extension(i, 0xe2792aca, 16, text('a'.repeat(16))),
    code: 'qcow2/backing-format-long',
  },
  {
    title: 'an encryption header without encryption',
    change: (i) => extension(i, 0x0537be77, 16, new Uint8Array(16)),
    code: 'qcow2/crypto-extension',
  },
  {
    title: 'a bitmaps extension of 16 bytes',
    change: (i) => extension(i, 0x23852875, 16, new Uint8Array(16)),
    code: 'qcow2/bitmaps-length',
    ownWords: true,
  },
  {
    title: 'a bitmaps extension without bitmaps',
    change: (i) => extension(i.set(at.autoclear_features, 1), 0x23852875, 24, new Uint8Array(24)),
    code: 'qcow2/bitmaps-count',
  },
  {
    title: 'a data file without a name',
    change: (i) => i.set(at.incompatible_features, 4),
    code: 'qcow2/data-file-missing',
    verb: 'map',
  },
  {
    title: 'a raw data file without the data file',
    change: (i) => i.set(at.autoclear_features, 2),
    code: 'qcow2/data-file-raw',
    verb: 'map',
  },
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'qcow2 headers', () => {
  const folder = scratchFolder('qcow2-header');

  function refusal(file: string, writable = false): ImageError | null {
    try {
      openImage(file, { format: 'qcow2', writable }).node.close();
      return null;
    } catch (error) {
      if (error instanceof ImageError) return error;
      throw error;
    }
  }

  it.each(cases)('refuses $title', ({ change, code, options = '', ownWords, verb = 'info' }) => {
    const file = path.join(folder, 'image.qcow2');
    change(Crafted.create(file, '10M', options));
    const found = refusal(file);
    expect(found?.code).toBe(code);
    expect(found?.where.file).toBe(file);
    const peer = runQemuImg([verb, '-f', 'qcow2', file]);
    if (ownWords === undefined) {
      expect(peer.status, peer.stdout).toBe(1);
      expect(peer.stderr).toContain(found?.message);
    }
  });

  it('opens the corrupt for reading only', () => {
    const file = path.join(folder, 'corrupt.qcow2');
    Crafted.create(file, '10M').set(at.incompatible_features, 2);
    expect(refusal(file)).toBeNull();
    const found = refusal(file, true);
    expect(found?.code).toBe('qcow2/corrupt');
    expect(runQemuImg(['resize', '-f', 'qcow2', file, '20M']).stderr).toContain(found?.message);
  });

  it('opens what is not known but compatible', () => {
    const file = path.join(folder, 'compatible.qcow2');
    Crafted.create(file, '10M').set(at.compatible_features, 0xffff_0000_0000_0000n);
    expect(refusal(file)).toBeNull();
    expect(refusal(file, true)).toBeNull();
  });
});
