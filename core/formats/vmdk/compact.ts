// Giving space back in a VMDK image: flat extents get holes, an image of sparse extents is written anew.
import type { BlockNode } from '../../block/node.ts';
import { compactedByHoles, type CompactDriver, type CompactPlan } from '../compact-driver.ts';
import type { OptionValue } from '../driver.ts';
import { baseName, siblingName } from './layout.ts';
import { VmdkNode, WritableVmdkNode } from './node.ts';
import { subformats, type Subformat } from './options.ts';

const adapters: readonly string[] = ['ide', 'buslogic', 'lsilogic', 'legacyESX'];

/** What a new image is made with to be like this one; or why there can be none. */
function rewriteOf(node: VmdkNode): CompactPlan['rewrite'] {
  const { descriptor, createType } = node;
  const subformat = subformats.find((name) => name === createType);
  if (subformat === undefined) return { refused: `images of the kind ${createType} are not created here` };
  if (!hasUsualNames(node, subformat)) return { refused: 'its extents have names of their own' };
  const options: Record<string, OptionValue> = { subformat };
  const adapter = descriptor.values.get('ddb.adaptertype');
  if (adapter !== undefined && adapters.includes(adapter)) options.adapter_type = adapter;
  const hardware = descriptor.values.get('ddb.virtualhwversion');
  if (hardware !== undefined && hardware !== '') options.hwversion = hardware;
  const tools = descriptor.values.get('ddb.toolsversion');
  if (tools !== undefined && tools !== '') options.toolsversion = tools;
  if (hasZeroedGrains(node)) options.zeroed_grain = true;
  return { options };
}

/** A new image of several files must take the places of the old ones, file by file. */
function hasUsualNames({ name, extents }: VmdkNode, subformat: Subformat): boolean {
  if (subformat === 'monolithicSparse' || subformat === 'streamOptimized') return true;
  const kind =
    subformat === 'monolithicFlat' || subformat === 'vmfs' ? 'flat' : subformat === 'twoGbMaxExtentFlat' ? 'f' : 's';
  return extents.every(
    ({ storage }, index) => storage !== null && baseName(storage.name) === siblingName(name, kind, index + 1),
  );
}

function ours(node: BlockNode): VmdkNode {
  if (!(node instanceof VmdkNode)) throw new Error(`${node.name} was not opened as VMDK`);
  return node;
}

function hasZeroedGrains({ extents }: VmdkNode): boolean {
  return extents.some((extent) => extent.kind === 'sparse' && extent.zeroedGrains);
}

function planOf(opened: BlockNode): CompactPlan {
  const node = ours(opened);
  const rewrite = rewriteOf(node);
  if (node.extents.every(({ kind }) => kind !== 'sparse')) return compactedByHoles(rewrite);
  const unit = node.extents.reduce(
    (largest, extent) => (extent.kind === 'sparse' ? Math.max(largest, extent.grainSize) : largest),
    512,
  );
  const shared = { unit, hole: 0, keepsContent: null, rewrite };
  if ('refused' in rewrite) return { way: 'none', reason: rewrite.refused, ...shared };
  return { way: 'rewrite', reason: 'grains are written one behind the other and are not moved in place', ...shared };
}

export const compactVmdk: CompactDriver = {
  plan: planOf,
  // Over a parent zeroes have to be stored, unless grains can be marked as zero.
  give: (node, _unit, { below, dry }) => dry && (!below || hasZeroedGrains(ours(node))),
  begin(node, changesContent) {
    if (changesContent && node instanceof WritableVmdkNode) node.markChanged();
  },
};
