// Bringing the catalogue up to date about one image after something was done to it, without a scan.
import path from 'node:path';
import { ImageError } from '../errors/image-error.ts';
import type { Catalogue } from './catalogue.ts';
import { refreshLineage } from './lineage.ts';
import { describeFile } from './scan/describe.ts';
import * as rows from './scan/rows.ts';
import { statFileNow } from './scan/walk.ts';

/** The row of an image, and where its file is. */
export interface Placed {
  readonly id: string;
  readonly datastoreId: string;
  /** The folder of the datastore. */
  readonly root: string;
  /** Relative to it. */
  readonly path: string;
  readonly file: string;
  readonly format: string | null;
}

/** Throws `image/unknown`. */
export function placeOf({ database }: Catalogue, id: string): Placed {
  const row = database.one<{ datastore_id: string; root: string; path: string; format: string | null }>(
    `select i.datastore_id, d.path as root, i.path, i.format from image i join datastore d on d.id = i.datastore_id where i.id = :id`,
    { id },
  );
  if (row === null) throw new ImageError('image/unknown', { name: id });
  const { datastore_id: datastoreId, root, path: relative, format } = row;
  return { id, datastoreId, root, path: relative, file: path.join(root, relative), format };
}

/** Looks into the file of an image again. One that is gone becomes so. */
export function rereadImage(catalogue: Catalogue, id: string): void {
  const place = placeOf(catalogue, id);
  const stat = statFileNow(place.file);
  const described = stat === null ? null : describeFile(place.file);
  catalogue.database.transaction(() => {
    if (stat === null || described === null) rows.setGone(catalogue.database, id);
    else rows.updateImage(catalogue.database, id, place.path, stat, described);
  });
  refreshLineage(catalogue);
}

/** The image of the file at `file`, which lies in the datastore at `root`, read now; made known if it is new. */
export function readNewImage(catalogue: Catalogue, datastoreId: string, root: string, file: string): string {
  const stat = statFileNow(file);
  const described = stat === null ? null : describeFile(file);
  if (stat === null || described === null) throw new ImageError('image/unknown', { name: file }, { file });
  const relative = path.relative(root, file).split(path.sep).join('/');
  const { database } = catalogue;
  const { id } = rows.enterImage(database, datastoreId, { path: relative, stat, described });
  refreshLineage(catalogue);
  return id;
}
