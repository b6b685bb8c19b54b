// vmdk: VMware's virtual disks, in one file or many.
import type { BlockNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver } from '../driver.ts';
import { checkVmdk } from './check.ts';
import { compactVmdk } from './compact.ts';
import { createVmdk } from './create.ts';
import { cidText, diskUuid } from './descriptor.ts';
import { vmdkFacts } from './facts.ts';
import { measureVmdk } from './measure.ts';
import { VmdkNode, WritableVmdkNode } from './node.ts';
import { openVmdk } from './open.ts';
import { optionRows } from './options.ts';
import { probeVmdk } from './probe.ts';
import { vmdkEntriesOf } from './entries-of.ts';
import { vmdkRegions } from './regions.ts';
import { repairVmdk } from './repair.ts';
import { sizeByRewrite } from './resize-disk.ts';
import { grainEntry } from './table-entries.ts';
import { noParent, hostedHeader } from './spec.ts';

function ours(node: BlockNode): VmdkNode {
  if (!(node instanceof VmdkNode)) throw new Error(`not a VMDK node: ${node.format}`);
  return node;
}

export const vmdk: FormatDriver = {
  id: 'vmdk',
  label: 'VMware VMDK',
  extensions: ['vmdk'],
  hasBacking: true,
  compresses: ['streamOptimized'],
  wholeSubformats: ['monolithicFlat', 'twoGbMaxExtentFlat', 'vmfs'],
  options: optionRows,
  probe: probeVmdk,
  open: openVmdk,
  create: createVmdk,
  identity(node) {
    const { descriptor } = ours(node);
    const disk = diskUuid(descriptor);
    return { disk, options: { cid: cidText(descriptor.cid), ...(disk === null ? {} : { uuid: disk }) } };
  },
  kinship(node) {
    const { cid, parentCid, parentHint } = ours(node).descriptor;
    return {
      own: { id: cidText(cid), version: null },
      expected: parentCid === noParent ? [] : [{ id: cidText(parentCid), version: null }],
      names: parentHint === null ? [] : [parentHint],
    };
  },
  diskIdOption: 'uuid',
  sizeByRewrite: (node) => sizeByRewrite(ours(node)),
  provisions: (node) => (ours(node).extents.at(-1)?.kind === 'flat' ? ['falloc', 'full'] : []),
  facts: (node) => vmdkFacts(ours(node)),
  regions: (node, role = 'file') => vmdkRegions(ours(node), role),
  heads: [{ at: 0, label: 'header', rows: hostedHeader }],
  entries: {
    names: ['GD[i]', 'GT[i]', 'GT[i][j]'],
    find: (node, name, indices) => grainEntry(ours(node), name, indices),
  },
  entriesOf: (node, at) => vmdkEntriesOf(ours(node), at),
  check: (node, job) => checkVmdk(ours(node), job),
  repair(node, what, job) {
    if (node instanceof WritableVmdkNode) return repairVmdk(node, what, job);
    throw new ImageError('format/read-only', { format: 'vmdk' }, { file: node.name });
  },
  compact: compactVmdk,
  measure: measureVmdk,
};
