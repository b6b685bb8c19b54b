// VHD ("vpc" by qemu's name): the disks of Virtual PC, Hyper-V, Azure and XenServer.
import type { BlockNode } from '../../block/node.ts';
import type { FormatDriver, OptionRow } from '../driver.ts';
import { checkVhd } from './check.ts';
import { compactVhd } from './compact.ts';
import { createVhd } from './create.ts';
import { FixedNode } from './fixed.ts';
import { vhdFacts } from './facts.ts';
import { fitsAtEnd, footerAtEnd, hasCookie } from './footer.ts';
import { roundSize } from './geometry.ts';
import { identityIn } from './identity.ts';
import { measureVhd } from './measure.ts';
import { DynamicNode, VhdNode } from './node.ts';
import { openVhd } from './open.ts';
import { claimOf } from './parent.ts';
import { repairVhd } from './repair.ts';
import { entryOf } from '../table-entries.ts';
import { vhdEntriesOf } from './entries-of.ts';
import { vhdRegions } from './regions.ts';
import { footer, dynamicHeader } from './spec.ts';

const options: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
  {
    name: 'subformat',
    type: 'string',
    meaning: 'Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} ',
    values: ['dynamic', 'fixed'],
    shown: 'given',
  },
  {
    name: 'force_size',
    type: 'bool',
    meaning:
      'Force disk size calculation to use the actual size specified, rather than using the nearest CHS-based calculation',
    shown: 'given',
  },
  {
    name: 'preallocation',
    type: 'string',
    meaning: 'Preallocation mode (allowed values: off, falloc, full)',
    values: ['off', 'falloc', 'full'],
    shown: 'given',
  },
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image', shown: 'given', hidden: true },
  { name: 'backing_fmt', type: 'string', meaning: 'Image format of the base image', shown: 'given', hidden: true },
  { name: 'block_size', type: 'size', meaning: 'Guest bytes per block', shown: 'given', hidden: true },
  { name: 'uuid', type: 'string', meaning: 'Unique id of the new disk', shown: 'given', hidden: true },
];

function ours(node: BlockNode): VhdNode {
  if (!(node instanceof VhdNode)) throw new Error(`${node.name} was not opened as VHD`);
  return node;
}

export const vhd: FormatDriver = {
  id: 'vpc',
  label: 'VHD',
  extensions: ['vhd', 'vpc', 'avhd'],
  hasBacking: true,
  wholeSubformats: ['fixed'],
  options,
  /**
   * By the copy of the footer at the start, or by a sound footer at the end. This driver is asked before the others: the start of a
   * fixed disk is the guest's, who could make it look like any format.
   */
  probe(head, tail, size) {
    if (hasCookie(head)) return true;
    const found = footerAtEnd(tail);
    return found !== null && fitsAtEnd(found, size);
  },
  open: openVhd,
  create: createVhd,
  sizeFor: (size, values) => roundSize(size, values.force_size === true).size,
  identity(node) {
    const { unique_id: disk } = ours(node).footer;
    return { disk, options: { uuid: disk } };
  },
  kinship(node) {
    const image = ours(node);
    const { uniqueId, timeStamp } = identityIn(image.footer);
    const own = { id: uniqueId, version: String(timeStamp) };
    if (!(image instanceof DynamicNode) || !image.differencing) return { own, expected: [], names: [] };
    const claim = claimOf(image.header, image.headerBytes, image.locators, image.footer);
    const version = claim.timeStampCounts ? String(claim.identity.timeStamp) : null;
    return { own, expected: [{ id: claim.identity.uniqueId, version }], names: claim.paths };
  },
  diskIdOption: 'uuid',
  provisions: (node) => (node instanceof FixedNode ? ['falloc', 'full'] : []),
  facts: (node) => vhdFacts(ours(node)),
  regions: (node, role = 'file') => vhdRegions(ours(node), role),
  heads: [
    { at: 0, label: 'footer copy', rows: footer },
    { at: 512, label: 'dynamic disk header', rows: dynamicHeader },
    { at: -512, label: 'footer', rows: footer },
  ],
  entries: {
    names: ['BAT[i]'],
    find(node, name, [first]) {
      const image = ours(node);
      if (name !== 'bat' || !(image instanceof DynamicNode)) return null;
      return entryOf(image.table.offset, image.table.entries, 4, first);
    },
  },
  entriesOf: (node, at) => vhdEntriesOf(ours(node), at),
  check: (node, job) => checkVhd(ours(node), job),
  repair: (node, what, job, tell) => repairVhd(ours(node), what, job, tell),
  compact: compactVhd,
  measure: measureVhd,
};
