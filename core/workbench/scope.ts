// What of the catalogue may be seen: the datastores within the fence, and what lies in them.
import type { Catalogue } from '../catalogue/catalogue.ts';
import { findDatastore, listDatastores, type Datastore } from '../catalogue/datastores.ts';
import { imageRecord, type ImageRecord } from '../catalogue/images.ts';
import { placeOf } from '../catalogue/reread.ts';
import { ImageError } from '../errors/image-error.ts';
import { isWithin, type Fence } from './fence.ts';

export class Scope {
  readonly #catalogue: Catalogue;
  readonly #fence: Fence;

  constructor(catalogue: Catalogue, fence: Fence) {
    this.#catalogue = catalogue;
    this.#fence = fence;
  }

  /** Without a fence the catalogue is seen whole. */
  get whole(): boolean {
    return this.#fence.roots === null;
  }

  /** Also the folders of loose files. */
  datastores(): Datastore[] {
    return listDatastores(this.#catalogue, true).filter(({ path }) => isWithin(this.#fence, path));
  }

  /** For `ImageFilter.within`. */
  ids(): readonly string[] | null {
    return this.whole ? null : this.datastores().map(({ id }) => id);
  }

  /** Throws `datastore/unknown` also for one that may not be seen. */
  datastore(name: string): Datastore {
    const store = findDatastore(this.#catalogue, name);
    if (!isWithin(this.#fence, store.path)) throw new ImageError('datastore/unknown', { name });
    return store;
  }

  sees(imageId: string): boolean {
    return this.whole || isWithin(this.#fence, placeOf(this.#catalogue, imageId).root);
  }

  /** The id again. Throws `image/unknown` also for an image that may not be seen. */
  image(id: string): string {
    if (!this.sees(id)) throw new ImageError('image/unknown', { name: id });
    return id;
  }

  /** All that is known of an image, without children that may not be seen. */
  record(id: string): ImageRecord {
    const record = imageRecord(this.#catalogue, this.image(id));
    return this.whole ? record : { ...record, childList: record.childList.filter(({ childId }) => this.sees(childId)) };
  }
}
