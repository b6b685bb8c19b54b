// Sample images in a folder that the catalogue knows afterwards.
import path from 'node:path';
import type { Catalogue } from '../../catalogue/catalogue.ts';
import { addDatastore, listDatastores } from '../../catalogue/datastores.ts';
import { scan } from '../../catalogue/scan/scan.ts';
import { standsBelow } from '../../block/host/names.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { Job } from '../../job.ts';
import { makeSamples, type SampleImages } from './make-samples.ts';

export interface AddedSamples {
  /** Without links. */
  readonly folder: string;
  /** Id of the datastore that they lie in. */
  readonly datastore: string;
  readonly images: SampleImages;
}

/**
 * Makes the samples in `folder` and looks through the datastore that it lies in; without one it becomes one. Throws what `makeSamples` and
 * `scan` throw, and `datastore/nested` where a datastore lies in it.
 */
export async function addSamples(catalogue: Catalogue, folder: string, job: Job): Promise<AddedSamples> {
  const stores = listDatastores(catalogue);
  const within = stores.find(({ path: store }) => standsBelow(store, folder));
  if (within !== undefined) {
    throw new ImageError('datastore/nested', { name: folder, other: within.name, path: within.path });
  }
  const images = await makeSamples(folder, job);
  const root = path.dirname(images.disk);
  const known = stores.find(({ path: store }) => store === root || standsBelow(root, store));
  const datastore = known?.id ?? addDatastore(catalogue, { path: root, name: null });
  await scan(catalogue, { datastore, everything: false }, job);
  return { folder: root, datastore, images };
}
