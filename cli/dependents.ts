// Who reads through an image, as the user's catalogue knows: asked before a verb changes it.
import { openExistingCatalogue } from '../core/catalogue/catalogue.ts';
import { dependentsOfFile } from '../core/catalogue/lineage.ts';
import { cataloguePath } from '../core/catalogue/location.ts';
import { ImageError } from '../core/errors/image-error.ts';
import { actsAsQemuImg } from './level.ts';
import { warn } from './print.ts';

/**
 * The question for `changeInPlace`; absent while we stand in for qemu-img, which has no catalogue. No catalogue: nobody. One that cannot be
 * read stops no work: it is said, and the verb goes on as if there were none.
 */
export const knownDependents: { readonly dependents?: (path: string) => readonly string[] } = actsAsQemuImg
  ? {}
  : { dependents: ask };

function ask(path: string): readonly string[] {
  try {
    const catalogue = openExistingCatalogue(cataloguePath());
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
