// A LUKS image: the guest's disk is the rest of the file behind the header, encrypted sector by sector.
import { payloadOffset, type HeaderPlace, type LuksHeader } from '../../block/crypto/luks/header.ts';
import { MemoryStorage } from '../../block/memory.ts';
import type {
  BackingReference,
  BlockNode,
  Cipher,
  ImageFile,
  Mapping,
  Place,
  Preallocation,
  WritableNode,
} from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { alignDown, alignUp, type GuestRange, type HostOffset } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';

const sectorSize = 512;

/** The disk, read-only. Without a cipher it tells its facts, and refuses its bytes (`crypto/locked`). */
export class LuksNode implements BlockNode {
  readonly format = 'luks';
  readonly name: string;
  readonly granularity = sectorSize;
  readonly backing = null;
  readonly files: readonly ImageFile[];
  readonly storage: Storage;
  readonly header: LuksHeader;
  readonly cipher: Cipher | null;
  /** Where the disk begins in the file. */
  readonly payload: HostOffset;
  size: number;
  #closed = false;

  /** `storage` is owned from then on. */
  constructor(storage: Storage, header: LuksHeader, cipher: Cipher | null) {
    this.storage = storage;
    this.name = storage.name;
    this.header = header;
    this.cipher = cipher;
    this.payload = payloadOffset(header);
    this.files = [{ role: 'file', format: 'file', storage }];
    this.size = alignUp(Math.max(0, storage.size - this.payload), sectorSize);
  }

  /** Where the header stands: for its key slots. */
  get place(): HeaderPlace {
    return { storage: this.storage, base: 0 };
  }

  map(range: GuestRange): Mapping {
    const cipher = this.unlocked();
    const { payload, storage } = this;
    const offset = payload + range.start;
    const whole = alignDown(storage.size - payload, sectorSize);
    if (range.start >= whole) {
      // The file ends within its last sector: what is missing reads as zeroes before it is decrypted, as in QEMU.
      const tail = new Uint8Array(sectorSize);
      storage.readAt(tail.subarray(0, storage.size - payload - whole), payload + whole);
      const within = range.start - whole;
      return {
        kind: 'data',
        length: range.length,
        storage: new MemoryStorage(tail, this.name),
        offset: within,
        writable: false,
        cipher,
      };
    }
    return {
      kind: 'data',
      length: Math.min(range.length, whole - range.start),
      storage,
      offset,
      writable: true,
      cipher,
    };
  }

  /** Throws `crypto/locked`. */
  protected unlocked(): Cipher {
    if (this.cipher === null) throw new ImageError('crypto/locked', {}, { file: this.name });
    return this.cipher;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.storage.close();
  }
}

/** Every sector has its place: nothing is allocated, and no sector can be zero without being written. */
export class WritableLuksNode extends LuksNode implements WritableNode {
  reserve(range: GuestRange): Place {
    const { storage, payload } = this;
    const cipher = this.unlocked();
    return { covers: range, storage, offset: payload + range.start, fresh: false, cipher, publish: () => {} };
  }

  zero(): null {
    return null;
  }

  release(): null {
    return null;
  }

  /** What is added reads as what the cipher makes of zeroes, as with every program that knows the format. */
  resize(size: number, preallocation: Preallocation = 'off'): void {
    const { storage, payload } = this;
    const before = storage.size;
    const end = payload + size;
    const provided = preallocation === 'falloc' || preallocation === 'full';
    if (provided && end > before) storage.provide(before, end - before, preallocation);
    storage.truncate(end);
    this.size = alignUp(size, sectorSize);
  }

  setBacking(reference: BackingReference | null): void {
    if (reference !== null) {
      throw new ImageError('request/unsupported', { what: 'Operation not supported' }, { file: this.name });
    }
  }

  writeBack(): void {}

  flush(): void {
    this.storage.flush();
  }
}
