// Which files an image may pull in, and why not: names with a protocol, loops, depth, the caller's policy.
import path from 'node:path';
import { leadsTo, standsBelow } from '../block/host/names.ts';
import { ImageError } from '../errors/image-error.ts';

/** A reference from an image to a file. `path` is resolved already. */
export interface Reference {
  /** The image that makes it. */
  readonly from: string;
  readonly path: string;
  /** `backing`; `head`: the first bytes of a file beside, to find the one that is meant; otherwise a file of the image itself. */
  readonly role: string;
  /** As it stands in the image. */
  readonly name?: string;
  /** The format that the image says it has; null: the content decides. */
  readonly format?: string | null;
}

/** What the one who opens an image allows. */
export interface GatePolicy {
  /** Images in a chain at most. */
  readonly maxDepth: number;
  /** Why this reference may not be followed; null: it may. */
  refuse(reference: Reference): string | null;
  /** Of a reference that was refused: it is for somebody to decide (`gate/ask` then, in place of `gate/refused`). Absent: none is. */
  isQuestion?(reference: Reference): boolean;
  /** Hears of all references of an image before the first of them is opened, so that all can be asked about at once. */
  announce?(references: readonly Reference[]): void;
}

/**
 * The layer below wherever it is, as qemu-img does; the files of one image only where they belong: extents and data files in the folder
 * of the image that names them. A descriptor is a text that anybody can write, and whatever file it names would be read (or written) as a disk
 * (CVE-2022-47951, CVE-2024-32498). Names with a protocol are not followed.
 */
export const followFiles: GatePolicy = {
  maxDepth: 200,
  refuse({ role, ...reference }) {
    const what = ownFile(role);
    return what === null ? null : refuseOutside(reference, what);
  },
};

/** What a file of the image itself is called; null: the reference is to another image. */
export function ownFile(role: string): string | null {
  if (role.startsWith('extents.')) return 'an extent';
  if (role.startsWith('disks.')) return 'a file of a package';
  return role === 'data-file' ? 'a data file' : null;
}

/** Throws `gate/refused` or `gate/ask` for a reference that `policy` does not let through. */
export function requireAllowed(policy: GatePolicy, reference: Reference): void {
  const reason = policy.refuse(reference);
  if (reason === null) return;
  const { path: name, role, from: file } = reference;
  if (policy.isQuestion?.(reference) === true) throw new ImageError('gate/ask', { name, role, reason }, { file });
  throw new ImageError('gate/refused', { name, reason }, { file });
}

/** Follows every file path, extents too: for somebody who has seen the names and wants them. */
export const followAll: GatePolicy = { maxDepth: 200, refuse: () => null };

/** Why a file may not be part of the image `from`, of which it is `what`; null: it may. */
export function refuseOutside(reference: Omit<Reference, 'role'>, what: string): string | null {
  const folder = path.dirname(reference.from);
  const relative = path.relative(folder, reference.path);
  const stepsUp = /(^|[\\/])\.\.([\\/]|$)/;
  if (stepsUp.test(relative) || path.isAbsolute(relative) || stepsUp.test(reference.path.slice(folder.length))) {
    return `${what} must lie in the folder of its image`;
  }
  const target = leadsTo(reference.path);
  if (target === null) return null;
  if (!target.regular) return `${what} must be a regular file`;
  return standsBelow(reference.path, folder) ? null : `${what} must not lead out of the folder of its image`;
}

/** `policy`, and the file at `named` besides: somebody has named it himself. */
export function allowing(policy: GatePolicy, named: string): GatePolicy {
  const known = path.resolve(named);
  return {
    ...policy,
    refuse: (reference) => (path.resolve(reference.path) === known ? null : policy.refuse(reference)),
  };
}

/** Follows nothing: an image that names another file is refused. */
export const followNothing: GatePolicy = {
  maxDepth: 1,
  refuse: () => 'references to other files are not allowed here',
};

/** Only plain files in the folder of the image that names them, or below it. */
export const followSameFolder: GatePolicy = {
  maxDepth: 200,
  refuse(reference) {
    const relative = path.relative(path.dirname(reference.from), reference.path);
    const outside = relative.startsWith('..') || path.isAbsolute(relative);
    return outside ? 'it lies outside the folder of the image' : null;
  },
};

/** A name with a protocol or a description (`nbd://…`, `json:{…}`), as qemu tells one from a path: a colon before any slash. */
export function hasScheme(name: string): boolean {
  const colon = name.indexOf(':');
  if (colon < 0) return false;
  if (process.platform === 'win32' && colon === 1) return false;
  const slash = name.indexOf('/');
  return slash < 0 || colon < slash;
}

/**
 * The path that `name`, found in the image `from`, stands for: relative names start at the image's folder; a `file:` prefix falls
 * away. Throws `gate/scheme`.
 */
export function resolveReference(from: string, name: string): string {
  const plain = name.startsWith('file:') ? name.slice('file:'.length) : name;
  if (hasScheme(plain)) throw new ImageError('gate/scheme', { name }, { file: from });
  if (path.isAbsolute(plain)) return plain;
  const folder = path.dirname(from);
  return folder === '.' && !from.startsWith('.') ? plain : `${folder === '/' ? '' : folder}/${plain}`;
}
