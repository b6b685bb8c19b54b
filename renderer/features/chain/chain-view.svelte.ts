// What a picture of chains shows: the graph, what of it is open, which image is selected, which one supplies the sector that was asked for.
import type { GraphNode, ImageGraph } from '../../../core/workbench/contract.ts';
import { fewChildren, layOut, relate, shownChildren, type Placed, type Relations, type Shown } from './layout.ts';
import { isBroken } from './words.ts';

/** Above so many relatives only what is near the image is open at first. */
const openAtFirst = 120;
/** Children that one press on "more" adds. */
const moreChildren = 200;

/** What moves the picture. */
export interface Moves {
  /** Shows all of it where that can be read, else what is near the selected image. */
  fit(): void;
  zoom(by: number): void;
  centre(id: string): void;
  /** Moves it if the image is out of sight. */
  see(id: string): void;
}

/** Which of many chains are shown. */
export interface Narrow {
  /** Those with an image in the datastore of this name; null: in any. */
  datastore: string | null;
  /** Those in which something is lost, changed or cannot be read. */
  broken: boolean;
  /** The one of this image; null: all. */
  chainOf: string | null;
}

export class ChainView {
  /** The image whose page this is; null: the picture is of all images. */
  readonly home: string | null;
  graph = $state.raw<ImageGraph | null>(null);
  /** Empty: none yet. */
  selected = $state('');
  supplier = $state<string | null>(null);
  /** The image that a dragged one would be put on, with the reason if it cannot be. */
  drop = $state.raw<{ readonly on: string; readonly refused: ReturnType<ChainView['refusal']> } | null>(null);
  narrow = $state<Narrow>({ datastore: null, broken: false, chainOf: null });
  /** The image that stays where it is on screen when something is opened or closed. */
  anchor: string | null = null;
  #closed = $state.raw<ReadonlySet<string>>(new Set());
  #limits = $state.raw<ReadonlyMap<string, number>>(new Map());
  readonly relations: Relations = $derived(relate(this.graph ?? { nodes: [], edges: [], total: 0 }));
  /** The lowest images of the chains that are shown. */
  readonly trees: readonly string[] = $derived.by(() => this.#narrowed());
  /** Shown though they stand behind what is shown of the children of their parent; as text, so that the picture is drawn anew only when they change. */
  readonly #kept: string = $derived.by(() => {
    const kept = new Set([...this.chainOf(this.home ?? ''), ...this.chainOf(this.selected)]);
    return [...kept].filter((id) => this.#isBehind(id)).join('\n');
  });
  readonly #shown: Shown = $derived({
    closed: this.#closed,
    limits: this.#limits,
    kept: new Set(this.#kept.split('\n')),
  });
  readonly placed: readonly Placed[] = $derived(layOut(this.relations, this.#shown, this.trees));

  constructor(home: string | null) {
    this.home = home;
    this.selected = home ?? '';
  }

  /** Takes a graph; what is open stays open. */
  show(graph: ImageGraph): void {
    const first = this.graph === null;
    this.graph = graph;
    if (!this.relations.byId.has(this.selected)) this.selected = this.home ?? this.trees[0] ?? '';
    if (this.narrow.chainOf !== null && !this.relations.byId.has(this.narrow.chainOf)) this.narrow.chainOf = null;
    if (first && graph.nodes.length > openAtFirst) {
      const near = new Set(this.chainOf(this.home ?? ''));
      this.#closed = new Set(graph.nodes.filter(({ id }) => !near.has(id)).map(({ id }) => id));
    }
  }

  /** Shows all chains again. */
  widen(): void {
    this.narrow = { datastore: null, broken: false, chainOf: null };
  }

  #narrowed(): readonly string[] {
    const { datastore, broken, chainOf } = this.narrow;
    const { roots, rootOf, byId, edgeOf } = this.relations;
    let trees = roots;
    if (chainOf !== null) trees = trees.filter((id) => id === rootOf.get(chainOf));
    const those = (fits: (node: GraphNode) => boolean): void => {
      const wanted = new Set([...byId.values()].filter(fits).map(({ id }) => rootOf.get(id)));
      trees = trees.filter((id) => wanted.has(id));
    };
    if (datastore !== null) those((node) => node.datastore === datastore);
    if (broken) {
      those(({ id, health }) => {
        const edge = edgeOf.get(id);
        return health === 'gone' || health === 'problem' || (edge !== undefined && isBroken(edge));
      });
    }
    return trees;
  }

  /** Whether an image is one of those children of its parent that are not shown by themselves. */
  #isBehind(id: string): boolean {
    const parent = this.relations.edgeOf.get(id)?.parent;
    if (parent === undefined) return false;
    const most = this.#limits.get(parent) ?? fewChildren;
    const children = this.relations.childrenOf.get(parent) ?? [];
    return children.length > most && children.indexOf(id) >= most;
  }

  /** What was selected and is folded away leaves the selection to what it stands on. */
  #keepSelectedSeen(): void {
    const seen = new Set(this.placed.map(({ id }) => id));
    this.selected = this.chainOf(this.selected).find((id) => seen.has(id)) ?? this.selected;
  }

  node(id: string): GraphNode | null {
    return this.relations.byId.get(id) ?? null;
  }

  /** An image and all that it stands on, the nearest first. */
  chainOf(id: string): string[] {
    const chain = new Set<string>();
    for (
      let at: string | undefined = id;
      at !== undefined && !chain.has(at);
      at = this.relations.edgeOf.get(at)?.parent
    ) {
      chain.add(at);
    }
    return [...chain];
  }

  /** The layer that many steps below an image; null: the graph does not know it. */
  below(id: string, steps: number): string | null {
    return this.chainOf(id)[steps] ?? null;
  }

  childrenShown(id: string): readonly string[] {
    return shownChildren(this.relations, id, this.#shown);
  }

  isClosed(id: string): boolean {
    return this.#closed.has(id);
  }

  toggle(id: string): void {
    this.anchor = id;
    const closed = new Set(this.#closed);
    if (!closed.delete(id)) closed.add(id);
    this.#closed = closed;
    this.#keepSelectedSeen();
  }

  /** Opens what is closed, or shows more of the children. */
  more(id: string): void {
    this.anchor = id;
    if (this.#closed.has(id)) this.toggle(id);
    else this.#limits = new Map(this.#limits).set(id, (this.#limits.get(id) ?? fewChildren) + moreChildren);
  }

  openAll(): void {
    this.anchor = this.selected;
    this.#closed = new Set();
    this.#limits = new Map([...this.relations.childrenOf].map(([id, children]) => [id, children.length]));
  }

  /** Closes everything that does not lead to the image of the page. */
  closeOthers(): void {
    const near = new Set(this.chainOf(this.home ?? ''));
    this.#closed = new Set([...this.relations.childrenOf.keys()].filter((id) => !near.has(id)));
    this.#limits = new Map();
    this.#keepSelectedSeen();
    this.anchor = this.selected;
  }

  /** Selects an image and opens what it stands on, so that it is to be seen. */
  reveal(id: string): void {
    this.selected = id;
    if (!this.trees.includes(this.relations.rootOf.get(id) ?? '')) this.widen();
    const closed = new Set(this.#closed);
    for (const below of this.chainOf(id).slice(1)) closed.delete(below);
    if (closed.size !== this.#closed.size) this.#closed = closed;
  }

  /** The image that an arrow key leads to; null: there is none. */
  neighbour(id: string, way: 'below' | 'above' | 'previous' | 'next'): string | null {
    if (way === 'below') return this.relations.edgeOf.get(id)?.parent ?? null;
    if (way === 'above') return this.childrenShown(id)[0] ?? null;
    const here = this.placed.find((one) => one.id === id);
    if (here === undefined) return null;
    const column = this.placed.filter(({ x, y }) => x === here.x && (way === 'next' ? y > here.y : y < here.y));
    column.sort((a, b) => (way === 'next' ? a.y - b.y : b.y - a.y));
    const tree = this.trees.indexOf(id);
    // Where a column of chains ends, the next one begins.
    return column[0]?.id ?? (tree < 0 ? null : (this.trees[tree + (way === 'next' ? 1 : -1)] ?? null));
  }

  /** Images whose name or path holds the text. */
  find(text: string): string[] {
    const wanted = text.trim().toLowerCase();
    if (wanted === '' || this.graph === null) return [];
    const trees = new Set(this.trees);
    return this.graph.nodes
      .filter(({ id }) => trees.has(this.relations.rootOf.get(id) ?? ''))
      .filter(({ name, file }) => file.toLowerCase().includes(wanted) || name?.toLowerCase().includes(wanted) === true)
      .map(({ id }) => id);
  }

  /**
   * Why an image cannot be put on another one: it would stand on itself, it stands there already, or there is nothing to stand on; null: it
   * can. Of one that cannot be dragged it says nothing.
   */
  refusal(id: string, other: string): 'loop' | 'already' | 'nothing' | null {
    const base = this.node(other);
    if (base === null || base.kind === 'missing' || base.health === 'gone') return 'nothing';
    if (this.chainOf(other).includes(id)) return 'loop';
    return this.relations.edgeOf.get(id)?.parent === other ? 'already' : null;
  }
}
