// The check of a qed image: every cluster referenced once, every reference within the file; the counts of qemu-img.
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import type { CheckSummary, Finding } from '../driver.ts';
import { isClusterOffset, isTableOffset } from './layout.ts';
import { readTable, type QedNode } from './node.ts';
import { zeroCluster } from './spec.ts';

/** Entries of a table that are read at once. */
const pieceEntries = 8192;
const pageClusters = 32768;
const mostClusters = 0x7fff_ffff;

/** A set of cluster numbers, in pages. */
export class ClusterSet {
  readonly #pages = new Map<number, Uint32Array>();

  /** Adds a cluster; false: it was in the set. */
  add(cluster: number): boolean {
    const page = Math.floor(cluster / pageClusters);
    let words = this.#pages.get(page);
    if (words === undefined) {
      words = new Uint32Array(pageClusters / 32);
      this.#pages.set(page, words);
    }
    const at = cluster - page * pageClusters;
    const word = words[at >>> 5] ?? 0;
    const bit = 1 << (at & 31);
    words[at >>> 5] = word | bit;
    return (word & bit) === 0;
  }

  has(cluster: number): boolean {
    const words = this.#pages.get(Math.floor(cluster / pageClusters));
    const at = cluster % pageClusters;
    return words !== undefined && (((words[at >>> 5] ?? 0) >>> (at & 31)) & 1) === 1;
  }

  /** How many clusters from `first` on, below `end`, are all in the set, or all not. */
  run(first: number, end: number): number {
    const inside = this.has(first);
    let cluster = first;
    while (cluster < end) {
      const page = Math.floor(cluster / pageClusters);
      if (!inside && !this.#pages.has(page)) cluster = (page + 1) * pageClusters;
      else if (this.has(cluster) === inside) cluster++;
      else break;
    }
    return Math.min(cluster, end) - first;
  }
}

interface Figures {
  allocated: number;
  fragmented: number;
}

/** Everything that the tables refer to. Findings come while they are read; afterwards `used` and `tables` are complete. */
export class QedWalk {
  readonly used = new ClusterSet();
  /** Offsets of the L2 tables that can be read. */
  readonly tables: number[] = [];
  readonly figures: Figures = { allocated: 0, fragmented: 0 };
  readonly #node: QedNode;
  readonly #job: Job;

  /** Throws `qed/too-many-clusters`. */
  constructor(node: QedNode, job: Job) {
    this.#node = node;
    this.#job = job;
    const clusters = Math.floor(node.storage.size / node.layout.clusterSize);
    if (clusters > mostClusters) {
      const detail = { found: clusters, allowed: mostClusters };
      throw new ImageError('qed/too-many-clusters', detail, { file: node.name });
    }
  }

  /** Throws `storage/*`, `request/cancelled`. */
  *run(): Generator<Finding, void, void> {
    const { header, layout, storage } = this.#node;
    const start = header.l1_table_offset;
    yield* this.#use(start, header.table_size, { file: storage.name, offset: 40, field: 'l1_table_offset' });
    for (let done = 0; done < layout.tableEntries && start + done * 8 < storage.size; done += pieceEntries) {
      const count = Math.min(pieceEntries, layout.tableEntries - done);
      const view = new DataView(readTable(storage, start + done * 8, count));
      for (let index = 0; index < count; index++) {
        const offset = entryAt(view, index);
        if (offset === 0) continue;
        const where: Where = { file: storage.name, offset: start + (done + index) * 8, field: 'L1 entry' };
        if (!isTableOffset(layout, offset, storage.size)) {
          yield damage(
            'table-offset',
            `ERROR L1 entry ${done + index} leads to ${hex(offset)}: no L2 table can be there`,
            where,
          );
          continue;
        }
        let sound = true;
        for (const finding of this.#use(offset, header.table_size, where)) {
          sound = false;
          yield finding;
        }
        if (!sound) continue;
        this.tables.push(offset);
        yield* this.#l2(offset);
      }
    }
  }

  *#l2(start: number): Generator<Finding, void, void> {
    const { layout, storage } = this.#node;
    let next = 0;
    for (let done = 0; done < layout.tableEntries && start + done * 8 < storage.size; done += pieceEntries) {
      this.#job.throwIfCancelled();
      const count = Math.min(pieceEntries, layout.tableEntries - done);
      const view = new DataView(readTable(storage, start + done * 8, count));
      for (let index = 0; index < count; index++) {
        const offset = entryAt(view, index);
        if (offset === 0 || offset === zeroCluster) continue;
        this.figures.allocated++;
        if (next !== 0 && offset !== next) this.figures.fragmented++;
        next = offset + layout.clusterSize;
        const where: Where = { file: storage.name, offset: start + (done + index) * 8, field: 'L2 entry' };
        if (isClusterOffset(layout, offset, storage.size)) yield* this.#use(offset, 1, where);
        else yield damage('cluster-offset', `ERROR L2 entry leads to ${hex(offset)}: no cluster can be there`, where);
      }
    }
  }

  *#use(offset: number, count: number, where: Where): Generator<Finding, void, void> {
    const { clusterSize } = this.#node.layout;
    for (let index = 0; index < count; index++) {
      const cluster = offset / clusterSize + index;
      if (!this.used.add(cluster)) {
        yield damage('shared', `ERROR cluster ${cluster} is referenced more than once`, where);
      }
    }
  }
}

function entryAt(view: DataView, index: number): number {
  return view.getUint32(index * 8 + 4, true) * 0x1_0000_0000 + view.getUint32(index * 8, true);
}

const hex = (value: number): string => `0x${BigInt(value).toString(16)}`;

function damage(code: string, text: string, where: Where): Finding {
  return { code: `qed/${code}`, severity: 'corruption', text, where, count: 1, repair: null };
}

/** Checks the image. Throws `qed/too-many-clusters`, `storage/*`, `request/cancelled`. */
export function* checkQed(node: QedNode, job: Job): Generator<Finding, CheckSummary, void> {
  const { header, layout, storage, name } = node;
  const walk = new QedWalk(node, job);
  yield* walk.run();
  const clusters = Math.floor(storage.size / layout.clusterSize);
  for (let cluster = header.header_size; cluster < clusters;) {
    const run = walk.used.run(cluster, clusters);
    if (!walk.used.has(cluster)) yield leaked(cluster, run, { file: name, offset: cluster * layout.clusterSize });
    cluster += run;
  }
  return {
    imageEndOffset: null,
    totalClusters: Math.ceil(node.size / layout.clusterSize),
    allocatedClusters: walk.figures.allocated,
    fragmentedClusters: walk.figures.fragmented,
    compressedClusters: 0,
  };
}

function leaked(cluster: number, count: number, where: Where): Finding {
  const text = count === 1 ? `Leaked cluster ${cluster}` : `Leaked clusters ${cluster} to ${cluster + count - 1}`;
  return { code: 'qed/leak', severity: 'leak', text, where, count, repair: null };
}
