// How a format gives space back: what can be done to an image in place, and what only by writing it anew.
import type { BlockNode, WritableNode } from '../block/node.ts';
import type { GuestRange } from '../block/units.ts';
import type { Job } from '../job.ts';
import type { OptionValue } from './driver.ts';

/**
 * - `moves`: units are given up, the last ones move into free places, and the file is cut.
 * - `holes`: the file keeps its order and length; what need not be stored becomes holes.
 * - `rewrite`: only as a new file.
 * - `none`: not at all.
 */
export type CompactWay = 'moves' | 'holes' | 'rewrite' | 'none';

/** What can be done to one image. Sizes in bytes. */
export interface CompactPlan {
  readonly way: CompactWay;
  /** Why not in place, as the rest of a sentence; null: it goes in place. */
  readonly reason: string | null;
  /** Guest bytes whose room can be given up by themselves; every unit starts at a multiple. */
  readonly unit: number;
  /** Parts of a unit that stays can become holes, in pieces of this size at their own multiples; 0: they cannot. */
  readonly hole: number;
  /** What has to be given up to change what the guest could read (free blocks of its file systems), as the rest of a sentence; null: nothing. */
  readonly keepsContent: string | null;
  /** Creation options that make a new image like this one; or why a new one would lose something. */
  readonly rewrite: { readonly options: Readonly<Record<string, OptionValue>> } | { readonly refused: string };
}

/** How much of a long step is done, in bytes. */
export interface CompactStep {
  readonly done: number;
  readonly total: number;
}

/** Giving space back in place. A power cut at any moment leaves the disk's content as it was, and space lost at worst. */
export interface CompactDriver {
  plan(node: BlockNode): CompactPlan;
  /** Before the first change. `changesContent`: the guest may read other bytes afterwards (in free blocks). */
  begin?(node: WritableNode, changesContent: boolean): void;
  /**
   * Gives up the room of one unit, which then reads as zeroes; `below`: the layer below would show something else, so the image itself
   * must say zero. False: it cannot. `dry`: only the answer.
   */
  give?(node: BlockNode, unit: GuestRange, how: { readonly below: boolean; readonly dry: boolean }): boolean;
  /** Moves what is last into free places and cuts the file; all is on disk before and after. Yields between pieces of work. */
  settle?(node: WritableNode, job: Job): Generator<CompactStep, void, void>;
}

/** Nothing here can be compacted. */
export function notCompacted(reason: string): CompactDriver {
  const plan: CompactPlan = {
    way: 'none',
    reason,
    unit: 512,
    hole: 0,
    keepsContent: null,
    rewrite: { refused: reason },
  };
  return { plan: () => plan };
}

/** The guest's bytes stand in the file in their order: what reads as zeroes becomes holes. */
export function compactedByHoles(rewrite: CompactPlan['rewrite']): CompactPlan {
  return { way: 'holes', reason: null, unit: 1024 * 1024, hole: 4096, keepsContent: null, rewrite };
}
