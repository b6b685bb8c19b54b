// VDI: the disks of VirtualBox.
import type { BlockNode } from '../../block/node.ts';
import type { FormatDriver, OptionRow } from '../driver.ts';
import { checkVdi } from './check.ts';
import { compactVdi } from './compact.ts';
import { createVdi, sizeOfNew } from './create.ts';
import { vdiFacts } from './facts.ts';
import { identityIn, isVdi } from './header.ts';
import { measureVdi } from './measure.ts';
import { VdiNode } from './node.ts';
import { openVdi } from './open.ts';
import { parentIdentity } from './parent.ts';
import { repairVdi } from './repair.ts';
import { entryOf } from '../table-entries.ts';
import { vdiEntriesOf } from './entries-of.ts';
import { vdiRegions } from './regions.ts';
import { preHeader, headerOffset, header1 } from './spec.ts';

const options: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
  { name: 'static', type: 'bool', meaning: 'VDI static (pre-allocated) image', default: false, shown: 'always' },
  {
    name: 'preallocation',
    type: 'string',
    meaning: 'Preallocation mode (allowed values: off, falloc, full)',
    values: ['off', 'falloc', 'full'],
    shown: 'given',
  },
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image', shown: 'given', hidden: true },
  { name: 'backing_fmt', type: 'string', meaning: 'Image format of the base image', shown: 'given', hidden: true },
  { name: 'uuid', type: 'string', meaning: 'UUID of the new image', shown: 'given', hidden: true },
  { name: 'modify_uuid', type: 'string', meaning: 'UUID of its last modification', shown: 'given', hidden: true },
];

function ours(node: BlockNode): VdiNode {
  if (!(node instanceof VdiNode)) throw new Error(`${node.name} was not opened as VDI`);
  return node;
}

export const vdi: FormatDriver = {
  id: 'vdi',
  label: 'VDI',
  extensions: ['vdi'],
  hasBacking: true,
  options,
  probe: (head) => isVdi(head),
  open: openVdi,
  create: createVdi,
  sizeFor: sizeOfNew,
  identity(node) {
    const { uuid_create: disk, uuid_modify: modification } = ours(node).header.values;
    return { disk, options: { uuid: disk, modify_uuid: modification } };
  },
  kinship(node) {
    const image = ours(node);
    const { uuid, modification } = identityIn(image.header);
    const parent = parentIdentity(image.header);
    return {
      own: { id: uuid, version: modification },
      expected: image.differencing ? [{ id: parent.uuid, version: parent.modification }] : [],
      names: image.differencing ? [`{${parent.uuid}}.vdi`] : [],
    };
  },
  diskIdOption: 'uuid',
  facts: (node) => vdiFacts(ours(node)),
  regions: (node, role = 'file') => vdiRegions(ours(node), role),
  heads: [
    { at: 0, label: 'pre-header', rows: preHeader },
    { at: headerOffset, label: 'header', rows: header1 },
  ],
  entries: {
    names: ['map[i]'],
    find(node, name, [first]) {
      const { blockMap } = ours(node);
      return name === 'map' || name === 'bat' ? entryOf(blockMap.offset, blockMap.entries, 4, first) : null;
    },
  },
  entriesOf: (node, at) => vdiEntriesOf(ours(node), at),
  check: (node, job) => checkVdi(ours(node), job),
  repair: (node, what, job, tell) => repairVdi(ours(node), what, job, tell),
  compact: compactVdi,
  measure: measureVdi,
};
