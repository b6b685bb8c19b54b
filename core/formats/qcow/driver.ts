// qcow version 1: the table of its functions.
import { askSecret } from '../../block/crypto/secret.ts';
import { legacyAes } from '../../block/crypto/sector-cipher.ts';
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, OpenRequest } from '../driver.ts';
import { checkQcow } from './check.ts';
import { compactQcow } from './compact.ts';
import { createQcow, measureQcow } from './create.ts';
import { QcowNode } from './node.ts';
import { qcowOptions } from './options.ts';
import { qcowEntriesOf } from './entries-of.ts';
import { qcowRegions } from './regions.ts';
import { header, magic } from './spec.ts';
import { QcowState } from './state.ts';
import { entryOf } from '../table-entries.ts';
import { QcowWritableNode } from './write-node.ts';

const secretParameter = 'encrypt.key-secret';

/** Opens the image and the layer below. Throws the `qcow/*` codes of the header, `crypto/*`, `gate/*`, `storage/*`. */
function openQcow(storage: Storage, request: OpenRequest): BlockNode {
  try {
    checkSettings(request.runtime);
    const state = new QcowState(storage, request.lenient === 'open');
    if (state.encrypted) unlock(state, request);
    const reference = request.withBacking ? state.backingReference : null;
    const backing = reference === null ? null : request.gate.openImage({ from: storage.name, ...reference });
    if (request.writable) return new QcowWritableNode(state, backing);
    return new QcowNode(state, backing, request.lenient !== undefined);
  } catch (error) {
    storage.close();
    throw error;
  }
}

function checkSettings(runtime: OpenRequest['runtime']): void {
  for (const [name, value] of Object.entries(runtime)) {
    if (name === secretParameter) continue;
    if (name !== 'encrypt.format') throw new ImageError('request/invalid-option', { name });
    if (value !== 'aes') throw new ImageError('qcow/crypto-format', { stated: value });
  }
}

function unlock(state: QcowState, request: OpenRequest): void {
  const id = request.runtime[secretParameter] ?? null;
  if (id === null && (request.guestData === false || request.forRepair)) return;
  const need = { file: state.storage.name, parameter: secretParameter, id, isNew: false };
  state.cipher = legacyAes(askSecret(request.secret, need));
}

function stateOf(node: BlockNode): QcowState {
  if (!(node instanceof QcowNode)) throw new Error(`${node.name} was not opened as qcow`);
  return node.state;
}

export const qcow: FormatDriver = {
  id: 'qcow',
  label: 'qcow (version 1)',
  extensions: ['qcow', 'img'],
  hasBacking: true,
  compresses: true,
  options: qcowOptions,
  probe(head) {
    if (head.length < header.size) return false;
    const view = new DataView(head.buffer, head.byteOffset, head.length);
    return view.getUint32(0) === magic && view.getUint32(4) === 1;
  },
  open: openQcow,
  create: createQcow,
  facts(node) {
    const state = stateOf(node);
    return {
      clusterSize: state.layout.clusterSize,
      encrypted: state.encrypted,
      dirty: false,
      backing: state.backingReference,
      specific: null,
      snapshots: [],
      further: { 'l2-entries': state.layout.l2Entries },
    };
  },
  regions: (node, role = 'file') => qcowRegions(stateOf(node), role),
  heads: [{ at: 0, label: 'header', rows: header }],
  entries: {
    names: ['L1[i]', 'L2[i]', 'L2[i][j]'],
    find(node, name, [first, second]) {
      const state = stateOf(node);
      const entries = state.l1.length / 2;
      if (name === 'l1') return entryOf(state.fields.l1_table_offset, entries, 8, first);
      if (name !== 'l2' || first === undefined || first >= entries) return null;
      const table = state.l2Offset(first);
      if (table === 0) return null;
      return second === undefined ? table : entryOf(table, state.layout.l2Entries, 8, second);
    },
  },
  entriesOf: (node, at) => qcowEntriesOf(stateOf(node), at),
  check: (node, job) => checkQcow(stateOf(node), job),
  compact: compactQcow,
  measure: measureQcow,
};
