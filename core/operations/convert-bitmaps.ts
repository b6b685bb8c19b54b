// The dirty bitmaps of a source, taken along by convert.
import type { WritableNode } from '../block/node.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FormatDriver } from '../formats/driver.ts';
import type { OpenedImage } from '../formats/open.ts';

/** `all`: an inconsistent bitmap ends the conversion before it begins; `sound`: it is left out. */
export type BitmapsWanted = 'all' | 'sound';

/** Throws `convert/no-source-bitmaps`, `convert/inconsistent-bitmap`. */
export function checkSourceBitmaps({ driver, node }: OpenedImage, wanted: BitmapsWanted): void {
  const where = { file: node.name };
  const bitmaps = driver.dirtyBitmaps?.list(node) ?? null;
  if (bitmaps === null) throw new ImageError('convert/no-source-bitmaps', {}, where);
  const broken = wanted === 'all' ? bitmaps.findLast(({ inconsistent }) => inconsistent) : undefined;
  if (broken !== undefined) throw new ImageError('convert/inconsistent-bitmap', { name: broken.name }, where);
}

/** Throws `convert/no-target-bitmaps`. */
export function checkTargetBitmaps(driver: FormatDriver, node: WritableNode): void {
  if ((driver.dirtyBitmaps?.list(node) ?? null) !== null) return;
  throw new ImageError('convert/no-target-bitmaps', { format: driver.id }, { file: node.name });
}

/**
 * Makes the bitmaps of `source` in the target, with their granularity, bits and state; gives the names of those left out. Throws
 * `convert/bitmap-create`, `convert/bitmap-populate`, `storage/*`.
 */
export function copyBitmaps(source: OpenedImage, driver: FormatDriver, node: WritableNode): readonly string[] {
  const from = source.driver.dirtyBitmaps;
  const editor = driver.dirtyBitmaps?.edit(node);
  if (from === undefined || editor === undefined) throw new Error('bitmaps were not checked before they were copied');
  const skipped: string[] = [];
  for (const { name, granularity, enabled, inconsistent } of from.list(source.node) ?? []) {
    if (inconsistent) {
      skipped.push(name);
      continue;
    }
    attempt('convert/bitmap-create', name, () => editor.add(name, granularity, enabled));
    attempt('convert/bitmap-populate', name, () => editor.merge(name, from.source(source.node, name)));
  }
  editor.commit();
  // In the order of qemu-img, which looks at the last one first.
  return skipped.reverse();
}

function attempt(code: 'convert/bitmap-create' | 'convert/bitmap-populate', name: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof ImageError) || !error.code.startsWith('bitmap/')) throw error;
    throw new ImageError(code, { name, reason: error.message }, error.where, error);
  }
}
