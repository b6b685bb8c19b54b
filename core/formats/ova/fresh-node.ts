// A new package while its disk is written: everything goes to the disk's driver, and at the end the archive around it is made to fit.
import type { BackingReference, PackedWriter, Place, WritableNode } from '../../block/node.ts';
import { isWritable } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OpenRequest } from '../driver.ts';
import { finishArchive, type ArchivePlan } from './archive-writer.ts';
import { DigestWindow } from './digest-window.ts';
import { withSizes } from './envelope.ts';
import { OvaNode, type OvaParts } from './node.ts';
import type { OvaPackage } from './package.ts';

interface Writing {
  readonly disk: WritableNode;
  readonly window: DigestWindow;
  readonly plan: ArchivePlan;
  /** The descriptor as create left it. */
  readonly text: string;
}

/** A package that was created a moment ago, for writing its only disk once. */
export class FreshOvaNode extends OvaNode implements WritableNode {
  readonly packed?: PackedWriter;
  readonly #writing: Writing;
  /** Bytes of the disk that have been stored. */
  #populated = 0;
  #changed = false;

  constructor(parts: OvaParts, writing: Writing) {
    super(parts);
    this.#writing = writing;
    const { packed } = writing.disk;
    if (packed === undefined) return;
    this.packed = {
      unit: packed.unit,
      codec: packed.codec,
      always: packed.always === true,
      reservePacked: (start, stored) => {
        const reserved = packed.reservePacked(start, stored);
        if (reserved === null) return null;
        const { place, bytes } = reserved;
        this.#changed = true;
        this.#populated += place.covers.length;
        if (place.storage === writing.window) writing.window.note(bytes, place.offset);
        return { place: this.#outside(place), bytes };
      },
    };
  }

  /** Over what `createOva` left in `storage`. */
  static over(storage: Storage, contents: OvaPackage, request: OpenRequest): FreshOvaNode {
    const { files } = contents;
    const [disk] = contents.disks;
    const descriptor = files.entries?.[0];
    const entry = files.entries?.find(({ name }) => name === disk?.file?.href);
    if (disk === undefined || descriptor === undefined || entry === undefined) {
      throw new Error('a new package is not as it was created');
    }
    const bytes = new Uint8Array(files.descriptor.size);
    files.descriptor.readAt(bytes, 0);
    const window = new DigestWindow(storage, entry.offset, entry.size, `${storage.name}(${entry.name})`);
    const opened = contents.openIn(window, disk, request);
    if (!isWritable(opened.node)) throw new Error(`${opened.driver.id} opened a new disk read-only`);
    const view = { disk, ...opened, problem: null };
    return new FreshOvaNode(
      { storage, contents, views: [view], chosen: view },
      {
        disk: opened.node,
        window,
        plan: { descriptorName: descriptor.name, diskName: entry.name, descriptorRoom: descriptor.size },
        text: Buffer.from(bytes).toString('utf8'),
      },
    );
  }

  reserve(range: GuestRange): Place {
    const place = this.#writing.disk.reserve(range);
    this.#changed = true;
    return this.#outside(place);
  }

  /** The place in the archive, so that transfers go through its descriptor. */
  #outside(place: Place): Place {
    const { window } = this.#writing;
    if (place.storage !== window) return place;
    return {
      covers: place.covers,
      storage: window.outer,
      offset: window.base + place.offset,
      fresh: place.fresh,
      publish: () => place.publish(),
    };
  }

  zero(range: GuestRange, keepSpace?: boolean): GuestRange | null {
    return this.#writing.disk.zero(range, keepSpace);
  }

  release(range: GuestRange): GuestRange | null {
    return this.#writing.disk.release(range);
  }

  resize(): void {
    throw new ImageError('ova/in-place', {}, { file: this.name });
  }

  setBacking(_reference: BackingReference | null): void {
    throw new ImageError('ova/in-place', {}, { file: this.name });
  }

  flush(): void {
    this.writeBack();
    this.storage.flush();
  }

  writeBack(): void {
    const { disk, window, plan, text } = this.#writing;
    disk.writeBack();
    if (!this.#changed) return;
    const diskSize = window.size;
    const sized = withSizes(text, diskSize, this.#populated);
    finishArchive(this.storage, plan, { text: sized, diskSize, diskDigest: window.digest() });
    this.#changed = false;
  }
}
