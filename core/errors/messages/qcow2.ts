// Codes and sentences of qcow2.
import type { Sentence } from '../sentence.ts';

// As C prints %#x: zero has no prefix.
const hex = (value: unknown): string =>
  typeof value === 'number' && value !== 0 ? `0x${value.toString(16)}` : String(value);

export const qcow2Messages = {
  // the header
  'qcow2/magic': 'Image is not in qcow2 format',
  'qcow2/version': (d) => `Unsupported qcow2 version ${Number.parseInt(String(d.found), 10)}`,
  'qcow2/cluster-bits': (d) => `Unsupported cluster size: 2^${Number.parseInt(String(d.found), 10)}`,
  'qcow2/header-short': 'qcow2 header too short',
  'qcow2/header-long': 'qcow2 header exceeds cluster size',
  'qcow2/header-read': 'Could not read qcow2 header: the file is shorter than that',
  'qcow2/backing-offset': 'Invalid backing file offset',
  'qcow2/backing-name': 'Backing file name too long',
  'qcow2/compression-type': (d) => `qcow2: unknown compression type: ${d.found}`,
  'qcow2/compression-bit': (d) =>
    `qcow2: Compression type incompatible feature bit must ${d.expected === true ? 'be set' : 'not be set'}`,
  'qcow2/feature': (d) => `Unsupported qcow2 feature(s): ${d.names}`,
  'qcow2/corrupt': 'qcow2: Image is corrupt; cannot be opened read/write',
  'qcow2/subcluster-size': (d) => `Unsupported subcluster size: ${d.found}`,
  'qcow2/refcount-width': 'Reference count entry width too large; may not exceed 64 bits',
  'qcow2/crypt-method': (d) => `Unsupported encryption method ${Number.parseInt(String(d.found), 10)}`,
  'qcow2/no-refcount-table': 'Image does not contain a reference count table',
  'qcow2/table-too-large': (d) => `${d.table} too large`,
  'qcow2/table-offset': (d) => `${d.table} offset invalid`,
  'qcow2/table-beyond-file': (d) =>
    `${d.table} (${d.length} bytes at ${hex(d.offset)}) reaches beyond the end of the file (${d.size} bytes)`,
  'qcow2/too-big': 'Image is too big',
  'qcow2/l1-too-small': 'L1 table is too small',

  // header extensions
  'qcow2/extension-too-large': 'Header extension too large',
  'qcow2/backing-format-long': (d) => `ERROR: ext_backing_format: len=${d.found} too large (>=16)`,
  'qcow2/crypto-extension': 'CRYPTO header extension only expected with LUKS encryption method',
  'qcow2/crypto-extension-size': (d) => `CRYPTO header extension size ${d.found}, but expected size 16`,
  'qcow2/crypto-offset': (d) =>
    `Encryption header offset '${d.found}' is not a multiple of cluster size '${d.clusterSize}'`,
  'qcow2/crypto-missing': (d) => `Missing CRYPTO header for crypt method ${d.method}`,
  'qcow2/bitmaps-length': 'bitmaps_ext: Invalid extension length',
  'qcow2/bitmaps-reserved': 'bitmaps_ext: Reserved field is not zero',
  'qcow2/bitmaps-count': (d) =>
    Number.parseInt(String(d.found), 10) === 0
      ? 'found bitmaps extension with zero bitmaps'
      : `bitmaps_ext: Image has ${Number.parseInt(String(d.found), 10)} bitmaps, exceeding the QEMU supported maximum of 65535`,
  'qcow2/bitmaps-offset': 'bitmaps_ext: invalid bitmap directory offset',
  'qcow2/bitmaps-size': (d) =>
    `bitmaps_ext: bitmap directory size (${d.found}) exceeds the maximum supported size (${d.allowed})`,
  'qcow2/bitmap-directory': 'Broken bitmap directory',
  'qcow2/bitmaps-damaged': (d) => `${d.reason}`,
  'qcow2/bitmap-table': (d) => `Could not read bitmap '${d.name}' from image: Invalid argument`,
  'qcow2/data-file-missing': "'data-file' is required for this image",
  'qcow2/data-file-raw': 'data-file-raw requires a data file',

  // writing
  'qcow2/header-full': (d) =>
    `The header with its extensions takes ${d.needed} bytes; the first cluster has ${d.allowed}`,
  'qcow2/refcount-overflow': (d) => `Cluster ${d.cluster} has as many references as can be counted (${d.most})`,
  'qcow2/refcount-underflow': (d) => `Cluster ${d.cluster} is in use, but its refcount is 0; the image needs a check`,
  'qcow2/refcount-table-full': (d) => `The refcount table cannot grow beyond ${d.allowed} bytes`,
  'qcow2/l1-full': "The image size is too large for file format 'qcow2' (try using a larger cluster size)",
  'qcow2/overlap': (d) =>
    `qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with ${d.structure}); further corruption events will be suppressed`,

  'qcow2/resize-sectors': 'The new size must be a multiple of 512',
  'qcow2/resize-snapshots': "Can't resize a v2 image which has snapshots",
  'qcow2/backing-external-raw': 'Backing file and data-file-raw cannot be used at the same time',

  // tables
  'qcow2/reserved-bits': (d) => `${d.table} entry ${d.index} has reserved bits set: ${d.value}`,
  'qcow2/l2-offset': (d) => `L2 table offset ${hex(d.offset)} unaligned (L1 index: ${hex(d.index)})`,
  'qcow2/cluster-offset': (d) =>
    `Cluster allocation offset ${hex(d.offset)} unaligned (L2 offset: ${hex(d.l2)}, L2 index: ${hex(d.index)})`,
  'qcow2/cluster-beyond-file': (d) =>
    `The cluster for guest offset ${hex(d.guest)} lies at ${hex(d.offset)}, beyond the end of the file (${d.size} bytes)`,
  'qcow2/zero-in-v2': (d) =>
    `Zero cluster entry found in pre-v3 image (L2 offset: ${hex(d.l2)}, L2 index: ${hex(d.index)})`,
  'qcow2/external-offset': (d) =>
    `External data file host cluster offset ${hex(d.offset)} does not match guest cluster offset: ${hex(d.guest)}, L2 index: ${hex(d.index)})`,
  'qcow2/packed-external': (d) =>
    `Compressed cluster entry found in image with external data file (L2 offset: ${hex(d.l2)}, L2 index: ${hex(d.index)})`,
  'qcow2/subcluster-bits': (d) => `Invalid cluster entry found  (L2 offset: ${hex(d.l2)}, L2 index: ${hex(d.index)})`,
  'qcow2/refcount-block-offset': (d) => `Refblock offset ${hex(d.offset)} unaligned (reftable index: ${hex(d.index)})`,
  'qcow2/encrypted': (d) => `The image is encrypted (${d.method}) and was opened without its passphrase`,
  'qcow2/crypto-none': (d) => `No encryption in image header, but options specified format '${d.stated}'`,
  'qcow2/crypto-format': (d) => `Header reported '${d.found}' encryption format but options specify '${d.stated}'`,
  'qcow2/crypto-outside': 'Request for data outside of extension header',

  // snapshots
  'snapshot/not-found': "Can't find snapshot",
  'qcow2/snapshot-extra': (d) =>
    `Too much extra metadata in snapshot table entry ${d.index}\nYou can force-remove this extra metadata with qemu-img check -r all`,
  'qcow2/snapshot-table-big': (d) =>
    `Snapshot table is too big\nYou can force-remove all ${d.overhanging} overhanging snapshots with qemu-img check -r all`,

  // check
  'qcow2/dirty-repair': (d) => `Could not repair dirty image: ${d.reason}`,
  'qcow2/check-failed': (d) => `Check failed: ${d.reason}`,
  'qcow2/check-memory': (d) =>
    `Counting the references of this image would take more than ${d.allowed} bytes of memory; it was given up`,
  'qcow2/check-effort': (d) => `The check was given up: ${d.reason}, so that it would not come to an end`,
} as const satisfies Record<string, Sentence>;
