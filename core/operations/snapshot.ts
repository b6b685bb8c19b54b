// snapshot: internal snapshots of an image listed, taken, gone back to, deleted.
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver, SnapshotDriver, SnapshotFacts } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { changeInPlace, type InPlaceOptions, type WritableImage } from './in-place.ts';

/** What is to be done. `apply` knows a snapshot by its id or else its name, `delete` by its name only, as qemu-img does. */
export type SnapshotAction =
  | { readonly kind: 'list' }
  | { readonly kind: 'create'; readonly name: string; readonly milliseconds?: number }
  | { readonly kind: 'apply'; readonly name: string }
  | { readonly kind: 'delete'; readonly name: string };

export interface SnapshotParams {
  readonly path: string;
  readonly options: OpenOptions;
  readonly action: SnapshotAction;
  readonly dependents?: InPlaceOptions['dependents'];
  readonly force?: boolean | undefined;
}

export interface SnapshotResult {
  readonly format: string;
  /** All that the image has afterwards, in the order of its table. */
  readonly snapshots: readonly SnapshotFacts[];
  /** The one that was taken or deleted; null: none. */
  readonly subject: SnapshotFacts | null;
}

/**
 * Does one thing to the snapshots of an image; a format without snapshots has an empty list. `onOpen` hears when the image is open.
 * Throws what opening throws, `snapshot/unsupported`, `snapshot/driver` (apply), `snapshot/not-found`, `snapshot/bitmaps`,
 * `snapshot/other-size`, `snapshot/too-many`, `snapshot/table-full`, `qcow2/refcount-overflow` and the codes of damaged tables.
 */
export async function snapshot(
  params: SnapshotParams,
  job: Job,
  onOpen: (driver: FormatDriver) => void = () => {},
): Promise<SnapshotResult> {
  const { path, options, action, dependents, force } = params;
  if (action.kind === 'list') {
    const { node, driver } = openImage(path, options);
    try {
      onOpen(driver);
      return { format: driver.id, snapshots: driver.snapshots?.list(node) ?? [], subject: null };
    } finally {
      node.close();
    }
  }
  const description = `snapshot ${action.kind} '${action.name}'`;
  return changeInPlace(path, { verb: 'snapshot', open: options, dependents, force, description }, (image) => {
    const { driver, node } = image;
    onOpen(driver);
    const subject = change(image, action, job);
    return { format: driver.id, snapshots: driver.snapshots?.list(node) ?? [], subject };
  });
}

function change(
  { node, driver, path }: WritableImage,
  action: Exclude<SnapshotAction, { kind: 'list' }>,
  job: Job,
): SnapshotFacts | null {
  const snapshots: Partial<SnapshotDriver> = driver.snapshots ?? {};
  const where = { file: path };
  switch (action.kind) {
    case 'create': {
      if (snapshots.create === undefined) throw new ImageError('snapshot/unsupported', {}, where);
      const now = action.milliseconds ?? Date.now();
      const dateSeconds = Math.floor(now / 1000);
      const dateNanoseconds = Math.floor(now % 1000) * 1_000_000;
      return snapshots.create(node, { name: action.name, dateSeconds, dateNanoseconds }, job);
    }
    case 'apply':
      if (snapshots.apply === undefined) throw new ImageError('snapshot/driver', {}, where);
      snapshots.apply(node, action.name, job);
      return null;
    case 'delete': {
      const doomed = snapshots.list?.(node).find(({ name }) => name === action.name);
      if (doomed === undefined) throw new ImageError('snapshot/not-found', { name: action.name }, where);
      if (snapshots.delete === undefined) throw new ImageError('snapshot/unsupported', {}, where);
      snapshots.delete(node, doomed.id, job);
      return doomed;
    }
  }
}
