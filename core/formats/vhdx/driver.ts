// VHDX: the disks of Hyper-V since Windows Server 2012.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignUp, KiB } from '../../block/units.ts';
import { UnreadableNode } from '../../block/unreadable.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver, OpenRequest, OptionRow } from '../driver.ts';
import { checkVhdx } from './check.ts';
import { compactVhdx } from './compact.ts';
import { createVhdx } from './create.ts';
import { vhdxFacts } from './facts.ts';
import { readImage } from './image.ts';
import { measureVhdx } from './measure.ts';
import { VhdxNode } from './node.ts';
import { openParent } from './parent.ts';
import { parentPaths, type ParentLocator } from './parent-locator.ts';
import { repairVhdx } from './repair.ts';
import { vhdxEntriesOf } from './entries-of.ts';
import { vhdxRegions } from './regions.ts';
import { entryOf } from '../table-entries.ts';
import { WritableVhdxNode } from './writer.ts';
import { fileIdentifier, header, regionTableHeader } from './spec.ts';

const options: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size; max of 64TB.', shown: 'always' },
  // Not in qemu-img's list: it knows no parents of this format.
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image', shown: 'given', hidden: true },
  { name: 'backing_fmt', type: 'string', meaning: "Must be 'vhdx' if present", shown: 'given', hidden: true },
  { name: 'log_size', type: 'size', meaning: 'Log size; min 1MB.', default: 1048576, shown: 'always' },
  {
    name: 'block_size',
    type: 'size',
    meaning: 'Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.',
    default: 0,
    shown: 'always',
  },
  {
    name: 'subformat',
    type: 'string',
    meaning: "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'.",
    values: ['dynamic', 'fixed'],
    shown: 'given',
  },
  {
    name: 'block_state_zero',
    type: 'bool',
    meaning:
      "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when using 'qemu-img convert' with subformat=dynamic.",
    shown: 'given',
  },
  { name: 'logical_sector_size', type: 'number', meaning: 'Sector size for the guest', shown: 'given', hidden: true },
  { name: 'physical_sector_size', type: 'number', meaning: 'Physical sector size', shown: 'given', hidden: true },
  { name: 'virtual_disk_id', type: 'string', meaning: 'Identity of the disk', shown: 'given', hidden: true },
  { name: 'data_write_guid', type: 'string', meaning: 'Identity of the content', shown: 'given', hidden: true },
];

function ours(node: BlockNode): VhdxNode {
  if (!(node instanceof VhdxNode)) throw new Error(`${node.name} was not opened as VHDX`);
  return node;
}

/**
 * Opens for reading (a log is replayed in memory) or writing (on the disk). Throws `vhdx/*`, `gate/*`, `bytes/limit`, `storage/*`,
 * `request/invalid-option` for runtime settings, of which there are none.
 */
function openVhdx(storage: Storage, request: OpenRequest): BlockNode {
  let parent: BlockNode | null = null;
  try {
    for (const name of Object.keys(request.runtime)) throw new ImageError('request/invalid-option', { name });
    const image = readImage(storage, request.writable, request.lenient === 'open');
    if (image.locator !== null && request.withBacking) parent = parentOf(storage.name, image.locator, request);
    if (request.writable) return new WritableVhdxNode(image, parent, request.gate);
    return new VhdxNode(image, parent, request.gate, request.lenient !== undefined);
  } catch (error) {
    parent?.close();
    storage.close();
    throw error;
  }
}

function parentOf(from: string, locator: ParentLocator, { gate, lenient }: OpenRequest): BlockNode {
  try {
    return openParent(from, locator, gate);
  } catch (error) {
    // A parent without a path leads to no question that could be answered with a stand-in.
    if (lenient !== 'open' || parentPaths(locator).length > 0 || !(error instanceof ImageError)) throw error;
    return new UnreadableNode(locator.identities[0] ?? from, error);
  }
}

export const vhdx: FormatDriver = {
  id: 'vhdx',
  label: 'VHDX',
  extensions: ['vhdx', 'avhdx'],
  hasBacking: true,
  wholeSubformats: ['fixed'],
  options,
  probe: (head) => Buffer.from(head.subarray(0, 8)).toString('latin1') === 'vhdxfile',
  open: openVhdx,
  create: createVhdx,
  sizeFor: (size, values) => alignUp(size, values.logical_sector_size === 4096 ? 4096 : 512),
  identity(node) {
    const { virtualDiskId: disk } = ours(node).image.metadata;
    return { disk, options: { virtual_disk_id: disk, data_write_guid: ours(node).dataWriteGuid } };
  },
  kinship(node) {
    const { image, dataWriteGuid } = ours(node);
    const { locator } = image;
    return {
      own: { id: dataWriteGuid, version: null },
      expected: (locator?.identities ?? []).map((id) => ({ id, version: null })),
      names: locator === null ? [] : parentPaths(locator),
    };
  },
  diskIdOption: 'virtual_disk_id',
  facts: (node) => vhdxFacts(ours(node)),
  regions: (node, role = 'file') => vhdxRegions(ours(node), role),
  heads: [
    { at: 0, label: 'file type identifier', rows: fileIdentifier },
    { at: 64 * KiB, label: 'header 1', rows: header },
    { at: 128 * KiB, label: 'header 2', rows: header },
    { at: 192 * KiB, label: 'region table 1', rows: regionTableHeader },
    { at: 256 * KiB, label: 'region table 2', rows: regionTableHeader },
  ],
  entries: {
    names: ['BAT[i]'],
    find(node, name, [first]) {
      const { table } = ours(node);
      return name === 'bat' ? entryOf(table.offset, table.capacity, 8, first) : null;
    },
  },
  entriesOf: (node, at) => vhdxEntriesOf(ours(node), at),
  check: (node, job) => checkVhdx(ours(node), job),
  repair: (node, what, _job, tell) => repairVhdx(ours(node), what, tell),
  compact: compactVhdx,
  measure: measureVhdx,
};
