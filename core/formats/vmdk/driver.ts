// vmdk: VMware's virtual disks, in one file or many.
import type { BlockNode } from '../../block/node.ts';
import type { FormatDriver } from '../driver.ts';
import { cidText } from './descriptor.ts';
import { checkVmdk } from './check.ts';
import { createVmdk } from './create.ts';
import { vmdkFacts } from './facts.ts';
import { measureVmdk } from './measure.ts';
import { VmdkNode } from './node.ts';
import { openVmdk } from './open.ts';
import { optionRows } from './options.ts';
import { probeVmdk } from './probe.ts';
import { vmdkRegions } from './regions.ts';

function ours(node: BlockNode): VmdkNode {
  if (!(node instanceof VmdkNode)) throw new Error(`not a VMDK node: ${node.format}`);
  return node;
}

export const vmdk: FormatDriver = {
  id: 'vmdk',
  label: 'VMware VMDK',
  extensions: ['vmdk'],
  hasBacking: true,
  options: optionRows,
  probe: probeVmdk,
  open: openVmdk,
  create: createVmdk,
  identity: (node) => ({ disk: null, options: { cid: cidText(ours(node).descriptor.cid) } }),
  facts: (node) => vmdkFacts(ours(node)),
  regions: (node, role = 'file') => vmdkRegions(ours(node), role),
  check: (node, job) => checkVmdk(ours(node), job),
  measure: measureVmdk,
};
