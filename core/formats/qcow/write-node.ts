// A qcow image, written: clusters at the end of the file or in place of ones that were given up, and the order on the disk.
import type { BackingReference, BlockNode, PackedWriter, Place, WritableNode } from '../../block/node.ts';
import { resolveOne } from '../../block/read.ts';
import { alignUp, type GuestOffset, type GuestRange, type HostOffset } from '../../block/units.ts';
import { emptyDisk } from './empty.ts';
import { Entries } from './entries.ts';
import { packedHigh } from './layout.ts';
import { codec, QcowNode } from './node.ts';
import { relink } from './relink.ts';
import { resizeQcow } from './resize.ts';
import { packedFlag } from './spec.ts';
import type { QcowState } from './state.ts';

/** Bytes that are given room at once, at most. */
const largestRun = 8 * 1024 * 1024;

export class QcowWritableNode extends QcowNode implements WritableNode {
  readonly packed: PackedWriter | undefined;
  readonly entries: Entries;

  constructor(state: QcowState, backing: BlockNode | null) {
    super(state, backing);
    this.entries = new Entries(state);
    // Readers do not decrypt compressed clusters: an encrypted image has none.
    if (!state.encrypted) {
      const unit = state.layout.clusterSize;
      this.packed = { unit, codec, reservePacked: (start, stored) => this.#reservePacked(start, stored) };
    }
  }

  reserve(range: GuestRange): Place {
    this.requireKey();
    const { state, entries } = this;
    const { storage, layout } = state;
    const { clusterSize } = layout;
    const cipher = state.cipher ?? undefined;
    const first = Math.floor(range.start / clusterSize);
    const within = range.start - first * clusterSize;
    const last = Math.ceil((range.start + Math.min(range.length, largestRun)) / clusterSize);
    const [high, low] = entries.get(first);
    if ((high | low) !== 0 && (high & packedFlag) === 0) {
      const offset = this.dataOffset(high, low, first);
      const mapping = this.map(range);
      const length = mapping.kind === 'data' ? mapping.length : Math.min(range.length, clusterSize - within);
      const covers = { start: range.start, length };
      return { covers, storage, offset: offset + within, fresh: false, cipher, publish: () => {} };
    }
    let count = 1;
    while (first + count < last && this.#wantsRoom(first + count)) count++;
    const run = entries.allocate(count);
    const covers = { start: first * clusterSize, length: run.count * clusterSize };
    const publish = (): void => entries.point(first, run.offset, run.count);
    return { covers, storage, offset: run.offset, fresh: true, cipher, publish };
  }

  #wantsRoom(cluster: number): boolean {
    const [high, low] = this.entries.get(cluster);
    return (high | low) === 0 || (high & packedFlag) !== 0;
  }

  #reservePacked(start: GuestOffset, stored: Uint8Array): { place: Place; bytes: Uint8Array } | null {
    const { state, entries } = this;
    const { clusterSize } = state.layout;
    if (stored.length === 0 || stored.length >= clusterSize) return null;
    const offset = entries.append(stored.length);
    const high = packedHigh(state.layout, offset, stored.length);
    const cluster = start / clusterSize;
    const place: Place = {
      covers: { start, length: clusterSize },
      storage: state.storage,
      offset,
      fresh: true,
      publish: () => entries.set(cluster, high, offset % 0x1_0000_0000),
    };
    return { place, bytes: stored };
  }

  /** qcow has no clusters that read as zeroes: without a layer below the ones that are not stored do. */
  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    const { state, entries, backing } = this;
    const { clusterSize } = state.layout;
    const cluster = Math.floor(range.start / clusterSize);
    const within = range.start - cluster * clusterSize;
    const [high, low] = entries.get(cluster);
    if ((high | low) === 0) {
      const run = resolveOne(this, range);
      return run.mapping.kind === 'zero' ? { start: range.start, length: run.length } : null;
    }
    const length = Math.min(range.length, clusterSize - within);
    const done = { start: range.start, length };
    if (backing === null && !keepSpace && this.#isWhole(cluster, done)) {
      entries.set(cluster, 0, 0);
      return done;
    }
    if ((high & packedFlag) !== 0 || state.encrypted) return null;
    state.storage.zeroAt(this.dataOffset(high, low, cluster) + within, length);
    return done;
  }

  release(range: GuestRange): GuestRange | null {
    const { entries, state } = this;
    const { clusterSize } = state.layout;
    const cluster = Math.floor(range.start / clusterSize);
    const within = range.start - cluster * clusterSize;
    const length = Math.min(range.length, clusterSize - within);
    const [high, low] = entries.get(cluster);
    if ((high | low) === 0) return { start: range.start, length };
    if (!this.#isWhole(cluster, { start: range.start, length })) return null;
    entries.set(cluster, 0, 0);
    return { start: range.start, length };
  }

  /** All of the cluster, as far as the disk goes. */
  #isWhole(cluster: number, { start, length }: GuestRange): boolean {
    const { clusterSize } = this.state.layout;
    const from = cluster * clusterSize;
    return start === from && start + length === Math.min(from + clusterSize, this.size);
  }

  /** Throws `storage/*`. */
  empty(): boolean {
    emptyDisk(this);
    return true;
  }

  /** Throws `qcow/too-large`, `qcow/size`, `storage/*`. */
  resize(size: number): void {
    resizeQcow(this, size);
  }

  setBacking(reference: BackingReference | null): void {
    relink(this, reference);
  }

  flush(): void {
    this.entries.writeBack(() => this.state.storage.flush());
  }

  writeBack(): void {
    this.entries.writeBack(() => {});
  }

  /** The first place behind everything, a multiple of the cluster size: for tables that move. */
  appendTable(length: number): HostOffset {
    return this.entries.appendAligned(alignUp(length, this.state.layout.clusterSize));
  }
}
