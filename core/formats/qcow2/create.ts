// Writes an empty qcow2 image: header, refcount table, one refcount block, L1 table, in QEMU's places; space set aside as asked.
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, OptionValue } from '../driver.ts';
import { chooseEncryption, setUpEncryption, type EncryptionChoice } from './encryption.ts';
import type { HeaderExtension, Qcow2Header } from './header.ts';
import { serialiseHeader } from './header-write.ts';
import { layoutFor, setRefcount, type Layout } from './layout.ts';
import { Qcow2Metadata } from './metadata.ts';
import { linkClusters } from './places.ts';
import { autoclear, compatible, extensionType, featureName, incompatible, magic, type HeaderV3 } from './spec.ts';
import { Qcow2State } from './state.ts';
import { Qcow2WritableNode } from './write-node.ts';

/** Space is set aside in steps of this many bytes. */
const stepLength = 64 * 1024 * 1024;

type Preallocation = 'metadata' | 'falloc' | 'full';

/** The creation options after their checks. */
export interface Qcow2Choice {
  readonly version: 2 | 3;
  readonly encryption: EncryptionChoice | null;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  readonly preallocation: 'off' | Preallocation;
  readonly compressionType: 0 | 1;
  readonly dataFile: string | null;
  readonly dataFileRaw: boolean;
  readonly lazyRefcounts: boolean;
  readonly refcountOrder: number;
}

/** What of the request beside the options decides what is allowed. */
interface Surroundings {
  readonly backing: { readonly format: string | null } | null;
}

function refuse(reason: string): never {
  throw new ImageError('request/invalid-value', { reason });
}

function oneOf<T extends string>(value: OptionValue | undefined, allowed: readonly T[], parameter: string): T | null {
  if (value === undefined) return null;
  const found = allowed.find((one) => one === value);
  if (found === undefined) refuse(`Parameter '${parameter}' does not accept value '${String(value)}'`);
  return found;
}

/**
 * The choice that `options` make, with QEMU's defaults, in QEMU's order of checks. Throws `request/invalid-value` with its
 * sentences.
 */
export function chooseOptions(
  options: Readonly<Record<string, OptionValue>>,
  { backing }: Surroundings = { backing: null },
): Qcow2Choice {
  const encryption = chooseEncryption(options);
  const compat = oneOf(options.compat, ['0.10', '1.1', 'v2', 'v3'] as const, 'version') ?? 'v3';
  const version = compat === '0.10' || compat === 'v2' ? 2 : 3;
  const compression = oneOf(options.compression_type, ['zlib', 'zstd'] as const, 'compression-type') ?? 'zlib';
  const stated = oneOf(options.preallocation, ['off', 'metadata', 'falloc', 'full'] as const, 'preallocation') ?? 'off';
  const extendedL2 = options.extended_l2 === true;
  const old = (what: string): never => refuse(`${what} compatibility level 1.1 and above (use version=v3 or greater)`);
  if (extendedL2 && version < 3) old('Extended L2 entries are only supported with');
  const clusterSize = Number(options.cluster_size ?? 65536);
  if (clusterSize < 512 || clusterSize > 2 * 1024 * 1024 || !Number.isInteger(Math.log2(clusterSize))) {
    refuse('Cluster size must be a power of two between 512 and 2048k');
  }
  if (extendedL2 && clusterSize < 16384) {
    refuse('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  }
  if (backing !== null && stated !== 'off' && !extendedL2) {
    refuse('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
  if (backing === null && options.backing_fmt !== undefined)
    refuse('Backing format cannot be used without backing file');
  const lazyRefcounts = options.lazy_refcounts === true;
  if (lazyRefcounts && version < 3) old('Lazy refcounts only supported with');
  const refcountBits = Number(options.refcount_bits ?? 16);
  if (refcountBits < 1 || refcountBits > 64 || !Number.isInteger(Math.log2(refcountBits))) {
    refuse('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version < 3 && refcountBits !== 16) {
    refuse(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    );
  }
  const dataFile = options.data_file === undefined ? null : String(options.data_file);
  const dataFileRaw = options.data_file_raw === true;
  if (dataFileRaw && dataFile === null) refuse('data-file-raw requires data-file');
  if (dataFileRaw && backing !== null) refuse('Backing file and data-file-raw cannot be used at the same time');
  if (dataFile !== null && version < 3) old('External data files are only supported with');
  if (compression === 'zstd' && version < 3) old('Non-zlib compression type is only supported with');
  return {
    version,
    encryption,
    clusterSize,
    extendedL2,
    // A raw data file must be mapped one to one, so that it says the same with and without the tables.
    preallocation: dataFileRaw && stated === 'off' ? 'metadata' : stated,
    compressionType: compression === 'zlib' ? 0 : 1,
    dataFile,
    dataFileRaw,
    lazyRefcounts,
    refcountOrder: Math.log2(refcountBits),
  };
}

/** The layout of an image with these options. */
export function layoutOf(choice: Qcow2Choice): Layout {
  return layoutFor(Math.log2(choice.clusterSize), choice.refcountOrder, choice.extendedL2);
}

const featureTable: readonly [type: number, bit: number, name: string][] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
];

/** The names of all features, for a header extension. */
export function featureTableBytes(): Uint8Array {
  const bytes = new Uint8Array(featureTable.length * featureName.size);
  featureTable.forEach(([type, bit, name], i) =>
    featureName.patch(bytes.subarray(i * featureName.size), { type, bit, name }),
  );
  return bytes;
}

/**
 * Creates the image. Throws `request/invalid-value`, `crypto/*`, `luks/*`, `qcow2/l1-full`, `qcow2/backing-name`,
 * `qcow2/backing-format-long`, `qcow2/header-full`, `storage/*`.
 */
export function createQcow2(request: CreateRequest): void {
  const { storage, backing } = request;
  const choice = chooseOptions(request.options, { backing });
  const size = alignUp(request.size, 512);
  const layout = layoutOf(choice);
  const header = emptyHeader(choice);
  const { clusterSize } = layout;
  const dataFile = choice.dataFile === null ? null : request.createFile(choice.dataFile, 'data-file');

  // An image of size 0 first: three clusters that count themselves. The rest is done by what every writer does.
  const first = new Uint8Array(3 * clusterSize);
  first.set(serialiseHeader(header, layout, request.name));
  new DataView(first.buffer).setBigUint64(clusterSize, BigInt(2 * clusterSize));
  for (let cluster = 0; cluster < 3; cluster++) {
    setRefcount(first.subarray(2 * clusterSize), layout.refcountOrder, cluster, 1);
  }
  storage.writeAt(first, 0);

  const state = new Qcow2State(storage, { writable: true, forRepair: false });
  state.dataFile = dataFile;
  const metadata = new Qcow2Metadata(state, { lazyRefcounts: false, givesSnapshotsBack: true, waits: false });
  metadata.growL1(size);
  const node = new Qcow2WritableNode(state, null, metadata);
  if (backing !== null) node.setBacking(backing);
  if (choice.encryption !== null) setUpEncryption(state, metadata, choice.encryption, request);
  state.header.fields.size = size;
  if (choice.preallocation !== 'off') preallocate(state, metadata, request, choice.preallocation);
  else dataFile?.truncate(size);
  metadata.writeBack();
  metadata.setSize(size);
  dataFile?.flush();
}

function emptyHeader(choice: Qcow2Choice): Qcow2Header {
  const { clusterSize } = choice;
  let incompatibleFeatures = 0n;
  if (choice.dataFile !== null) incompatibleFeatures |= incompatible.dataFile;
  if (choice.compressionType !== 0) incompatibleFeatures |= incompatible.compression;
  if (choice.extendedL2) incompatibleFeatures |= incompatible.extendedL2;
  const fields: HeaderV3 = {
    magic,
    version: choice.version,
    backing_file_offset: 0,
    backing_file_size: 0,
    cluster_bits: Math.log2(clusterSize),
    size: 0,
    crypt_method: 0,
    l1_size: 0,
    l1_table_offset: 0,
    refcount_table_offset: clusterSize,
    refcount_table_clusters: 1,
    nb_snapshots: 0,
    snapshots_offset: 0,
    incompatible_features: incompatibleFeatures,
    compatible_features: choice.lazyRefcounts ? compatible.lazyRefcounts : 0n,
    autoclear_features: choice.dataFileRaw ? autoclear.dataFileRaw : 0n,
    refcount_order: choice.refcountOrder,
    header_length: 0,
  };
  const extensions: HeaderExtension[] = [];
  if (choice.dataFile !== null) {
    extensions.push({ type: extensionType.dataFile, data: Buffer.from(choice.dataFile, 'utf8'), offset: -1 });
  }
  // As in QEMU, an image with the smallest clusters has no room for names.
  if (choice.version >= 3 && clusterSize > 512) {
    extensions.push({ type: extensionType.featureNames, data: featureTableBytes(), offset: -1 });
  }
  return {
    fields,
    compressionType: choice.compressionType,
    unknownFields: new Uint8Array(0),
    extensions,
    backingName: null,
    usedLength: 0,
  };
}

/** Every guest cluster gets its place; the file is made long enough, and its space provided as asked. */
function preallocate(state: Qcow2State, metadata: Qcow2Metadata, request: CreateRequest, how: Preallocation): void {
  const { data } = state;
  const { clusterSize, subclusterSize, l2Coverage } = state.layout;
  const size = state.header.fields.size;
  let at = 0;
  let end = 0;
  while (at < size) {
    request.job.throwIfCancelled();
    const wanted = Math.min(alignUp(size - at, clusterSize), stepLength);
    // Tables before data, as QEMU places them.
    for (let i = Math.floor(at / l2Coverage); i * l2Coverage < at + wanted; i++) metadata.tableForChange(i);
    const run = state.dataFile === null ? metadata.allocate(wanted / clusterSize) : null;
    const offset = run === null ? at : run.first * clusterSize;
    const length = run === null ? wanted : run.count * clusterSize;
    const covered = Math.min(length, size - at);
    if (how !== 'metadata') data.provide(offset, covered, how);
    linkClusters(state, metadata, at, length, offset);
    end = Math.max(end, offset + (run === null ? covered : alignUp(covered, subclusterSize)));
    at += length;
    request.job.progress({ phase: 'preallocation', done: Math.min(at, size), total: size });
  }
  metadata.writeBack();
  if (end > data.size) data.truncate(end);
}
