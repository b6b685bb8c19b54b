// A fixed disk: the guest's bytes from the start of the file, the footer behind them.
import type { BackingReference, Mapping, Place, Preallocation, WritableNode } from '../../block/node.ts';
import type { GuestRange, HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { patchedFooter } from './footer.ts';
import { VhdNode } from './node.ts';
import { newSize } from './resize.ts';
import { footer } from './spec.ts';

/** The disk begins where the file begins. */
function hostOffset(range: GuestRange): HostOffset {
  return Number(range.start);
}

export class FixedNode extends VhdNode {
  protected mapSound(range: GuestRange): Mapping {
    const { storage } = this;
    const offset = hostOffset(range);
    const extent = storage.extentAt(offset, range.length);
    const length = Math.min(extent.length, range.length);
    if (extent.kind === 'hole') {
      return { kind: 'zero', length, explicit: true, reserved: { storage, offset }, hole: true };
    }
    return { kind: 'data', length, storage, offset, writable: true };
  }
}

export class WritableFixedNode extends FixedNode implements WritableNode {
  reserve(range: GuestRange): Place {
    return { covers: range, storage: this.storage, offset: hostOffset(range), fresh: false, publish: () => {} };
  }

  zero(range: GuestRange): GuestRange | null {
    this.storage.zeroAt(hostOffset(range), range.length);
    return range;
  }

  release(range: GuestRange): GuestRange | null {
    return this.zero(range);
  }

  /**
   * The size as the maker's disks have it (rounded up to a geometry where that counts). The footer at the end of the file decides: there it
   * says the new size only when nothing else is left to do for a larger disk, and before anything is done for a smaller one. Throws
   * `vhd/too-large`, `storage/*`.
   */
  resize(size: number, preallocation: Preallocation = 'off'): void {
    const { storage } = this;
    const { values, size: rounded } = newSize(this.footer, size);
    const before = this.size;
    if (rounded === before) return;
    const bytes = patchedFooter(this.footerBytes, values);
    const held = storage.size;
    const grownFile = rounded + footer.size > held;
    if (grownFile) this.#write(this.footerBytes, rounded);
    if (rounded > before) {
      // What stood behind the guest's bytes, the old footer first, must not show up in the new part.
      storage.zeroAt(before, Math.min(rounded, held) - before);
      if (preallocation === 'falloc' || preallocation === 'full') {
        storage.provide(before, rounded - before, preallocation);
      }
      storage.flush();
    }
    if (!grownFile) this.#write(bytes, held - footer.size);
    this.#write(bytes, rounded);
    if (!grownFile) {
      storage.truncate(rounded + footer.size);
      storage.flush();
    }
    this.footerBytes = bytes;
    this.footer = footer.parse(bytes);
    this.size = rounded;
  }

  #write(footerBytes: Uint8Array, offset: HostOffset): void {
    this.storage.writeAt(footerBytes, offset);
    this.storage.flush();
  }

  setBacking(reference: BackingReference | null): void {
    if (reference === null) return;
    throw new ImageError('request/unsupported', { what: 'Operation not supported' }, { file: this.name });
  }

  writeBack(): void {}

  flush(): void {
    this.storage.flush();
  }
}
