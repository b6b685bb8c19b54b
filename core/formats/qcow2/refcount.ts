// Which host clusters are free, who gets them, and how often they are referenced.
import { ImageError } from '../../errors/image-error.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import { getRefcount } from './layout.ts';
import { adoptCounts } from './refcount-adopt.ts';
import { RefcountBlocks, type ClusterRun, type MetadataListener } from './refcount-blocks.ts';
import type { Qcow2State } from './state.ts';

/** Hands out clusters of an image opened for writing; only a writer loads refcounts. */
export class Refcounts {
  readonly blocks: RefcountBlocks;
  readonly #state: Qcow2State;
  /** No cluster before this one is free. */
  #next = 0;

  /** `onMetadata` hears of clusters that the refcount structures take for themselves, and of those they give back at once. */
  constructor(state: Qcow2State, onMetadata: MetadataListener) {
    this.#state = state;
    this.blocks = new RefcountBlocks(state, (first, count, taken) => {
      if (!taken) this.#next = Math.min(this.#next, first);
      onMetadata(first, count, taken);
    });
  }

  get(cluster: number): number {
    return this.blocks.get(cluster);
  }

  /** Sets a refcount as it is told. */
  set(cluster: number, value: number): void {
    this.blocks.set(cluster, value);
    if (value === 0) this.#next = Math.min(this.#next, cluster);
  }

  /**
   * Makes all refcounts what `counts` says; the blocks that are missing for that are added, in clusters that nothing refers to.
   * Throws `qcow2/refcount-table-full`.
   */
  adopt(counts: ClusterCounts): void {
    adoptCounts(this.#state, this.blocks, counts);
    this.#next = 0;
  }

  /** One more reference to each cluster of the run, which are in use. Throws `qcow2/refcount-overflow`. */
  addReference(first: number, count = 1): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      const value = this.get(cluster) + 1;
      if (value > this.#state.layout.refcountMax) {
        throw new ImageError(
          'qcow2/refcount-overflow',
          { cluster, most: this.#state.layout.refcountMax },
          this.#where(cluster),
        );
      }
      this.set(cluster, value);
    }
  }

  /**
   * A run of 1 to `want` free clusters, each with one reference from now on; all of `want` if `whole`.
   * Throws `qcow2/refcount-table-full`.
   */
  allocate(want: number, whole = false): ClusterRun {
    const { refcountBlockEntries: perBlock, refcountOrder } = this.#state.layout;
    let cluster = this.#next;
    let skipped = false;
    let first = -1;
    for (;;) {
      const index = Math.floor(cluster / perBlock);
      const block = this.blocks.block(index);
      if (block === null) {
        if (first >= 0 && !whole) break;
        if (index > this.blocks.lastBlock()) return this.#extend(want, whole, skipped || first >= 0);
        this.blocks.addArea(index, 0);
        continue;
      }
      const end = (index + 1) * perBlock;
      for (let i = cluster - index * perBlock; i < perBlock; i++) {
        if (getRefcount(block, refcountOrder, i) === 0) {
          if (first < 0) first = index * perBlock + i;
          cluster = index * perBlock + i + 1;
          if (cluster - first >= want) return this.#take({ first, count: want }, skipped);
        } else if (first >= 0) {
          if (!whole) return this.#take({ first, count: cluster - first }, skipped);
          first = -1;
          skipped = true;
        }
      }
      cluster = end;
    }
    return this.#take({ first, count: cluster - first }, skipped);
  }

  /** The cluster `cluster` if it is free, with one reference from now on. */
  allocateAt(cluster: number): boolean {
    const { refcountBlockEntries } = this.#state.layout;
    if (this.blocks.block(Math.floor(cluster / refcountBlockEntries)) === null || this.get(cluster) !== 0) return false;
    this.set(cluster, 1);
    return true;
  }

  #take(run: ClusterRun, skipped: boolean): ClusterRun {
    this.blocks.fill(run, 1);
    if (!skipped) this.#next = run.first + run.count;
    return run;
  }

  /** All that is counted is taken: more blocks behind the last one, a larger table if need be, and then the run. */
  #extend(want: number, whole: boolean, skipped: boolean): ClusterRun {
    const { refcountBlockEntries: perBlock } = this.#state.layout;
    const index = this.blocks.lastBlock() + 1;
    const payload = whole ? want : Math.min(want, Math.max(1, perBlock - 1));
    const used = this.blocks.addArea(index, payload);
    const first = index * perBlock + used;
    // In a block of one or two refcounts there may be less room than was asked.
    return this.#take({ first, count: payload }, skipped);
  }

  #where(cluster: number): { file: string; offset: number } {
    return { file: this.#state.storage.name, offset: cluster * this.#state.layout.clusterSize };
  }
}
