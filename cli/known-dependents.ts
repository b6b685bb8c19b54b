// Who reads through an image, as the user's catalogue knows.
import { openExistingCatalogue } from '../core/catalogue/catalogue.ts';
import { dependentsOfFile } from '../core/catalogue/lineage.ts';
import { ImageError } from '../core/errors/image-error.ts';
import { warn } from './print.ts';

/** A catalogue that cannot be read stops no work: it is said, and the verb goes on as if there were none. */
export function askCatalogue(catalogueFile: string, path: string): readonly string[] {
  try {
    const catalogue = openExistingCatalogue(catalogueFile);
    if (catalogue === null) return [];
    try {
      return dependentsOfFile(catalogue, path);
    } finally {
      catalogue.close();
    }
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    warn(`the catalogue was not asked whether others read through '${path}': ${error.message}`);
    return [];
  }
}
