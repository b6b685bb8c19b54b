// A dynamic VHD opened to be repaired: its BAT may lead anywhere, so nobody writes guest data through it.
import type { Place, WritableNode } from '../../block/node.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { DynamicNode } from './node.ts';

/** For `repairVhd` only; every change of the guest's disk throws `vhd/repair-only`. */
export class DynamicRepairNode extends DynamicNode implements WritableNode {
  reserve(): Place {
    throw this.#refusal();
  }

  zero(): GuestRange | null {
    throw this.#refusal();
  }

  release(): GuestRange | null {
    throw this.#refusal();
  }

  resize(): void {
    throw this.#refusal();
  }

  setBacking(): void {
    throw this.#refusal();
  }

  flush(): void {
    this.storage.flush();
  }

  writeBack(): void {
    // Repairs write at once; there is nothing in memory.
  }

  #refusal(): ImageError {
    return new ImageError('vhd/repair-only', {}, { file: this.name });
  }
}
