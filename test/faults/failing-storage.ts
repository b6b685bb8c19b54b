// A Storage that fails on purpose at its n-th change, and counts the changes made through it.
import type { Provision, Storage, StorageExtent } from '../../core/block/storage.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import type { ErrorCode } from '../../core/errors/messages.ts';

/** What changes a file: each call of one of these is a step. */
export type StepKind = 'write' | 'truncate' | 'flush' | 'zero' | 'provide';

export interface FailureOptions {
  /** What the host says. Default EIO; the sentence is the C library's. */
  readonly errno?: 'EIO' | 'ENOSPC';
  /** `once`: only step n fails. `lasting` (default): every step from n on fails, as on a disk that has died or is full. */
  readonly mode?: 'once' | 'lasting';
  /** The failing write leaves about the first half of its sectors in the file. Default false: it leaves nothing. */
  readonly torn?: boolean;
}

const sentences = { EIO: 'Input/output error', ENOSPC: 'No space left on device' } as const;
const codes: Record<StepKind, ErrorCode> = {
  write: 'storage/write',
  truncate: 'storage/truncate',
  flush: 'storage/flush',
  zero: 'storage/write',
  provide: 'storage/write',
};

/** Steps that several storages share: step n of an image is counted over all its files. */
export class StepCounter {
  /** Steps begun so far. */
  steps = 0;
  /** The kind of every step, in order: what a failing n was about. */
  readonly kinds: StepKind[] = [];
  readonly failing: number;
  readonly options: FailureOptions;

  constructor(failing: number, options: FailureOptions = {}) {
    this.failing = failing;
    this.options = options;
  }

  /** True when the step that begins now is to fail. */
  begin(kind: StepKind): boolean {
    this.steps++;
    this.kinds.push(kind);
    return this.options.mode === 'once' ? this.steps === this.failing : this.steps >= this.failing;
  }

  /** True once step n was reached: the run did not get through unharmed. */
  get struck(): boolean {
    return this.steps >= this.failing;
  }
}

/** Passes everything on to `inner` until its counter says that a step fails. Has no descriptor, so nothing goes past it. */
export class FailingStorage implements Storage {
  readonly inner: Storage;
  readonly counter: StepCounter;
  readonly name: string;
  readonly writable: boolean;
  readonly descriptor = null;
  readonly identity: string | null;

  constructor(inner: Storage, counter: StepCounter) {
    this.inner = inner;
    this.counter = counter;
    this.name = inner.name;
    this.writable = inner.writable;
    this.identity = inner.identity;
  }

  get size(): number {
    return this.inner.size;
  }

  /** Steps begun so far. */
  get steps(): number {
    return this.counter.steps;
  }

  readAt(into: Uint8Array, offset: number): void {
    this.inner.readAt(into, offset);
  }

  extentAt(offset: number, limit: number): StorageExtent {
    return this.inner.extentAt(offset, limit);
  }

  allocated(): number {
    return this.inner.allocated();
  }

  close(): void {
    this.inner.close();
  }

  writeAt(from: Uint8Array, offset: number): void {
    if (this.counter.begin('write')) {
      if (this.counter.options.torn === true && this.counter.steps === this.counter.failing) {
        // disks write whole sectors
        const end = offset + (from.length >> 1);
        this.inner.writeAt(from.subarray(0, Math.max(0, end - (end % 512) - offset)), offset);
      }
      this.#fail('write', offset);
    }
    this.inner.writeAt(from, offset);
  }

  truncate(size: number): void {
    if (this.counter.begin('truncate')) this.#fail('truncate', size);
    this.inner.truncate(size);
  }

  flush(): void {
    if (this.counter.begin('flush')) this.#fail('flush', 0);
    this.inner.flush();
  }

  zeroAt(offset: number, length: number): void {
    if (this.counter.begin('zero')) this.#fail('zero', offset);
    this.inner.zeroAt(offset, length);
  }

  provide(offset: number, length: number, how: Provision): void {
    if (this.counter.begin('provide')) this.#fail('provide', offset);
    this.inner.provide(offset, length, how);
  }

  #fail(kind: StepKind, offset: number): never {
    const errno = this.counter.options.errno ?? 'EIO';
    throw new ImageError(codes[kind], { errno, reason: sentences[errno] }, { file: this.name, offset });
  }
}

/** `storage` whose n-th step (write, truncate, flush, zero, provide; counted from 1) fails; `Infinity`: it only counts. */
export function failAt(storage: Storage, n: number, options: FailureOptions = {}): FailingStorage {
  return new FailingStorage(storage, new StepCounter(n, options));
}
