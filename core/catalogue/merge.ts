// Merging an image into its parent: what it holds goes down, what stood on it stands on the parent, and the image goes.
import type { SecretSource } from '../block/crypto/secret.ts';
import { ImageError } from '../errors/image-error.ts';
import type { Job } from '../job.ts';
import { commit } from '../operations/commit.ts';
import type { Catalogue } from './catalogue.ts';
import { deleteImage, refuseDependents } from './files.ts';
import { imageRecord, remember } from './images.ts';
import { childEdges, dependentsOf, parentEdge } from './lineage.ts';
import { linkTo } from './relink.ts';
import { placeOf, rereadImage } from './reread.ts';

export interface MergeParams {
  /** Id of the image that goes. */
  readonly image: string;
  /** Although other images stand on the parent too, whose disks change by it, and although internal snapshots are lost. */
  readonly force: boolean;
  /** Hands out the passphrases of encrypted images: of it and of the layers below. What stood on the image needs none. */
  readonly secret?: SecretSource | undefined;
}

export interface MergeResult {
  /** Id of the parent, which holds all of it now. */
  readonly parent: string;
  /** Bytes that were written into it. */
  readonly copied: number;
  /** Images that stand on the parent now. */
  readonly relinked: number;
}

/**
 * Merges. The parent gets the data while the image still has it, the children change their link next, the file goes last: whoever is
 * interrupted leaves every chain whole and every disk as it was. Throws `lineage/no-parent`, `merge/parent-unknown`, `merge/snapshots`,
 * `image/has-dependents` for others that stand on the parent, and what committing, relinking and deleting throw.
 */
export async function mergeIntoParent(
  catalogue: Catalogue,
  { image, force, secret }: MergeParams,
  job: Job,
): Promise<MergeResult> {
  const { file, format } = placeOf(catalogue, image);
  const edge = parentEdge(catalogue, image);
  if (edge === null) throw new ImageError('lineage/no-parent', { name: file });
  if (edge.parentId === null) throw new ImageError('merge/parent-unknown', { name: file, parent: edge.reference });
  const parent = edge.parentId;
  const { snapshotList } = imageRecord(catalogue, image);
  if (snapshotList.length > 0 && !force) {
    throw new ImageError('merge/snapshots', { name: file, count: snapshotList.length }, { file });
  }
  const above = new Set([image, ...dependentsOf(catalogue, image)]);
  refuseDependents(
    catalogue,
    parent,
    dependentsOf(catalogue, parent).filter((id) => !above.has(id)),
    force,
  );
  const { copied, zeroed } = await commit(
    { path: file, options: { format, secret }, base: null, keep: true, rate: 0, force: true },
    job,
  );
  rereadImage(catalogue, parent);
  const children = childEdges(catalogue, image);
  // From here on nothing is given up half way: each child stands on a whole chain before and after its link changes.
  for (const { childId } of children) await linkTo(catalogue, childId, parent, job);
  remember(catalogue, parent, 'merge', file);
  deleteImage(catalogue, image, false);
  return { parent, copied: copied + zeroed, relinked: children.length };
}
