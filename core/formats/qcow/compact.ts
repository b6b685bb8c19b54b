// Giving space back in a qcow image: by writing it anew, as the format keeps no account of free clusters.
import type { BlockNode } from '../../block/node.ts';
import type { CompactDriver, CompactPlan } from '../compact-driver.ts';
import { QcowNode } from './node.ts';

function planOf(node: BlockNode): CompactPlan {
  if (!(node instanceof QcowNode)) throw new Error(`${node.name} was not opened as qcow`);
  const { state } = node;
  const unit = state.layout.clusterSize;
  if (state.encrypted) {
    const reason = 'an encrypted qcow image is not written anew here';
    return { way: 'none', reason, unit, hole: 0, keepsContent: null, rewrite: { refused: reason } };
  }
  const reason = 'the format keeps no account of free clusters';
  return { way: 'rewrite', reason, unit, hole: 0, keepsContent: null, rewrite: { options: {} } };
}

export const compactQcow: CompactDriver = {
  plan: planOf,
  // Over a layer below zeroes have to be stored.
  give: (_node, _unit, { below, dry }) => dry && !below,
};
