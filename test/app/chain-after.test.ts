// The preview of a chain: what each verb makes of the graph, and which images it concerns.
import { describe, expect, it } from 'vitest';
import type { GraphNode, ImageGraph } from '../../core/workbench/contract.ts';
import { chainAfter, chainRows, type ChainChange } from '../../renderer/state/chain-after.ts';

const node = (id: string): GraphNode => ({
  ...{ id, kind: 'image', name: null, file: `/d/${id}`, datastore: 'd', format: 'qcow2', subformat: null },
  ...{ virtualSize: 1, allocated: 1, health: 'ok', problem: null, encrypted: false },
  ...{ snapshots: { count: 0, first: [] }, children: 0, above: 0 },
});
const edge = (child: string, parent: string): ImageGraph['edges'][number] => ({
  ...{ child, parent, state: 'whole', reference: parent, expected: [], found: null },
});
/** base ← mid ← top, base ← other ← far. */
const graph: ImageGraph = {
  nodes: ['base', 'mid', 'top', 'other', 'far'].map(node),
  edges: [edge('mid', 'base'), edge('top', 'mid'), edge('other', 'base'), edge('far', 'other')],
  total: 5,
};

describe('the preview of a chain', () => {
  /** `base[mark] > mid > …` for each line, by depth. */
  const shown = (id: string, change: ChainChange, most = 20): string[] =>
    chainRows(chainAfter(graph, id, change), id, most).rows.map(
      ({ node: { id: name }, depth, mark }) => `${'.'.repeat(depth)}${name}${mark === null ? '' : ` ${mark}`}`,
    );

  it('of each verb', () => {
    expect(shown('mid', { kind: 'overlay', target: '/d/new', format: 'qcow2' })).toEqual([
      'base',
      '.mid',
      '..top',
      '../d/new made',
    ]);
    expect(shown('mid', { kind: 'commit', into: '/d/base', keeps: false })).toEqual([
      'base filled',
      '.mid emptied',
      '..top',
      '.other harmed',
      '..far harmed',
    ]);
    expect(shown('mid', { kind: 'merge' })).toEqual(['base filled', '.top told', '.other harmed']);
    expect(shown('top', { kind: 'flatten' })).toEqual(['top alone']);
    expect(shown('top', { kind: 'rebase', base: '/d/far', unsafe: false })).toEqual([
      'base',
      '.other',
      '..far',
      '...top elsewhere',
    ]);
    expect(shown('top', { kind: 'rebase', base: '/elsewhere', unsafe: true })).toEqual(['/elsewhere', '.top harmed']);
    expect(shown('top', { kind: 'relink', base: '/n/mid', all: false })).toEqual(['/n/mid', '.top told']);
    const lost = {
      ...graph,
      nodes: graph.nodes.map((one) =>
        one.id === 'base' ? { ...one, kind: 'missing' as const, health: 'gone' as const } : one,
      ),
    };
    const found = chainAfter(lost, 'mid', { kind: 'relink', base: '/n/base', all: true });
    expect([...found.marks]).toEqual([
      ['mid', 'told'],
      ['other', 'told'],
    ]);
    expect(found.graph.nodes.some(({ id }) => id === 'base')).toBe(false);
    const one = chainAfter(lost, 'mid', { kind: 'relink', base: '/n/base', all: false });
    expect(one.graph.nodes.some(({ id }) => id === 'base')).toBe(true);
    expect(shown('mid', { kind: 'migrate', target: '/n/mid', chain: true })).toEqual([
      'base moved',
      '.mid moved',
      '..top told',
      '.other told',
    ]);
    expect(shown('other', { kind: 'delete' })).toEqual(['base', '.other gone', '..far lost']);
    expect(chainAfter(graph, 'other', { kind: 'delete' }).graph.edges.at(-1)?.state).toBe('missing');
  });

  it('keeps to its lines, and ends where a chain comes back to itself', () => {
    expect(shown('mid', { kind: 'commit', into: '/d/base', keeps: true }, 2)).toHaveLength(2);
    const loop: ImageGraph = { nodes: ['a', 'b'].map(node), edges: [edge('a', 'b'), edge('b', 'a')], total: 2 };
    expect(
      chainRows(chainAfter(loop, 'a', { kind: 'delete' }), 'a', 10).rows.map(({ node: { id } }) => id),
    ).toHaveLength(2);
    expect(chainAfter(graph, 'nobody', { kind: 'delete' }).graph).toBe(graph);
  });
});
