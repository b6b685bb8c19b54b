// Changing an image that somebody depends on: opened for writing, changed, made to last, closed, whatever happens.
import { isWritable, type WritableNode } from '../block/node.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver } from '../formats/driver.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';

/** How a verb may change an image in place. */
export interface InPlaceOptions {
  /** Name of the verb, for messages and for undo. */
  readonly verb: string;
  /** `writable` is implied. */
  readonly open: OpenOptions;
  /** Images known to read through this one (the catalogue tells); absent: nobody knows of any. */
  readonly dependents?: ((path: string) => readonly string[]) | undefined;
  /** Change it although others depend on it. */
  readonly force?: boolean | undefined;
}

/** An image that may be changed. */
export interface WritableImage {
  readonly path: string;
  readonly node: WritableNode;
  readonly driver: FormatDriver;
}

/**
 * Opens the image at `path` for writing, lets `change` work on it, flushes and closes it. When `change` throws, what it did so far
 * stands as the format's order of writes left it. Throws what opening throws, `in-place/read-only` where the format is only read here,
 * `in-place/dependents` for an image that others read through, and what `change` throws.
 */
export async function changeInPlace<Result>(
  path: string,
  options: InPlaceOptions,
  change: (image: WritableImage) => Result | Promise<Result>,
): Promise<Result> {
  refuseDependents(path, options);
  const { node, driver } = openImage(path, { ...options.open, writable: true });
  try {
    if (!isWritable(node)) throw new ImageError('in-place/read-only', { format: driver.id }, { file: path });
    const result = await change({ path, node, driver });
    node.flush();
    return result;
  } finally {
    node.close();
  }
}

function refuseDependents(path: string, options: InPlaceOptions): void {
  if (options.force === true) return;
  const dependents = options.dependents?.(path) ?? [];
  if (dependents.length === 0) return;
  const named = dependents.slice(0, 3).join(', ') + (dependents.length > 3 ? ', …' : '');
  throw new ImageError('in-place/dependents', { name: path, count: dependents.length, named }, { file: path });
}
