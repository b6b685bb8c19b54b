// A fixed disk: the guest's bytes from the start of the file, the footer behind them.
import type { BackingReference, Mapping, Place, WritableNode } from '../../block/node.ts';
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
  map(range: GuestRange): Mapping {
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
   * The size as the maker's disks have it (rounded up to a geometry where that counts). The footer at the new end is on the disk before
   * the old one goes. Throws `vhd/too-large`, `storage/*`.
   */
  resize(size: number): void {
    const { values, size: rounded } = newSize(this.footer, size);
    const before = this.size;
    const bytes = patchedFooter(this.footerBytes, values);
    if (rounded > before) this.storage.truncate(rounded + footer.size);
    this.storage.writeAt(bytes, rounded);
    this.storage.flush();
    if (rounded > before) {
      // What stood behind the guest's bytes, the old footer first, must not show up in the new part.
      this.storage.zeroAt(before, rounded - before);
    } else this.storage.truncate(rounded + footer.size);
    this.storage.flush();
    this.footerBytes = bytes;
    this.footer = footer.parse(bytes);
    this.size = rounded;
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
