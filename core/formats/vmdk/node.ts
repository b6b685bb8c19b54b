// An open VMDK image: extents one behind the other, over the parent of a delta.
import crypto from 'node:crypto';
import type {
  BackingReference,
  BlockNode,
  ImageFile,
  Mapping,
  PackedWriter,
  Place,
  Preallocation,
  WritableNode,
} from '../../block/node.ts';
import { mapDamaged, restOf, type Damage } from '../../block/unreadable.ts';
import { type GuestOffset, type GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OpenGate } from '../driver.ts';
import { writeDescriptor, type DescriptorPlace } from './descriptor-place.ts';
import { withCid, withParent, type Descriptor } from './descriptor.ts';
import type { ExtentPlace, ExtentWriter } from './extent-writer.ts';
import { mapFlat, type Extent, type ExtentAnswer } from './extent.ts';
import { cidOf } from './parent.ts';
import { cutEnd } from './resize.ts';
import { resizeVmdk } from './resize-disk.ts';
import { SparseWriter } from './sparse-writer.ts';
import { noParent, sectorSize } from './spec.ts';

/** What opening found. */
export interface OpenedVmdk {
  readonly name: string;
  readonly files: readonly ImageFile[];
  readonly extents: readonly Extent[];
  readonly backing: BlockNode | null;
  readonly descriptor: Descriptor;
  readonly place: DescriptorPlace;
  /** As info prints it: for an image in one sparse file what its header says. */
  readonly createType: string;
  /** The descriptor is embedded in the only extent. */
  readonly embedded: boolean;
  readonly gate: OpenGate;
}

/** A VMDK image for reading. */
export class VmdkNode implements BlockNode {
  readonly format = 'vmdk';
  readonly name: string;
  files: readonly ImageFile[];
  extents: readonly Extent[];
  readonly backing: BlockNode | null;
  readonly place: DescriptorPlace;
  readonly createType: string;
  readonly embedded: boolean;
  readonly gate: OpenGate;
  readonly granularity: number;
  descriptor: Descriptor;
  /** Guest offset where each extent starts. */
  starts: Float64Array;
  readonly #lenient: boolean;
  #closed = false;

  /** `lenient`: as in `OpenRequest`. */
  constructor(opened: OpenedVmdk, lenient = false) {
    this.#lenient = lenient;
    this.name = opened.name;
    this.files = opened.files;
    this.extents = opened.extents;
    this.backing = opened.backing;
    this.place = opened.place;
    this.createType = opened.createType;
    this.embedded = opened.embedded;
    this.gate = opened.gate;
    this.descriptor = opened.descriptor;
    this.starts = startsOf(opened.extents);
    let granularity = Infinity;
    opened.extents.forEach((extent) => {
      granularity = Math.min(granularity, extent.kind === 'sparse' ? extent.grainSize : sectorSize);
    });
    this.granularity = Number.isFinite(granularity) ? granularity : sectorSize;
  }

  get size(): number {
    const last = this.extents.length - 1;
    return last < 0 ? 0 : (this.starts[last] ?? 0) + (this.extents[last]?.size ?? 0);
  }

  map(range: GuestRange): Mapping {
    if (!this.#lenient) return this.#mapSound(range);
    const { extent, within, length } = this.find(range);
    return mapDamaged({ start: range.start, length }, damageOf(extent, range.start - within), (known) =>
      this.#mapSound(known),
    );
  }

  #mapSound(range: GuestRange): Mapping {
    const { extent, within, length } = this.find(range);
    const answer = answerOf(extent, within, length);
    switch (answer.kind) {
      case 'data':
        return {
          kind: 'data',
          length: answer.length,
          storage: storageOf(extent),
          offset: answer.offset,
          writable: true,
        };
      case 'packed':
        return { ...answer, storage: storageOf(extent) };
      case 'zero': {
        const reserved = answer.hole === null ? undefined : { storage: storageOf(extent), offset: answer.hole };
        return { kind: 'zero', length: answer.length, explicit: true, reserved, hole: answer.hole !== null };
      }
      case 'absent':
        if (this.backing === null) return { kind: 'zero', length: answer.length, explicit: false };
        return { kind: 'below', length: answer.length, node: this.backing, offset: range.start };
    }
  }

  /** The extent of the first byte of `range`, the offset within it, and how much of the range it has. */
  find(range: GuestRange): { index: number; extent: Extent; within: number; length: number } {
    let low = 0;
    let high = this.extents.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.starts[middle] ?? 0) <= range.start) low = middle;
      else high = middle - 1;
    }
    const extent = this.extents[low];
    if (extent === undefined) {
      throw new ImageError('request/out-of-range', { ...range, size: this.size }, { file: this.name });
    }
    const within = range.start - (this.starts[low] ?? 0);
    return { index: low, extent, within, length: Math.min(range.length, extent.size - within) };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { storage } of this.files) storage.close();
    this.backing?.close();
  }
}

/** What is known of an extent that begins at byte `base` of the disk, and whose tables or bytes may not lie in its file. */
function damageOf(extent: Extent, base: number): Damage {
  if (extent.kind === 'sparse') {
    const table = extent.grainSize * extent.entriesPerTable;
    const reach: Damage['reach'] = (start, { code }) => {
      const isTable = code.startsWith('vmdk/table-') || code === 'vmdk/directory-outside';
      return restOf(isTable ? table : extent.grainSize, start - base);
    };
    return { known: Infinity, beyond: null, reach };
  }
  const inFile = extent.kind === 'flat' ? Math.max(0, extent.storage.size - extent.base) : extent.size;
  if (extent.kind !== 'flat' || inFile >= extent.size) return { known: Infinity, beyond: null, reach: () => 1 };
  const { storage } = extent;
  const detail = { size: storage.size, expected: extent.base + extent.size };
  const beyond = new ImageError('vmdk/extent-short', detail, { file: storage.name });
  return { known: base + inFile, beyond, reach: () => 1 };
}

function startsOf(extents: readonly Extent[]): Float64Array {
  const starts = new Float64Array(extents.length);
  let start = 0;
  extents.forEach((extent, index) => {
    starts[index] = start;
    start += extent.size;
  });
  return starts;
}

function answerOf(extent: Extent, within: number, length: number): ExtentAnswer {
  switch (extent.kind) {
    case 'flat':
      return mapFlat(extent, within, length);
    case 'zero':
      return { kind: 'zero', length, hole: null };
    case 'sparse':
      return extent.map(within, length);
  }
}

function storageOf(extent: Extent): NonNullable<Extent['storage']> {
  if (extent.storage === null) throw new Error('a ZERO extent has no storage');
  return extent.storage;
}

/** What writing needs besides. */
export interface WritingParts {
  /** One per extent. */
  readonly writers: readonly ExtentWriter[];
  /** The CID stays as it is, whatever is written. */
  readonly keepCid: boolean;
}

/** A VMDK image for reading and writing. */
export class WritableVmdkNode extends VmdkNode implements WritableNode {
  readonly packed?: PackedWriter;
  readonly identityFollowsContent = true;
  readonly zeroesLast = true;
  writers: readonly ExtentWriter[];
  #cidDone: boolean;
  #descriptorWritten = false;

  constructor(opened: OpenedVmdk, parts: WritingParts) {
    super(opened);
    this.writers = parts.writers;
    this.#cidDone = parts.keepCid;
    const [extent] = this.extents;
    const [writer] = parts.writers;
    if (this.extents.length !== 1 || extent?.kind !== 'sparse' || writer?.codec === undefined) return;
    this.packed = {
      unit: extent.grainSize,
      codec: writer.codec,
      always: true,
      reservePacked: (start, stored) => this.#reservePacked(start, stored),
    };
  }

  reserve(range: GuestRange): Place {
    const { index, within, length } = this.find(range);
    const place = this.#writer(index).reserve(within, length);
    this.#touch();
    return this.#guestPlace(index, place);
  }

  #reservePacked(start: GuestOffset, stored: Uint8Array): { place: Place; bytes: Uint8Array } | null {
    const { index, within } = this.find({ start, length: 1 });
    const reserved = this.#writer(index).reservePacked?.(within, stored);
    if (reserved === undefined) return null;
    this.#touch();
    return { place: this.#guestPlace(index, reserved.place), bytes: reserved.bytes };
  }

  #guestPlace(index: number, place: ExtentPlace): Place {
    const { storage, offset, fresh } = place;
    const covers = { start: (this.starts[index] ?? 0) + place.start, length: place.length };
    return { covers, storage, offset, fresh, publish: () => place.publish() };
  }

  #writer(index: number): ExtentWriter {
    const writer = this.writers[index];
    if (writer === undefined) throw new Error(`extent ${index} has no writer`);
    return writer;
  }

  zero(range: GuestRange, keepSpace = false): GuestRange | null {
    const { index, within, length } = this.find(range);
    const done = this.#writer(index).zero(within, length, keepSpace, this.backing !== null);
    if (done === 0) return null;
    this.#touch();
    return { start: range.start, length: done };
  }

  release(range: GuestRange): GuestRange | null {
    const { index, within, length } = this.find(range);
    const done = this.#writer(index).release(within, length);
    if (done === 0) return null;
    this.#touch();
    return { start: range.start, length: done };
  }

  /** Sparse extents that are not streams lose their grains, and the end of the file where those stood. Throws `storage/*`. */
  empty(): boolean {
    let whole = true;
    for (let at = 0; at < this.size;) {
      const done = this.release({ start: at, length: this.size - at });
      if (done === null) whole = false;
      at = done === null ? at - (at % this.granularity) + this.granularity : at + done.length;
    }
    this.flush();
    this.writers = this.extents.map((extent, index) =>
      extent.kind === 'sparse' && this.#writer(index) instanceof SparseWriter ? cutEnd(extent) : this.#writer(index),
    );
    return whole;
  }

  /** Throws `vmdk/resize` where the subformat cannot, `vmdk/full`, `vmdk/descriptor-full`. */
  resize(size: number, preallocation: Preallocation = 'off'): void {
    resizeVmdk(this, size, preallocation);
  }

  /** The image consists of these extents, written by these, in these files from now on. */
  replaceExtents(extents: readonly Extent[], writers: readonly ExtentWriter[], files: readonly ImageFile[]): void {
    this.extents = extents;
    this.starts = startsOf(extents);
    this.writers = writers;
    this.files = files;
  }

  /** Another parent, by its name; its CID is read from it. Throws `gate/*`, `vmdk/parent-*`, `vmdk/descriptor-full`. */
  setBacking(reference: BackingReference | null): void {
    if (reference === null) {
      this.#rewrite(withParent(this.descriptor.text, noParent, null), { parentCid: noParent, parentHint: null });
      return;
    }
    if (reference.format !== null && reference.format !== 'vmdk') throw new ImageError('vmdk/backing-format');
    if (this.extents.some(({ kind }) => kind === 'flat')) throw new ImageError('vmdk/flat-backing');
    const parent = this.gate.openImage({ from: this.name, path: reference.path, format: 'vmdk' });
    let parentCid: number;
    try {
      parentCid = cidOf(parent);
    } finally {
      if (parent !== this.backing) parent.close();
    }
    const text = withParent(this.descriptor.text, parentCid, reference.path);
    this.#rewrite(text, { parentCid, parentHint: reference.path });
  }

  /** The guest may read other bytes from now on. */
  markChanged(): void {
    this.#touch();
  }

  /** The first change after opening gives the image a new CID, before any byte of it changes: deltas over it must not fit any more. */
  #touch(): void {
    if (this.#cidDone) return;
    this.#cidDone = true;
    const cid = freshCid(this.descriptor.cid);
    this.#rewrite(withCid(this.descriptor.text, cid), { cid });
  }

  /** Another text of the descriptor, for repairs: what it says of CIDs and the parent stays. */
  rewriteDescriptor(text: string): void {
    this.#rewrite(text, {});
  }

  #rewrite(text: string, values: Partial<Descriptor>): void {
    writeDescriptor(this.place, this.descriptor.text, text);
    this.descriptor = { ...this.descriptor, ...values, text };
    this.#descriptorWritten = true;
  }

  flush(): void {
    for (const writer of this.writers) writer.settle(true);
    if (this.#descriptorWritten) this.place.storage.flush();
    this.#descriptorWritten = false;
  }

  writeBack(): void {
    for (const writer of this.writers) writer.settle(false);
  }
}

/** A random content identifier that is not `other` and has no special meaning. */
export function freshCid(other: number): number {
  for (;;) {
    const cid = crypto.randomBytes(4).readUInt32BE();
    if (cid !== other && cid < noParent - 1) return cid;
  }
}
