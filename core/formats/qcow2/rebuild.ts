// All refcounts of an image anew, from the references that were counted: new blocks and a new table beside the old ones.
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import { writeHeaderFields } from './header-write.ts';
import { setRefcount, type Layout } from './layout.ts';
import { limit } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** Clusters behind the end of a file of `clusters` that rebuilding may come to need: blocks, the table, and a table that was too small. */
export function rebuildSpare(layout: Layout, clusters: number): number {
  const perBlock = layout.refcountBlockEntries;
  const blocks = Math.ceil(clusters / (perBlock - 1)) + 2;
  const tableClusters = Math.ceil((blocks * 8) / layout.clusterSize) + 1;
  return Math.ceil((blocks + 3 * tableClusters) * (1 + 2 / perBlock)) + 16;
}

/**
 * Writes refcount blocks and a table that say what `counts` says, in clusters that nothing refers to, and then points the header to
 * them: until that is on disk the old structures stand untouched, after it they are leaked. `counts` gets the clusters that were taken.
 * Throws `qcow2/refcount-table-full`, `storage/*`.
 */
export function rebuildRefcounts(state: Qcow2State, counts: ClusterCounts, job: Job): void {
  const { storage, layout, header } = state;
  const { clusterSize } = layout;
  const builder = new Builder(state, counts, job);
  builder.cover(0, counts.size);
  let offset: number;
  let clusters: number;
  do {
    clusters = builder.tableClusters;
    if (clusters * clusterSize > limit.refcountTableBytes) {
      throw new ImageError('qcow2/refcount-table-full', { allowed: limit.refcountTableBytes }, { file: storage.name });
    }
    const first = builder.take(clusters, 0);
    offset = first * clusterSize;
    builder.cover(first, first + clusters);
  } while (builder.tableClusters !== clusters);
  builder.writeBlocks();
  storage.flush();
  const table = new DataView(new ArrayBuffer(clusters * clusterSize));
  for (const [index, block] of builder.blocks) table.setBigUint64(index * 8, BigInt(block * clusterSize));
  storage.writeAt(new Uint8Array(table.buffer), offset);
  storage.flush();
  header.fields = { ...header.fields, refcount_table_offset: offset, refcount_table_clusters: clusters };
  writeHeaderFields(state, ['refcount_table_offset', 'refcount_table_clusters']);
  storage.flush();
}

class Builder {
  /** Cluster of each block by its number. */
  readonly blocks = new Map<number, number>();
  readonly #state: Qcow2State;
  readonly #counts: ClusterCounts;
  readonly #job: Job;
  #highest = 0;

  constructor(state: Qcow2State, counts: ClusterCounts, job: Job) {
    this.#state = state;
    this.#counts = counts;
    this.#job = job;
  }

  /** Clusters of a table for the blocks there are. */
  get tableClusters(): number {
    return Math.ceil(((this.#highest + 1) * 8) / this.#state.layout.clusterSize);
  }

  /** Blocks for all clusters in use from `first` to `end`, and for the clusters that those blocks take. */
  cover(first: number, end: number): void {
    const { refcountBlockEntries: perBlock } = this.#state.layout;
    let free = 0;
    for (let cluster = first; cluster < end; cluster++) {
      if (this.#counts.get(cluster) === 0) continue;
      const index = Math.floor(cluster / perBlock);
      if (!this.blocks.has(index)) {
        this.#job.throwIfCancelled();
        // As near as can be to what it counts, and never before: those blocks are done.
        free = Math.max(free, index * perBlock);
        const own = this.take(1, free);
        free = own;
        end = Math.max(end, own + 1);
        this.blocks.set(index, own);
        this.#highest = Math.max(this.#highest, index);
      }
      cluster = (index + 1) * perBlock - 1;
    }
  }

  /** The first run of `count` free clusters from `from` on, with one reference from now on. */
  take(count: number, from: number): number {
    const counts = this.#counts;
    let first = from;
    let length = 0;
    for (let cluster = from; length < count; cluster++) {
      if (cluster < counts.size && counts.get(cluster) !== 0) length = 0;
      else if (length++ === 0) first = cluster;
    }
    for (let cluster = first; cluster < first + count; cluster++) counts.add(cluster);
    return first;
  }

  writeBlocks(): void {
    const { storage, layout } = this.#state;
    const { refcountBlockEntries: perBlock, refcountOrder, clusterSize } = layout;
    for (const [index, cluster] of this.blocks) {
      this.#job.throwIfCancelled();
      const block = new Uint8Array(clusterSize);
      for (let i = 0; i < perBlock; i++) {
        const count = this.#counts.get(index * perBlock + i);
        if (count !== 0) setRefcount(block, refcountOrder, i, count);
      }
      storage.writeAt(block, cluster * clusterSize);
    }
  }
}
