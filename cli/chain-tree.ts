// The chain of an image as a terminal shows it: bases above, what stands on them below, each with its state.
import type { GraphEdge, GraphNode, ImageGraph } from '../core/catalogue/graph.ts';
import { outLine } from './print.ts';
import { humanSize } from './size.ts';

/** What each state of a reference is called; null: nothing is wrong. */
const states: Readonly<Record<GraphEdge['state'], string | null>> = {
  whole: null,
  outside: null,
  missing: 'not there',
  changed: 'another disk, or changed since',
  touched: 'written since it was first seen',
  loop: 'comes back to itself',
  refused: 'no name of a file',
};

/** `marked`: the image that was asked about; `supplier`: the layer that supplies the sector, null: none was asked for. */
export function printTree(graph: ImageGraph, marked: string, supplier: string | null): void {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const below = new Map(graph.edges.map((edge) => [edge.child, edge]));
  const above = new Map<string, GraphEdge[]>();
  for (const edge of graph.edges) {
    const list = above.get(edge.parent);
    if (list === undefined) above.set(edge.parent, [edge]);
    else list.push(edge);
  }
  const printed = new Set<string>();
  const print = (id: string, lead: string, inner: string): void => {
    const node = nodes.get(id);
    if (node === undefined || printed.has(id)) return;
    printed.add(id);
    const edge = below.get(id) ?? null;
    outLine(`${lead}${line(node, edge, id === marked, id === supplier)}`);
    for (const name of snapshotNames(node)) {
      outLine(`${inner}${(above.get(id) ?? []).length > 0 ? '│' : ' '}  ◦ ${name}`);
    }
    const children = (above.get(id) ?? []).filter(({ child }) => !printed.has(child));
    children.forEach(({ child }, index) => {
      const isLast = index === children.length - 1;
      print(child, inner + (isLast ? '└─ ' : '├─ '), inner + (isLast ? '   ' : '│  '));
    });
  };
  for (const { id } of graph.nodes) if (!below.has(id)) print(id, '', '');
  // What is left goes round in circles.
  print(marked, '', '');
  for (const { id } of graph.nodes) print(id, '', '');
  const more = graph.total - graph.nodes.length;
  if (more > 0) outLine(`… and ${more} more`);
}

function line(node: GraphNode, edge: GraphEdge | null, isMarked: boolean, supplies: boolean): string {
  const facts = [
    node.format ?? '?',
    ...(node.virtualSize === null ? [] : [humanSize(node.virtualSize)]),
    ...(node.allocated === null ? [] : [`${humanSize(node.allocated)} on disk`]),
  ];
  const notes = [
    ...(node.kind === 'missing' || node.health === 'gone' ? ['✕ not there'] : []),
    ...(node.health === 'problem' ? [`✕ ${node.problem ?? 'cannot be read'}`] : []),
    ...(node.health === 'dirty' ? ['! not closed cleanly'] : []),
    ...why(edge, node),
    ...(supplies ? ['◀ supplies the sector'] : []),
  ];
  const mark = isMarked ? '● ' : '';
  return [`${mark}${node.file}`, `[${facts.join(', ')}]`, ...notes].join('  ');
}

/** What is wrong with the reference of a node to its parent. */
function why(edge: GraphEdge | null, node: GraphNode): string[] {
  if (edge === null || node.health === 'gone') return [];
  const text = states[edge.state];
  if (text === null) return [];
  const expected = edge.expected[0] ?? null;
  const identities =
    edge.state === 'changed' && expected !== null
      ? ` (expected ${identity(expected)}, found ${edge.found === null ? 'none' : identity(edge.found)})`
      : '';
  return [`${edge.state === 'touched' ? '!' : '✕'} parent '${edge.reference}' ${text}${identities}`];
}

function identity({ id, version }: { readonly id: string; readonly version: string | null }): string {
  return version === null ? id : `${id}/${version}`;
}

function snapshotNames({ snapshots: { count, first } }: GraphNode): string[] {
  const more = count - first.length;
  return [...first.map(({ id, name }) => `snapshot ${id} ${name}`), ...(more > 0 ? [`${more} more snapshots`] : [])];
}
