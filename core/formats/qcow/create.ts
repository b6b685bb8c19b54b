// Writes an empty qcow image: the header, the name of the layer below, the L1 table, in QEMU's places.
import { askSecret } from '../../block/crypto/secret.ts';
import { alignUp } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, MeasureRequest, Measurement, OptionValue } from '../driver.ts';
import { l1EntriesFor, layoutFor, usualLayout } from './layout.ts';
import { header, limit, magic } from './spec.ts';

function refuse(reason: string): never {
  throw new ImageError('request/invalid-value', { reason });
}

/** True when the options ask for encryption. Throws `request/invalid-value` with QEMU's sentences. */
function wantsEncryption(options: Readonly<Record<string, OptionValue>>): boolean {
  const format = options['encrypt.format'];
  if (format !== undefined && options.encryption !== undefined) {
    refuse("'encrypt.format' and its alias 'encryption' can't be used at the same time");
  }
  if (format === 'luks') refuse('Unsupported encryption format');
  if (format !== undefined && format !== 'aes') refuse(`Parameter 'format' does not accept value '${String(format)}'`);
  if (format === 'aes' || options.encryption === true) return true;
  if (options['encrypt.key-secret'] !== undefined) refuse("Parameter 'encrypt.format' is missing");
  return false;
}

/** Holds the options that speak of encryption against QEMU's rules; true: it is wanted. Throws `crypto/*` too. */
function checkEncryption(request: Pick<CreateRequest, 'options' | 'secret'>, file: string): boolean {
  if (!wantsEncryption(request.options)) return false;
  const id = request.options['encrypt.key-secret'];
  const named = id === undefined ? null : String(id);
  askSecret(request.secret, { file, parameter: 'encrypt.key-secret', id: named, isNew: true });
  return true;
}

/**
 * Options: those of the rows. With a layer below the clusters are of 512 bytes. Throws `request/invalid-value`, `crypto/*`,
 * `qcow/empty`, `qcow/too-large`, `qcow/backing-name`, `storage/*`.
 */
export function createQcow(request: CreateRequest): void {
  const { storage, size, name, backing } = request;
  if (size === 0) throw new ImageError('qcow/empty', {}, { file: name });
  const encrypted = checkEncryption(request, name);
  const reference = Buffer.from(backing?.path ?? '', 'utf8');
  if (reference.length > limit.backingName) {
    throw new ImageError('qcow/backing-name', { found: reference.length }, { file: name });
  }
  const bits = usualLayout(backing !== null);
  const tableOffset = alignUp(header.size + reference.length, 8);
  const length = l1EntriesFor(layoutFor(bits.cluster_bits, bits.l2_bits), size) * 8;
  if (length > limit.l1Bytes) throw new ImageError('qcow/too-large', { found: size }, { file: name });
  const head = new Uint8Array(tableOffset);
  header.patch(head, {
    magic,
    version: 1,
    backing_file_offset: backing === null ? 0 : header.size,
    backing_file_size: reference.length,
    size,
    ...bits,
    crypt_method: encrypted ? 1 : 0,
    l1_table_offset: tableOffset,
  });
  head.set(reference, header.size);
  storage.writeAt(head, 0);
  // The table in whole sectors, as QEMU writes it.
  storage.truncate(tableOffset + alignUp(length, 512));
}

/** Exact. Throws what `createQcow` throws of its options. */
export function measureQcow(request: MeasureRequest): Measurement {
  checkEncryption(request, '');
  const bits = usualLayout(request.backing !== null);
  const layout = layoutFor(bits.cluster_bits, bits.l2_bits);
  const { clusterSize, l2Coverage } = layout;
  const size = alignUp(request.size, 512);
  const entries = l1EntriesFor(layout, size);
  const name = Buffer.byteLength(request.backing?.path ?? '', 'utf8');
  const head = alignUp(header.size + name, 8) + alignUp(entries * 8, 512);
  const tableSize = alignUp(layout.l2Size, clusterSize);
  let clusters = 0;
  let tables = 0;
  let nextCluster = 0;
  let nextTable = 0;
  for (const { start, length } of request.data?.() ?? []) {
    if (length === 0) continue;
    const lastCluster = Math.floor((start + length - 1) / clusterSize);
    const lastTable = Math.floor((start + length - 1) / l2Coverage);
    clusters += Math.max(0, lastCluster + 1 - Math.max(nextCluster, Math.floor(start / clusterSize)));
    tables += Math.max(0, lastTable + 1 - Math.max(nextTable, Math.floor(start / l2Coverage)));
    nextCluster = Math.max(nextCluster, lastCluster + 1);
    nextTable = Math.max(nextTable, lastTable + 1);
  }
  const used = clusters === 0 ? head : alignUp(head, clusterSize) + tables * tableSize + clusters * clusterSize;
  const all = Math.ceil(size / clusterSize) * clusterSize;
  const fullyAllocated = size === 0 ? head : alignUp(head, clusterSize) + entries * tableSize + all;
  return { required: used, fullyAllocated };
}
