// Codes and sentences of internal snapshots, of overlays, and of amended options.
import type { Sentence } from '../sentence.ts';

export const snapshotMessages = {
  'snapshot/unsupported': 'Operation not supported',
  'snapshot/driver': 'Block driver does not support snapshots',
  'snapshot/too-many': (d) => `There are ${d.allowed} snapshots, and there cannot be more`,
  'snapshot/table-full': (d) => `The snapshot table would take ${d.needed} bytes; ${d.allowed} are allowed`,
  'snapshot/bitmaps': 'Device has active dirty bitmaps',
  'snapshot/other-size': "Can't resize a v2 image which has snapshots",

  'overlay/no-differencing': (d) =>
    `The format '${d.format}' has no differencing; say which format the new image is to have: -f qcow2`,
  'overlay/no-create': (d) =>
    `Images of format '${d.format}' are not made here; say which format the new image is to have: -f qcow2`,

  'amend/unsupported': (d) => `Format driver '${d.format}' does not support option amendment`,
  'amend/compat': (d) => `Unknown compatibility level ${d.found}`,
  'amend/refcount-bits': 'Refcount width must be a power of two and may not exceed 64 bits',
  'amend/refcount-compat':
    'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
  'qcow2/refcount-width-small': (d) =>
    `Cannot decrease refcount entry width to ${d.bits} bits: Cluster at offset 0x${Number(d.offset).toString(16)} has a refcount of ${d.found}`,
  'amend/backing': "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.",
  'amend/data-file': 'data-file can only be set for images that use an external data file',
  'amend/data-file-raw': 'data-file-raw cannot be set on existing images',
  'amend/not-encrypted': "Can't amend encryption options - encryption not present",
  'amend/not-luks': 'Only LUKS encryption options can be amended',
  'amend/lazy-compat':
    'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)',
  'amend/key-state-missing': "Parameter 'state' is missing",
  'amend/key-state': (d) => `Parameter 'state' does not accept value '${d.found}'`,
  'amend/key-iter-time': "'iter-time' must not be given when erasing keyslots",
  'amend/downgrade-refcounts': 'compat=0.10 requires refcount_bits=16',
  'amend/downgrade-data-file': 'Cannot downgrade an image with a data file',
  'amend/downgrade-snapshots': 'Internal snapshots prevent downgrade of image',
  'amend/downgrade-features': (d) => `Cannot downgrade an image with incompatible features 0x${d.features} set`,
  'amend/downgrade-bitmaps': (d) =>
    `Cannot downgrade an image with bitmaps (${d.count}): version 2 has none; remove them first`,
  'amend/downgrade-compression':
    'Cannot downgrade an image with zstd compression type and existing compressed clusters',
} as const satisfies Record<string, Sentence>;
