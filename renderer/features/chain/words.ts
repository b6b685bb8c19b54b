// The graph of a chain in words: for those who do not see it, and for the reason of a broken edge.
import type { GraphEdge, GraphNode } from '../../../core/workbench/contract.ts';
import { t } from '../../text/message.svelte.ts';
import { baseName } from '../../text/paths.ts';
import { sizeText } from '../../text/sizes.ts';
import type { ChainView } from './chain-view.svelte.ts';

export function nameOf(node: GraphNode): string {
  return node.name ?? baseName(node.file);
}

export function isBroken({ state }: GraphEdge): boolean {
  return state !== 'whole' && state !== 'outside';
}

/** Why an edge is broken, with what was expected and what was found; empty: it is not. */
export function reasonOf(edge: GraphEdge): string {
  if (!isBroken(edge)) return '';
  const expected = edge.expected[0] ?? null;
  if (edge.state !== 'changed' || expected === null) return t(`edge.${edge.state}`);
  const found = edge.found;
  // The same disk in another state differs in its version only.
  const isSameDisk = found?.id === expected.id && expected.version !== null;
  return t('chain.expected', {
    expected: (isSameDisk ? expected.version : expected.id) ?? '',
    found: (isSameDisk ? found.version : found?.id) ?? t('chain.no-identity'),
  });
}

/** As it stands on the node. */
function shownHealth({ kind, health }: GraphNode): string | null {
  if (kind === 'missing' || health === 'gone') return t('chain.not-there');
  if (health === 'problem') return t('chain.unreadable');
  return health === 'dirty' ? t('chain.dirty') : null;
}

export function describeNode(view: ChainView, node: GraphNode): string {
  const edge = view.relations.edgeOf.get(node.id) ?? null;
  const base = edge === null ? null : view.node(edge.parent);
  return [
    nameOf(node),
    node.format ?? t('format.unknown'),
    node.allocated === null ? null : sizeText(node.allocated),
    shownHealth(node),
    base === null
      ? node.kind === 'image'
        ? t('relatives.no-parent')
        : null
      : t('chain.stands-on', { name: nameOf(base) }),
    edge === null || !isBroken(edge) ? null : reasonOf(edge),
    node.children === 0 ? null : t('chain.carries', { count: node.children }),
    view.supplier === node.id ? t('chain.supplies') : null,
  ]
    .filter((part) => part !== null)
    .join(', ');
}
