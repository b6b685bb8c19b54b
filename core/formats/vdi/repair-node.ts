// A VDI opened to be repaired: its block map may lead anywhere, so nobody writes guest data through it.
import type { Place, WritableNode } from '../../block/node.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import { VdiNode } from './node.ts';

/** For `repairVdi` only; every change of the guest's disk throws `vdi/repair-only`. */
export class VdiRepairNode extends VdiNode implements WritableNode {
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
    return new ImageError('vdi/repair-only', {}, { file: this.name });
  }
}
