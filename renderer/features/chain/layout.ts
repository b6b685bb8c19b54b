// Where the images of a chain stand: what is below left, what is above right, no two on each other. Each has one parent at most, so the
// graph is a forest and a walk over it does what a general layout would.
import type { GraphEdge, GraphNode, ImageGraph } from '../../../core/workbench/contract.ts';

/** Pixels at zoom 1. */
export const nodeWidth = 232;
const bodyHeight = 58;
const snapshotHeight = 19;
const between = { column: 128, row: 14, tree: 34 };
const columnWidth = nodeWidth + between.column;
/** Snapshots that a node names; of more, the number. */
export const namedSnapshots = 3;
/** Children of one image that are shown until more are asked for. */
export const fewChildren = 40;

/** Who stands on whom, for looking up. */
export interface Relations {
  readonly byId: ReadonlyMap<string, GraphNode>;
  readonly edgeOf: ReadonlyMap<string, GraphEdge>;
  readonly childrenOf: ReadonlyMap<string, readonly string[]>;
  readonly roots: readonly string[];
  /** The lowest image under each. */
  readonly rootOf: ReadonlyMap<string, string>;
}

export function relate(graph: ImageGraph): Relations {
  const byId = new Map(graph.nodes.map((node) => [node.id, node]));
  const edgeOf = new Map(graph.edges.map((edge) => [edge.child, edge]));
  const childrenOf = new Map<string, string[]>();
  for (const { child, parent } of graph.edges) {
    const children = childrenOf.get(parent);
    if (children === undefined) childrenOf.set(parent, [child]);
    else children.push(child);
  }
  const roots = graph.nodes.filter(({ id }) => !edgeOf.has(id)).map(({ id }) => id);
  const rootOf = new Map<string, string>();
  const follow = (root: string): void => {
    const reached = new Set([root]);
    // A set hands out what is added to it while it is walked.
    for (const id of reached) {
      rootOf.set(id, root);
      for (const child of childrenOf.get(id) ?? []) if (!rootOf.has(child)) reached.add(child);
    }
  };
  for (const id of roots) follow(id);
  // Where a chain comes back to itself there is no lowest one: each member that nothing else leads to begins a tree.
  for (const { id } of graph.nodes) {
    if (rootOf.has(id)) continue;
    roots.push(id);
    follow(id);
  }
  return { byId, edgeOf, childrenOf, roots, rootOf };
}

export interface Placed {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  readonly height: number;
  /** Images above it that are not shown. */
  readonly hidden: number;
}

export function heightOf({ snapshots }: GraphNode): number {
  const rows = Math.min(snapshots.count, namedSnapshots) + (snapshots.count > namedSnapshots ? 1 : 0);
  return bodyHeight + (rows === 0 ? 0 : rows * snapshotHeight + 5);
}

/** What of the children of an image is shown. `closed`: none; `limits`: so many, where it is not the usual number. */
export interface Shown {
  readonly closed: ReadonlySet<string>;
  readonly limits: ReadonlyMap<string, number>;
  /** Always among the shown children of its parent, with all that it stands on. */
  readonly kept: ReadonlySet<string>;
}

export function shownChildren(
  { childrenOf }: Relations,
  id: string,
  { closed, limits, kept }: Shown,
): readonly string[] {
  const all = childrenOf.get(id) ?? [];
  if (closed.has(id)) return [];
  const most = limits.get(id) ?? fewChildren;
  return all.length <= most ? all : all.filter((child, index) => index < most || kept.has(child));
}

/** Chains that stand under each other before another column of them begins, and how many rows a square of folded ones has. */
const leastRows = 12;
const rowsOfSquare = 1.5;

/**
 * Places every image that is shown. `trees`: the lowest image of each chain; many of them stand in columns, each chain always in the same
 * one, whatever of it is open.
 */
export function layOut(relations: Relations, shown: Shown, trees: readonly string[] = relations.roots): Placed[] {
  const placed: Placed[] = [];
  const seen = new Set<string>();
  /** Where the column of chains begins, and how deep those in it are. */
  let left = 0;
  let deepest = 0;
  /** Gives the middle of the node and where the tree ends. */
  const place = (id: string, depth: number, top: number): { readonly middle: number; readonly end: number } => {
    seen.add(id);
    deepest = Math.max(deepest, depth);
    const node = relations.byId.get(id);
    const height = node === undefined ? bodyHeight : heightOf(node);
    const children = shownChildren(relations, id, shown).filter((child) => !seen.has(child));
    let end = top;
    let first: number | null = null;
    let last = 0;
    for (const child of children) {
      const tree = place(child, depth + 1, end);
      first ??= tree.middle;
      last = tree.middle;
      end = tree.end + between.row;
    }
    const middle = Math.max(top + height / 2, first === null ? 0 : (first + last) / 2);
    const direct = relations.childrenOf.get(id)?.length ?? 0;
    const hidden = children.length === 0 && direct > 0 ? (node?.above ?? direct) : direct - children.length;
    placed.push({
      id,
      x: left + depth * columnWidth,
      y: middle - height / 2,
      height,
      hidden: shown.closed.has(id) || hidden > 0 ? Math.max(0, hidden) : 0,
    });
    return { middle, end: Math.max(end - (children.length > 0 ? between.row : 0), middle + height / 2) };
  };
  const rows = Math.max(leastRows, Math.ceil(rowsOfSquare * Math.sqrt(trees.length)));
  for (let first = 0; first < trees.length; first += rows) {
    let top = 0;
    deepest = 0;
    for (const root of trees.slice(first, first + rows))
      if (!seen.has(root)) top = place(root, 0, top).end + between.tree;
    left += (deepest + 1) * columnWidth;
  }
  return placed;
}
