// A qcow2 image that can change: places for guest bytes, zeroes, releases, size, the layer below.
import type {
  BackingReference,
  BlockNode,
  PackedWriter,
  Place,
  Preallocation,
  WritableNode,
} from '../../block/node.ts';
import type { GuestOffset, GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { emptyDisk } from './empty.ts';
import { withExtension } from './header-write.ts';
import { codecOf } from './answers.ts';
import { packedEntryHigh } from './layout.ts';
import type { Qcow2Metadata } from './metadata.ts';
import { Qcow2Node } from './node.ts';
import { placeClusters, publishPacked } from './places.ts';
import { resizeQcow2 } from './resize.ts';
import { placeSubclusters } from './subclusters.ts';
import { releaseRange, zeroRange } from './zero.ts';
import { extensionType, limit } from './spec.ts';
import type { Qcow2State } from './state.ts';

/** The active disk, for writing. */
export class Qcow2WritableNode extends Qcow2Node implements WritableNode {
  readonly metadata: Qcow2Metadata;
  readonly packed?: PackedWriter;
  readonly zeroesLast = true;

  constructor(state: Qcow2State, backing: BlockNode | null, metadata: Qcow2Metadata) {
    super(state, backing);
    this.metadata = metadata;
    if (!state.external && !state.encrypted) {
      this.packed = {
        unit: state.layout.clusterSize,
        codec: codecOf(state),
        reservePacked: (start, stored) => this.#reservePacked(start, stored),
      };
    }
  }

  reserve(range: GuestRange): Place {
    this.#refuseEncrypted();
    this.metadata.beforeGuestChange();
    const { view } = this;
    return this.state.layout.extendedL2
      ? placeSubclusters(view, this.metadata, range, this.size)
      : placeClusters(view, this.metadata, range, this.size);
  }

  #refuseEncrypted(): void {
    if (this.state.encrypted && this.state.cipher === null) {
      throw new ImageError('qcow2/encrypted', { method: this.state.cryptName }, { file: this.name });
    }
  }

  #reservePacked(start: GuestOffset, stored: Uint8Array): { place: Place; bytes: Uint8Array } | null {
    const { layout, storage } = this.state;
    if (stored.length >= layout.clusterSize || stored.length === 0) return null;
    this.metadata.beforeGuestChange();
    const offset = this.metadata.allocatePacked(stored.length);
    const high = packedEntryHigh(layout, offset, stored.length);
    const place: Place = {
      covers: { start, length: layout.clusterSize },
      storage,
      offset,
      fresh: true,
      publish: () => publishPacked(this.state, this.metadata, start, high, offset % 0x1_0000_0000),
    };
    return { place, bytes: stored };
  }

  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    this.#refuseEncrypted();
    return zeroRange(this.view, this.metadata, range, { keepSpace, size: this.size });
  }

  cover(range: GuestRange): GuestRange | null {
    this.#refuseEncrypted();
    return zeroRange(this.view, this.metadata, range, { keepSpace: false, size: this.size, always: true });
  }

  empty(): boolean {
    emptyDisk(this.view, this.metadata);
    return true;
  }

  release(range: GuestRange): GuestRange | null {
    return releaseRange(this.view, this.metadata, range, this.size);
  }

  resize(size: number, preallocation: Preallocation = 'off'): void {
    resizeQcow2(this, this.view, size, preallocation);
  }

  /** Throws `qcow2/backing-name`, `qcow2/backing-format-long`, `qcow2/backing-external-raw`, `qcow2/header-full`. */
  setBacking(reference: BackingReference | null): void {
    const { header, storage, externalRaw } = this.state;
    const where = { file: storage.name };
    if (reference !== null && externalRaw) throw new ImageError('qcow2/backing-external-raw', {}, where);
    const name = reference === null ? null : Buffer.from(reference.path, 'utf8');
    if (name !== null && name.length > limit.backingName) {
      throw new ImageError('qcow2/backing-name', { found: name.length, allowed: limit.backingName }, where);
    }
    const named = reference?.format ?? null;
    const format = named === null ? null : Uint8Array.from(Buffer.from(named, 'utf8'));
    if (format !== null && format.length > limit.backingFormat) {
      throw new ImageError('qcow2/backing-format-long', { found: format.length }, where);
    }
    this.metadata.beforeChange();
    const before = { backingName: header.backingName, extensions: header.extensions };
    header.backingName = reference === null ? null : reference.path;
    header.extensions = withExtension(header.extensions, extensionType.backingFormat, format);
    try {
      this.metadata.rewriteHeader();
    } catch (error) {
      Object.assign(header, before);
      throw error;
    }
  }

  flush(): void {
    this.metadata.flush();
  }

  writeBack(): void {
    this.metadata.writeBack();
  }

  override close(): void {
    if (this.closed) return;
    try {
      this.metadata.close();
    } finally {
      super.close();
    }
  }
}
