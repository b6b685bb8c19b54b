// amend: other options for an image that is there. What cannot be done is refused before anything is.
import { amendKeysAsAsked } from '../../block/crypto/luks/amend-options.ts';
import type { WritableNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { AmendRequest, OptionRow, OptionValue } from '../driver.ts';
import { checkDowngrade, downgrade, upgrade } from './amend-version.ts';
import { withExtension } from './header-write.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { qcow2Options } from './options.ts';
import { autoclear, extensionType } from './spec.ts';
import type { Qcow2State } from './state.ts';
import { Successor } from './successor.ts';
import { Qcow2WritableNode } from './write-node.ts';

const given = { shown: 'given' } as const;

/** What of an image can be amended. */
export const qcow2AmendOptions: readonly OptionRow[] = [
  {
    name: 'encrypt.state',
    type: 'string',
    meaning: 'Select new state of affected keyslots (active/inactive)',
    ...given,
  },
  { name: 'encrypt.keyslot', type: 'number', meaning: 'Select a single keyslot to modify explicitly', ...given },
  { name: 'encrypt.old-secret', type: 'string', meaning: 'Select all keyslots that match this password', ...given },
  {
    name: 'encrypt.new-secret',
    type: 'string',
    meaning: 'New secret to set in the matching keyslots. Empty string to erase',
    ...given,
  },
  ...qcow2Options.filter((row) => row.amendable === true),
];

/** What the options ask for, after their checks. */
interface Amendment {
  readonly version: number;
  readonly refcountOrder: number;
  readonly lazyRefcounts: boolean;
  readonly dataFile: string | null;
  readonly dataFileRaw: boolean;
  /** Null: as it is. */
  readonly size: number | null;
  readonly keys: boolean;
}

function readOptions(state: Qcow2State, { options, inOrder = false }: AmendRequest): Amendment {
  const where = { file: state.storage.name };
  const fail = (code: ConstructorParameters<typeof ImageError>[0], detail = {}): never => {
    throw new ImageError(code, detail, where);
  };
  let version = state.version;
  if (options.compat !== undefined) {
    const compat = String(options.compat);
    if (compat === '0.10' || compat === 'v2') version = 2;
    else if (compat === '1.1' || compat === 'v3') version = 3;
    else fail('amend/compat', { found: compat });
  }
  const keys = Object.keys(options).some((name) => name.startsWith('encrypt.'));
  if (keys && !state.encrypted) fail('amend/not-encrypted');
  if (keys && state.luks === null) fail('amend/not-luks');
  const bits = Number(options.refcount_bits ?? state.layout.refcountBits);
  const refcountOrder = Math.log2(bits);
  if (!Number.isInteger(refcountOrder) || bits < 1 || bits > 64) fail('amend/refcount-bits');
  if (options.data_file !== undefined && !state.external) fail('amend/data-file');
  const dataFileRaw = typeof options.data_file_raw === 'boolean' ? options.data_file_raw : state.externalRaw;
  if (dataFileRaw && !state.externalRaw) fail('amend/data-file-raw');
  if (refcountOrder !== state.layout.refcountOrder && version < 3 && bits !== 16) fail('amend/refcount-compat');
  checkBacking(state, options, () => fail('amend/backing'));
  const lazyRefcounts = typeof options.lazy_refcounts === 'boolean' ? options.lazy_refcounts : state.lazyRefcounts;
  if (lazyRefcounts && !state.lazyRefcounts && version < 3) fail('amend/lazy-compat');
  const size = options.size === undefined || options.size === 0 ? null : Number(options.size);
  if (size !== null && size % 512 !== 0) throw new ImageError('qcow2/resize-sectors', { found: size }, where);
  if (version < state.version && !inOrder) checkDowngrade(state, refcountOrder, size ?? state.size);
  return {
    version,
    refcountOrder,
    lazyRefcounts,
    dataFile: options.data_file === undefined ? null : String(options.data_file),
    dataFileRaw,
    size,
    keys,
  };
}

/** The layer below may be named if it is the one that is there: another one is a matter of rebase. */
function checkBacking(state: Qcow2State, options: Readonly<Record<string, OptionValue>>, refuse: () => never): void {
  const { backing_file: file, backing_fmt: format } = options;
  if (file === undefined && format === undefined) return;
  const present = state.backingReference;
  if ((file ?? null) !== (present?.path ?? null) || (format ?? null) !== (present?.format ?? null)) refuse();
}

/**
 * Changes options of the image, each in an order that a power cut cannot harm: a higher version first, then key slots, the width of
 * refcounts, the data file, lazy refcounts, the size, a lower version last. Throws `amend/*`, `luks/amend-*`, `crypto/*`,
 * `qcow2/refcount-width-small`, `qcow2/resize-sectors`, and the codes of what is done.
 */
export function amendQcow2(node: WritableNode, request: AmendRequest, job: Job): void {
  if (!(node instanceof Qcow2WritableNode)) throw new Error(`${node.name} was not opened as qcow2 to change it`);
  const { metadata, state } = node;
  const asked = readOptions(state, request);
  if (asked.version > state.version) upgrade(metadata);
  if (asked.keys && state.luks !== null) {
    const { place, header } = state.luks;
    amendKeysAsAsked(place, header, { ...request, prefix: 'encrypt.', openedBy: 'encrypt.key-secret' });
  }
  if (asked.refcountOrder !== state.layout.refcountOrder) changeRefcountWidth(metadata, asked.refcountOrder, job);
  changeDataFile(metadata, asked);
  changeLazyRefcounts(metadata, asked.lazyRefcounts);
  if (asked.size !== null) node.resize(asked.size);
  if (asked.version < state.version) {
    node.flush();
    checkDowngrade(state, state.layout.refcountOrder, state.size);
    downgrade(metadata, job);
  }
}

function changeRefcountWidth(metadata: Qcow2Metadata, order: number, job: Job): void {
  const successor = new Successor(metadata, order, job);
  try {
    successor.enact();
  } catch (error) {
    successor.abandon();
    throw error;
  }
}

function changeDataFile(metadata: Qcow2Metadata, { dataFile, dataFileRaw }: Amendment): void {
  const { state } = metadata;
  const { header } = state;
  if (dataFile === null && dataFileRaw === state.externalRaw) return;
  const before = { fields: header.fields, extensions: header.extensions };
  const features = header.fields.autoclear_features & ~autoclear.dataFileRaw;
  header.fields = { ...header.fields, autoclear_features: features | (dataFileRaw ? autoclear.dataFileRaw : 0n) };
  if (dataFile !== null) {
    const name = dataFile === '' ? null : Uint8Array.from(Buffer.from(dataFile, 'utf8'));
    header.extensions = withExtension(header.extensions, extensionType.dataFile, name);
  }
  try {
    metadata.rewriteHeader();
  } catch (error) {
    Object.assign(header, before);
    throw error;
  }
}

/** Off: what refcounts are behind with is made up for first. */
function changeLazyRefcounts(metadata: Qcow2Metadata, lazy: boolean): void {
  const { state } = metadata;
  if (state.lazyRefcounts === lazy) return;
  metadata.flush();
  metadata.setLazyRefcounts(lazy);
}
