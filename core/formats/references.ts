// Which files an image would pull in, and those images in turn, found out without opening any that is not allowed.
import { ImageError } from '../errors/image-error.ts';
import { followFiles, type GatePolicy, type Reference } from './gate.ts';
import { openImage, type OpenOptions } from './open.ts';

/** `asked`: somebody must decide; `refused`: it is not for asking. */
export type Verdict = 'allowed' | 'asked' | 'refused';

/** A file that an image names. */
export interface ListedReference {
  /** The image that names it. */
  readonly from: string;
  /** As it stands in the image. */
  readonly name: string;
  /** Where that leads. */
  readonly path: string;
  /** `backing`, `data-file`, `extents.N`, `disks.…`. */
  readonly role: string;
  /** As the image says; null: the content decides. */
  readonly format: string | null;
  readonly verdict: Verdict;
  /** Why it is not simply opened; null: it is. */
  readonly reason: string | null;
}

export interface ReferenceList {
  readonly references: readonly ListedReference[];
  /** References left out, because there are more than one list takes. */
  readonly more: number;
  /** Why the list may end early besides what is not allowed (a parent is missing, a file cannot be read); null: it does not. */
  readonly fault: ImageError | null;
}

/** References that a list has at most: a split disk of 2 GB pieces and a long chain fit. */
const mostListed = 1000;

/**
 * Opens the image at `path` as far as `options.policy` allows and notes every reference that is met on the way. Below one that is not
 * allowed nothing is seen. Throws what opening the image itself throws before it names anything.
 */
export function listReferences(path: string, options: OpenOptions): ReferenceList {
  const policy = options.policy ?? followFiles;
  const seen = new Map<string, ListedReference>();
  let more = 0;
  const note = (reference: Reference): string | null => {
    const reason = policy.refuse(reference);
    const { from, path: to, role, name = to, format = null } = reference;
    const key = `${from}\0${to}\0${role}`;
    if (role === 'head' || seen.has(key)) return reason;
    if (seen.size >= mostListed) more++;
    else seen.set(key, { from, name, path: to, role, format, verdict: verdictOf(reason, reference), reason });
    return reason;
  };
  const verdictOf = (reason: string | null, reference: Reference): Verdict => {
    if (reason === null) return 'allowed';
    return policy.isQuestion?.(reference) === true ? 'asked' : 'refused';
  };
  const noting: GatePolicy = {
    maxDepth: policy.maxDepth,
    refuse: note,
    isQuestion: (reference) => policy.isQuestion?.(reference) ?? false,
    announce: (references) => references.forEach(note),
  };
  const list = (fault: ImageError | null): ReferenceList => ({ references: [...seen.values()], more, fault });
  try {
    openImage(path, { ...options, policy: noting, guestData: false }).node.close();
    return list(null);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    if (error.code === 'gate/ask' || error.code === 'gate/refused') return list(null);
    if (seen.size === 0 && !error.code.startsWith('gate/')) throw error;
    return list(error);
  }
}
