// A qcow2 image opened to be repaired: its tables may contradict themselves, so nobody writes guest data through it.
import type { GuestRange } from '../../block/units.ts';
import type { Place, WritableNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { Qcow2Node } from './node.ts';

/** For `repairQcow2` only; every change of the guest's disk throws `qcow2/repair-only`. */
export class Qcow2RepairNode extends Qcow2Node implements WritableNode {
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
    this.state.storage.flush();
  }

  writeBack(): void {
    // Repairs write at once; there is nothing in memory.
  }

  #refusal(): ImageError {
    return new ImageError('qcow2/repair-only', {}, { file: this.name });
  }
}
