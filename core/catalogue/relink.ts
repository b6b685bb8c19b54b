// Relinking: an image whose parent has moved is told where it is now, after a look whether it is the right one.
import { ImageError } from '../errors/image-error.ts';
import type { UndoMode } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { nameSeenFrom } from '../operations/overlay.ts';
import { rebase } from '../operations/rebase.ts';
import type { Catalogue } from './catalogue.ts';
import { remember } from './images.ts';
import { findParent, parentEdge } from './lineage.ts';
import { placeOf, rereadImage } from './reread.ts';

export interface RelinkParams {
  /** Id of the image whose parent is to be found. */
  readonly image: string;
  /** Id of the image that is its parent; null: the only one that can be. */
  readonly parent: string | null;
  /** Also a parent that neither identity nor content speak for: what the guest sees may change. */
  readonly force: boolean;
}

/**
 * Writes the parent's place into the image; no guest data moves. Gives the id of the parent. Throws `lineage/no-parent`,
 * `lineage/no-candidate`, `lineage/several`, `lineage/not-the-parent`, and what `rebase` throws.
 */
export async function relink(catalogue: Catalogue, params: RelinkParams, job: Job): Promise<string> {
  const child = placeOf(catalogue, params.image);
  const edge = parentEdge(catalogue, child.id);
  if (edge === null) throw new ImageError('lineage/no-parent', { name: child.file });
  const candidates = findParent(catalogue, child.id);
  const chosen = params.parent ?? onlyOne(child.file, candidates);
  if (!params.force && edge.parentId !== chosen && !candidates.some(({ imageId }) => imageId === chosen)) {
    throw new ImageError('lineage/not-the-parent', { name: child.file, parent: placeOf(catalogue, chosen).file });
  }
  await linkTo(catalogue, child.id, chosen, job);
  return chosen;
}

function onlyOne(name: string, candidates: ReturnType<typeof findParent>): string {
  const [first, second] = candidates;
  if (first === undefined) throw new ImageError('lineage/no-candidate', { name });
  // One that has the identity is surer than any that only looks alike.
  if (second !== undefined && second.by === first.by) {
    const named = candidates.map(({ file }) => file).join(', ');
    throw new ImageError('lineage/several', { name, count: candidates.length, named });
  }
  return first.imageId;
}

/** Makes `parent` the layer below `child`, without asking whether it is right. */
export async function linkTo(catalogue: Catalogue, child: string, parent: string, job: Job): Promise<void> {
  const above = placeOf(catalogue, child);
  const below = placeOf(catalogue, parent);
  await linkFiles(above.file, above.format, below.file, below.format, job, 'keep');
  rereadImage(catalogue, child);
  remember(catalogue, child, 'relink', below.file);
}

/**
 * The same for files that the catalogue may not know (yet). By default it cannot be taken back by itself: as a part of a move it would
 * lead back to what is not there any more.
 */
export async function linkFiles(
  above: string,
  aboveFormat: string | null,
  below: string,
  belowFormat: string | null,
  job: Job,
  undo: UndoMode = 'rollback',
): Promise<void> {
  await rebase(
    {
      path: above,
      // Only the link changes: an encrypted image is told without its passphrase.
      options: { format: aboveFormat, undo, guestData: false },
      backing: { path: nameSeenFrom(above, below), format: belowFormat },
      unsafe: true,
      compress: false,
      base: {},
      force: true,
    },
    job,
  );
}
