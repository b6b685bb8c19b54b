// What the one behind the window may reach: folders that it was given, or everything; to read only, or to change.
import fs from 'node:fs';
import path from 'node:path';
import { ImageError } from '../errors/image-error.ts';
import type { GatePolicy } from '../formats/gate.ts';

/** Plain data, so that it crosses to threads. `roots` null: everything that the user may reach. Paths are absolute and free of links. */
export interface Fence {
  readonly roots: readonly string[] | null;
  readonly readOnly: boolean;
}

/** A fence around `roots`. Throws `storage/open` for a root that is not there. */
export function makeFence(roots: readonly string[] | null, readOnly: boolean): Fence {
  return { roots: roots === null ? null : roots.map((root) => fs.realpathSync(root)), readOnly };
}

/** Throws `access/outside` unless `file` (which need not exist) lies within the fence, wherever links lead. */
export function requireWithin(fence: Fence, file: string): void {
  if (!isWithin(fence, file)) throw new ImageError('access/outside', { name: file }, { file });
}

export function isWithin({ roots }: Fence, file: string): boolean {
  if (roots === null) return true;
  const real = realPath(path.resolve(file));
  return (
    real !== null &&
    roots.some((root) => real === root || real.startsWith(root.endsWith(path.sep) ? root : root + path.sep))
  );
}

/** Throws `access/read-only`. */
export function requireChange(fence: Fence): void {
  if (fence.readOnly) throw new ImageError('access/read-only');
}

/** Where a path leads: through links as far as it exists, then by its words; null for a link that leads nowhere. */
function realPath(file: string): string | null {
  try {
    return fs.realpathSync(file);
  } catch {
    if (isLink(file)) return null;
    const folder = path.dirname(file);
    if (folder === file) return null;
    const above = realPath(folder);
    return above === null ? null : path.join(above, path.basename(file));
  }
}

function isLink(file: string): boolean {
  try {
    return fs.lstatSync(file).isSymbolicLink();
  } catch {
    return false;
  }
}

/** `policy`, and nothing that lies outside of the fence. */
export function fenced(policy: GatePolicy, fence: Fence): GatePolicy {
  if (fence.roots === null) return policy;
  return {
    ...policy,
    refuse: (reference) =>
      isWithin(fence, reference.path) ? policy.refuse(reference) : 'it lies outside of the folders that were opened up',
    isQuestion: (reference) => isWithin(fence, reference.path) && policy.isQuestion?.(reference) === true,
  };
}
