// The differences of two disks: stretches that meet are one, in both directions, in steps that can be left.
import type { ComparedStep, Match } from '../../../core/workbench/contract.ts';

/** Asks for the stretches from a place on, or before it with the last one first. */
export type Compare = (from: number, backwards: boolean) => Promise<ComparedStep>;

/** A stretch, and whether it is known where it ends (backwards: begins). */
export interface Stretch extends Match {
  readonly whole: boolean;
}

/**
 * Walks over the differences, those that meet as one. `tell` hears of each as soon as its first bytes are known and again when it has grown
 * or is whole; `at` hears how far it got. Both say whether to go on.
 */
export async function walkDifferences(
  compare: Compare,
  from: number,
  backwards: boolean,
  tell: (stretch: Stretch) => boolean,
  at: (next: number) => boolean,
): Promise<void> {
  let open: Match | null = null;
  for (let place: number | null = from; place !== null;) {
    const { differing, next }: ComparedStep = await compare(place, backwards);
    for (const one of differing) {
      const joined: Match | null = open === null ? null : join(open, one, backwards);
      if (open !== null && joined === null && !tell({ ...open, whole: true })) return;
      open = joined ?? one;
      if (!tell({ ...open, whole: false })) return;
    }
    // What was looked at behind it is the same on both: it is over.
    if (open !== null && next !== null && next !== edge(open, backwards)) {
      if (!tell({ ...open, whole: true })) return;
      open = null;
    }
    if (next !== null && !at(next)) return;
    place = next;
  }
  if (open !== null) tell({ ...open, whole: true });
}

const edge = ({ start, length }: Match, backwards: boolean): number => (backwards ? start : start + length);

/** Null: they do not meet. */
function join(open: Match, one: Match, backwards: boolean): Match | null {
  if (backwards) {
    return one.start + one.length === open.start ? { start: one.start, length: one.length + open.length } : null;
  }
  return open.start + open.length === one.start ? { start: open.start, length: open.length + one.length } : null;
}
