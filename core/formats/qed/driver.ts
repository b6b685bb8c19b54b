// qed, QEMU's format between qcow and qcow2 version 3: read and checked, so that one convert leads out of it.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import { notCompacted } from '../compact-driver.ts';
import type { FormatDriver, ImageFacts, OpenRequest } from '../driver.ts';
import { checkQed } from './check.ts';
import { QedNode, readBacking, readHeader, readTable } from './node.ts';
import { qedEntriesOf } from './entries-of.ts';
import { qedRegions } from './regions.ts';
import { entryOf } from '../table-entries.ts';
import { feature, magic, qedHeader } from './spec.ts';

/** Throws the `qed/*` codes of the header, `format/read-only`, `request/invalid-option`, `gate/*`, `storage/*`. */
function openQed(storage: Storage, request: OpenRequest): BlockNode {
  try {
    for (const name of Object.keys(request.runtime)) throw new ImageError('request/invalid-option', { name });
    if (request.writable) throw new ImageError('format/read-only', { format: 'qed' }, { file: storage.name });
    const parsed = readHeader(storage, request.lenient === 'open');
    const reference = readBacking(storage, parsed.header, parsed.layout);
    const follow = request.withBacking && reference !== null;
    const node = follow ? request.gate.openImage({ from: storage.name, ...reference }) : null;
    return new QedNode(storage, parsed, { reference, node }, request.lenient !== undefined);
  } catch (error) {
    storage.close();
    throw error;
  }
}

function ours(node: BlockNode): QedNode {
  if (!(node instanceof QedNode)) throw new Error(`${node.name} was not opened as qed`);
  return node;
}

function facts(node: QedNode): ImageFacts {
  return {
    clusterSize: node.layout.clusterSize,
    encrypted: false,
    dirty: (node.header.features & feature.needCheck) !== 0n,
    backing: node.reference,
    specific: null,
    snapshots: [],
    further: { 'table-size': node.header.table_size },
  };
}

export const qed: FormatDriver = {
  id: 'qed',
  label: 'QED',
  extensions: ['qed'],
  hasBacking: true,
  options: [],
  probe: (head) =>
    head.length >= 4 && new DataView(head.buffer, head.byteOffset, head.length).getUint32(0, true) === magic,
  open: openQed,
  compact: notCompacted('qed images are only read here; convert it'),
  facts: (node) => facts(ours(node)),
  regions: (node) => qedRegions(ours(node)),
  heads: [{ at: 0, label: 'header', rows: qedHeader }],
  entries: {
    names: ['L1[i]', 'L2[i]', 'L2[i][j]'],
    find(node, name, [first, second]) {
      const { storage, header, layout } = ours(node);
      const entry = entryOf(header.l1_table_offset, layout.tableEntries, 8, first);
      if (name === 'l1' || entry === null) return name === 'l1' ? entry : null;
      if (name !== 'l2') return null;
      const table = Number(new DataView(readTable(storage, entry, 1)).getBigUint64(0, true));
      if (table === 0 || !Number.isSafeInteger(table)) return null;
      return second === undefined ? table : entryOf(table, layout.tableEntries, 8, second);
    },
  },
  entriesOf: (node, at) => qedEntriesOf(ours(node), at),
  check: (node, job) => checkQed(ours(node), job),
};
