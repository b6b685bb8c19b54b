// What the chain tab shows: the graph, what of it is open, which image is selected, which one supplies the sector that was asked for.
import type { GraphNode, ImageGraph } from '../../../core/workbench/contract.ts';
import { fewChildren, layOut, relate, shownChildren, type Placed, type Relations, type Shown } from './layout.ts';

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

export class ChainView {
  /** The image whose page this is. */
  readonly home: string;
  graph = $state.raw<ImageGraph | null>(null);
  selected = $state('');
  supplier = $state<string | null>(null);
  /** The image that a dragged one would be put on. */
  drop = $state<string | null>(null);
  #closed = $state.raw<ReadonlySet<string>>(new Set());
  #limits = $state.raw<ReadonlyMap<string, number>>(new Map());
  readonly relations: Relations = $derived(relate(this.graph ?? { nodes: [], edges: [], total: 0 }));
  readonly #shown: Shown = $derived.by(() => ({
    closed: this.#closed,
    limits: this.#limits,
    kept: new Set([...this.chainOf(this.home), ...this.chainOf(this.selected)]),
  }));
  readonly placed: readonly Placed[] = $derived(layOut(this.relations, this.#shown));

  constructor(home: string) {
    this.home = home;
    this.selected = home;
  }

  /** Takes a graph; what is open stays open. */
  show(graph: ImageGraph): void {
    const first = this.graph === null;
    this.graph = graph;
    if (!this.relations.byId.has(this.selected)) this.selected = this.home;
    if (first && graph.nodes.length > openAtFirst) {
      const near = new Set(this.chainOf(this.home));
      this.#closed = new Set(graph.nodes.filter(({ id }) => !near.has(id)).map(({ id }) => id));
    }
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
    const closed = new Set(this.#closed);
    if (!closed.delete(id)) closed.add(id);
    this.#closed = closed;
  }

  /** Opens what is closed, or shows more of the children. */
  more(id: string): void {
    if (this.#closed.has(id)) this.toggle(id);
    else this.#limits = new Map(this.#limits).set(id, (this.#limits.get(id) ?? fewChildren) + moreChildren);
  }

  openAll(): void {
    this.#closed = new Set();
    this.#limits = new Map([...this.relations.childrenOf].map(([id, children]) => [id, children.length]));
  }

  /** Closes everything that does not lead to the image of the page. */
  closeOthers(): void {
    const near = new Set(this.chainOf(this.home));
    this.#closed = new Set([...this.relations.childrenOf.keys()].filter((id) => !near.has(id)));
    this.#limits = new Map();
  }

  /** Selects an image and opens what it stands on, so that it is to be seen. */
  reveal(id: string): void {
    this.selected = id;
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
    return column[0]?.id ?? null;
  }

  /** Images whose name or path holds the text. */
  find(text: string): string[] {
    const wanted = text.trim().toLowerCase();
    if (wanted === '' || this.graph === null) return [];
    return this.graph.nodes
      .filter(({ name, file }) => file.toLowerCase().includes(wanted) || name?.toLowerCase().includes(wanted) === true)
      .map(({ id }) => id);
  }

  /** Whether an image can be put on another: not on itself, on what stands on it, nor where it stands already. */
  canStandOn(id: string, other: string): boolean {
    const [one, base] = [this.node(id), this.node(other)];
    if (one?.kind !== 'image' || base === null || base.kind === 'missing' || base.health === 'gone') return false;
    return !this.chainOf(other).includes(id) && this.relations.edgeOf.get(id)?.parent !== other;
  }
}
