// The chain round an image as it is, and as it would be after something was done to it: a pure function of the graph.
import type { GraphNode, ImageGraph } from '../../core/workbench/contract.ts';

/** What is about to be done to an image. Paths are those of files. */
export type ChainChange =
  | { readonly kind: 'overlay'; readonly target: string; readonly format: string }
  | { readonly kind: 'commit'; readonly into: string; readonly keeps: boolean }
  | { readonly kind: 'merge' }
  | { readonly kind: 'flatten' }
  | { readonly kind: 'rebase'; readonly base: string; readonly unsafe: boolean }
  /** `all`: every image that misses the same file is told; else this one alone. */
  | { readonly kind: 'relink'; readonly base: string; readonly all: boolean }
  | { readonly kind: 'migrate'; readonly target: string; readonly chain: boolean }
  | { readonly kind: 'delete' };

/**
 * What becomes of an image: it is made, takes what another held, is emptied, stands elsewhere or on its own, moves, is told where its parent
 * is, goes, is lost without its parent, or reads something else from then on.
 */
export type Mark =
  'made' | 'filled' | 'emptied' | 'elsewhere' | 'alone' | 'moved' | 'told' | 'gone' | 'lost' | 'harmed';

export interface ChainAfter {
  readonly graph: ImageGraph;
  readonly marks: ReadonlyMap<string, Mark>;
}

/** The files that an image stands on, the nearest first. */
function below(graph: ImageGraph, id: string): string[] {
  const parents = new Map(graph.edges.map(({ child, parent }) => [child, parent]));
  const chain = new Set<string>();
  for (let at = parents.get(id); at !== undefined && !chain.has(at) && at !== id; at = parents.get(at)) chain.add(at);
  return [...chain];
}

/** Everything that stands on an image, at any height. */
function above(graph: ImageGraph, id: string): string[] {
  const found = new Set([id]);
  // A set hands out what is added to it while it is walked.
  for (const one of found) for (const { child, parent } of graph.edges) if (parent === one) found.add(child);
  return [...found].slice(1);
}

/** The graph after `change` was done to the image `id`. */
export function chainAfter(graph: ImageGraph, id: string, change: ChainChange): ChainAfter {
  const marks = new Map<string, Mark>();
  const self = graph.nodes.find((node) => node.id === id);
  const children = graph.edges.filter(({ parent }) => parent === id).map(({ child }) => child);
  const others = graph.edges.filter(({ child }) => child !== id);
  const parent = graph.edges.find(({ child }) => child === id)?.parent ?? null;
  if (self === undefined) return { graph, marks };
  switch (change.kind) {
    case 'overlay': {
      marks.set(change.target, 'made');
      const made = blank(change.target, change.format, self);
      return { graph: { ...graph, nodes: [...graph.nodes, made], edges: [...graph.edges, whole(made.id, id)] }, marks };
    }
    case 'commit': {
      const into = graph.nodes.find(({ file }) => file === change.into);
      if (into === undefined) return { graph, marks };
      const way = new Set([id, ...above(graph, id), ...below(graph, id)]);
      for (const one of above(graph, into.id)) if (!way.has(one)) marks.set(one, 'harmed');
      marks.set(into.id, 'filled');
      if (!change.keeps) marks.set(id, 'emptied');
      return { graph, marks };
    }
    case 'merge': {
      if (parent === null) return { graph, marks };
      marks.set(parent, 'filled');
      for (const child of children) marks.set(child, 'told');
      const edges = others.map((edge) => (edge.parent === id ? { ...edge, parent } : edge));
      for (const edge of others) if (edge.parent === parent) marks.set(edge.child, 'harmed');
      return { graph: { ...graph, nodes: graph.nodes.filter((node) => node.id !== id), edges }, marks };
    }
    case 'flatten':
      marks.set(id, 'alone');
      return { graph: { ...graph, edges: others }, marks };
    case 'rebase': {
      marks.set(id, change.unsafe ? 'harmed' : 'elsewhere');
      const { nodes, base } = withBase(graph, change.base);
      return { graph: { ...graph, nodes, edges: [...others, whole(id, base.id)] }, marks };
    }
    case 'relink': {
      const told = change.all ? graph.edges.filter((edge) => edge.parent === parent).map(({ child }) => child) : [id];
      for (const one of told) marks.set(one, 'told');
      const { nodes, base } = withBase(graph, change.base);
      const kept = graph.edges.filter(({ child }) => !told.includes(child));
      // Nobody knows of the lost file any more once nobody stands on it.
      const lost = kept.some((edge) => edge.parent === parent) ? null : parent;
      const left = nodes.filter((node) => node.id !== lost || (node.kind !== 'missing' && node.health !== 'gone'));
      return { graph: { ...graph, nodes: left, edges: [...kept, ...told.map((one) => whole(one, base.id))] }, marks };
    }
    case 'migrate': {
      const moved = new Set([id, ...(change.chain ? below(graph, id) : [])]);
      for (const one of moved) marks.set(one, 'moved');
      for (const { child, parent: on } of graph.edges) if (moved.has(on) && !moved.has(child)) marks.set(child, 'told');
      const nodes = graph.nodes.map((node) => (node.id === id ? { ...node, file: change.target } : node));
      return { graph: { ...graph, nodes }, marks };
    }
    case 'delete':
      for (const one of above(graph, id)) marks.set(one, 'lost');
      marks.set(id, 'gone');
      return {
        graph: {
          ...graph,
          nodes: graph.nodes.map((node) => (node.id === id ? { ...node, health: 'gone' as const } : node)),
          edges: graph.edges.map((edge) => (edge.parent === id ? { ...edge, state: 'missing' as const } : edge)),
        },
        marks,
      };
  }
}

/** The image at `file`, which the graph need not have yet. */
function withBase(graph: ImageGraph, file: string): { readonly nodes: readonly GraphNode[]; readonly base: GraphNode } {
  const known = graph.nodes.find((node) => node.file === file);
  const base = known ?? blank(file, null, null);
  return { nodes: known === undefined ? [...graph.nodes, base] : graph.nodes, base };
}

function whole(child: string, parent: string): ImageGraph['edges'][number] {
  return { child, parent, state: 'whole', reference: parent, expected: [], found: null };
}

/** An image that the graph does not have yet; its size is that of the one below. */
function blank(file: string, format: string | null, like: GraphNode | null): GraphNode {
  return {
    ...{ id: file, kind: 'outside', name: null, file, datastore: null, format, subformat: null },
    ...{ virtualSize: like?.virtualSize ?? null, allocated: null, health: 'ok', problem: null, encrypted: false },
    ...{ snapshots: { count: 0, first: [] }, children: 0, above: 0 },
  };
}

/** A line of the small picture: `depth` steps to the right. */
export interface ChainRow {
  readonly node: GraphNode;
  readonly depth: number;
  readonly mark: Mark | null;
}

/** What stands round an image, and whatever else is concerned: the lowest first, at most `most` lines; `more` are left out. */
export function chainRows(
  { graph, marks }: ChainAfter,
  id: string,
  most: number,
): { readonly rows: readonly ChainRow[]; readonly more: number } {
  const byId = new Map(graph.nodes.map((node) => [node.id, node]));
  const near = new Set<string>([...marks.keys()].filter((one) => byId.has(one)));
  if (byId.has(id)) near.add(id);
  for (const { child, parent } of graph.edges) if (parent === id) near.add(child);
  for (const one of [...near]) for (const base of below(graph, one)) near.add(base);
  const parents = new Map(graph.edges.map(({ child, parent }) => [child, parent]));
  const rows: ChainRow[] = [];
  const seen = new Set<string>();
  const add = (one: string, depth: number): void => {
    const node = byId.get(one);
    if (node === undefined || seen.has(one)) return;
    seen.add(one);
    rows.push({ node, depth, mark: marks.get(one) ?? null });
    for (const { child, parent } of graph.edges) if (parent === one && near.has(child)) add(child, depth + 1);
  };
  for (const one of near) if (!near.has(parents.get(one) ?? '')) add(one, 0);
  // What is left goes round in circles.
  for (const one of near) add(one, 0);
  return { rows: rows.slice(0, most), more: Math.max(0, rows.length - most) };
}
