// Works on the catalogue and the images that it knows, which are named by their ids.
import * as v from 'valibot';
import { openCatalogue, type Catalogue } from '../../../catalogue/catalogue.ts';
import { digestImage } from '../../../catalogue/digests.ts';
import { findDatastore } from '../../../catalogue/datastores.ts';
import { checkImage } from '../../../catalogue/findings.ts';
import { cloneImage, deleteImage, moveImage } from '../../../catalogue/files.ts';
import { mergeIntoParent } from '../../../catalogue/merge.ts';
import { migrate, resumeMigration } from '../../../catalogue/migrate.ts';
import { parentEdge } from '../../../catalogue/lineage.ts';
import { relink } from '../../../catalogue/relink.ts';
import { placeOf } from '../../../catalogue/reread.ts';
import { scan } from '../../../catalogue/scan/scan.ts';
import { digestAlgorithms } from '../../../operations/digest.ts';
import { fenced, requireWithin } from '../../fence.ts';
import { keptPolicy } from '../../kept-gate.ts';
import { addSamples } from '../../samples/add-samples.ts';
import { allow, filePath, secretsOf } from '../image-argument.ts';
import { work, type WorkContext } from './work.ts';

const id = v.pipe(v.string(), v.minLength(1), v.maxLength(100));
const place = v.pipe(v.string(), v.minLength(1), v.maxLength(4096));

/** Opens the catalogue in this thread for as long as the work lasts. `once`: files that its images may pull in this time. */
async function withCatalogue<Result>(
  { catalogue: file, fence, gate }: WorkContext,
  work: (catalogue: Catalogue) => Result | Promise<Result>,
  once: readonly string[] = [],
): Promise<Result> {
  const catalogue = openCatalogue(file, fenced(keptPolicy(gate, once), fence));
  try {
    return await work(catalogue);
  } finally {
    catalogue.close();
  }
}

/** Images are known by ids: where they lie is held against the fence here. */
function requireImage(catalogue: Catalogue, image: string, { fence }: WorkContext): void {
  requireWithin(fence, placeOf(catalogue, image).file);
}

/** Name of the passphrase handed over beside the parameters, for every layer that has none of its own (`file:PATH`). Null or absent: none. */
const secret = v.optional(v.nullable(v.string()), null);

const nowhere = (): readonly string[] => [];

export const worksOnCatalogue = {
  /** Makes sample images in a folder that need not be there yet, and makes it a datastore, unless it lies in one. */
  'make-samples': work(
    v.strictObject({ folder: filePath }),
    true,
    ({ folder }) => [folder],
    ({ folder }, context) => withCatalogue(context, (catalogue) => addSamples(catalogue, folder, context.job)),
  ),
  scan: work(v.strictObject({ datastore: v.string(), everything: v.boolean() }), false, nowhere, (params, context) =>
    withCatalogue(context, (catalogue) => {
      requireWithin(context.fence, findDatastore(catalogue, params.datastore).path);
      return scan(catalogue, params, context.job);
    }),
  ),
  'digest-image': work(
    v.strictObject({ image: id, algorithm: v.picklist(digestAlgorithms), allow }),
    false,
    nowhere,
    ({ image, algorithm, allow: once }, context) =>
      withCatalogue(
        context,
        (catalogue) => {
          requireImage(catalogue, image, context);
          return digestImage(catalogue, image, algorithm, context.job);
        },
        once,
      ),
  ),
  'check-image': work(v.strictObject({ image: id, allow }), false, nowhere, ({ image, allow: once }, context) =>
    withCatalogue(
      context,
      (catalogue) => {
        requireImage(catalogue, image, context);
        return checkImage(catalogue, image, context.job);
      },
      once,
    ),
  ),
  relink: work(
    v.strictObject({ image: id, parent: v.nullable(id), force: v.boolean() }),
    true,
    nowhere,
    (params, context) =>
      withCatalogue(context, (catalogue) => {
        requireImage(catalogue, params.image, context);
        return relink(catalogue, params, context.job);
      }),
  ),
  move: work(v.strictObject({ image: id, target: place }), true, nowhere, ({ image, target }, context) =>
    withCatalogue(context, async (catalogue) => {
      requireImage(catalogue, image, context);
      await moveImage(catalogue, image, target, context.job);
      return placeOf(catalogue, image);
    }),
  ),
  clone: work(
    v.strictObject({ image: id, target: place, format: v.nullable(v.string()), allow }),
    true,
    nowhere,
    ({ image, target, format, allow: once }, context) =>
      withCatalogue(
        context,
        async (catalogue) => {
          requireImage(catalogue, image, context);
          return placeOf(catalogue, await cloneImage(catalogue, image, target, format, context.job));
        },
        once,
      ),
  ),
  delete: work(v.strictObject({ image: id, force: v.boolean() }), true, nowhere, ({ image, force }, context) =>
    withCatalogue(context, (catalogue) => {
      requireImage(catalogue, image, context);
      deleteImage(catalogue, image, force);
      return null;
    }),
  ),
  merge: work(
    v.strictObject({ image: id, force: v.boolean(), secret }),
    true,
    nowhere,
    ({ image, force, secret: name }, context) =>
      withCatalogue(context, (catalogue) => {
        requireImage(catalogue, image, context);
        const parent = parentEdge(catalogue, image)?.parentId ?? null;
        if (parent !== null) requireImage(catalogue, parent, context);
        return mergeIntoParent(catalogue, { image, force, secret: secretsOf(context.secrets, name) }, context.job);
      }),
  ),
  migrate: work(
    v.strictObject({
      image: id,
      datastore: id,
      folder: place,
      format: v.nullable(v.string()),
      chain: v.boolean(),
      secret,
      allow,
    }),
    true,
    nowhere,
    ({ allow: once, secret: name, ...params }, context) =>
      withCatalogue(
        context,
        (catalogue) => {
          requireImage(catalogue, params.image, context);
          requireWithin(context.fence, findDatastore(catalogue, params.datastore).path);
          return migrate(catalogue, { ...params, secret: secretsOf(context.secrets, name) }, context.job);
        },
        once,
      ),
  ),
  'resume-migration': work(
    v.strictObject({ migration: id, secret, allow }),
    true,
    nowhere,
    ({ migration, allow: once, secret: name }, context) =>
      withCatalogue(
        context,
        (catalogue) => resumeMigration(catalogue, migration, context.job, secretsOf(context.secrets, name)),
        once,
      ),
  ),
} as const;
