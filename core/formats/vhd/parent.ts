// The parent of a differencing disk: looked for under every name that the image has for it, and known by its identity.
import type { BlockNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { isUnreadable } from '../../block/unreadable.ts';
import type { OpenGate } from '../driver.ts';
import { footerOf, identityIn, showTime, type VhdIdentity } from './identity.ts';
import { parentPaths, unicodeName, type Locator } from './locators.ts';
import type { DynamicHeader, Footer } from './spec.ts';

/** What the image says of its parent. */
export interface ParentClaim {
  readonly identity: VhdIdentity;
  /** Paths to try, best first. */
  readonly paths: readonly string[];
  /** For people. */
  readonly name: string;
  /** Its maker writes the time stamp of the parent's footer, which can be compared. */
  readonly timeStampCounts: boolean;
}

/**
 * Makers whose `parent_time_stamp` is that of the parent's footer. The others store when the parent's file was last changed (or zero),
 * which does not outlive a copy of the file.
 */
const stampingMakers: readonly string[] = ['qemu', 'qem2'];

export function claimOf(
  header: DynamicHeader,
  headerBytes: Uint8Array,
  locators: readonly Locator[],
  values: Footer,
): ParentClaim {
  const unicode = unicodeName(headerBytes);
  const paths = parentPaths(locators, unicode);
  return {
    identity: { uniqueId: header.parent_unique_id, timeStamp: header.parent_time_stamp },
    paths,
    name: paths[0] ?? unicode ?? '',
    timeStampCounts: header.parent_time_stamp !== 0 && stampingMakers.includes(values.creator_application),
  };
}

/** Why a node is not the parent that is looked for; null: it is. Throws `vhd/*`, `storage/*`. */
export function differenceOf(claim: ParentClaim, node: BlockNode): string | null {
  const values = footerOf(node);
  if (values === null) return node.format;
  const { uniqueId, timeStamp } = identityIn(values);
  if (uniqueId !== claim.identity.uniqueId) return uniqueId;
  if (claim.timeStampCounts && timeStamp !== claim.identity.timeStamp) return `${uniqueId} of ${showTime(timeStamp)}`;
  return null;
}

/**
 * Opens the parent, with its own. Throws `vhd/parent-missing` or `vhd/parent-changed` with the identity that is looked for; what opening
 * a parent that is there throws (`gate/backing`, `storage/locked`, …); `gate/refused`, `gate/ask` when the caller allows none of the names.
 */
export function openParent(claim: ParentClaim, from: string, gate: OpenGate): BlockNode {
  let refused: ImageError | null = null;
  let failed: ImageError | null = null;
  let other: { name: string; found: string } | null = null;
  const seen = new Set<BlockNode>();
  for (const path of claim.paths) {
    let node: BlockNode;
    try {
      node = gate.openImage({ from, path, format: 'vpc' });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      if (isAbsent(error)) continue;
      if (['gate/refused', 'gate/ask', 'gate/scheme'].includes(error.code)) refused ??= error;
      else failed ??= error;
      continue;
    }
    if (seen.has(node)) continue;
    seen.add(node);
    const found = isUnreadable(node) ? null : differenceOf(claim, node);
    if (found === null) return node;
    node.close();
    other ??= { name: path, found };
  }
  if (failed !== null) throw failed;
  const { uniqueId, timeStamp } = claim.identity;
  if (other !== null) {
    const expected = claim.timeStampCounts ? `${uniqueId} of ${showTime(timeStamp)}` : uniqueId;
    throw new ImageError(
      'vhd/parent-changed',
      { ...other, expected, uniqueId },
      { file: from, field: 'parent_unique_id' },
    );
  }
  if (refused !== null) throw refused;
  throw new ImageError('vhd/parent-missing', { uniqueId, name: claim.name }, { file: from, field: 'parent_unique_id' });
}

/** No file of that name is there. */
function isAbsent(error: ImageError): boolean {
  const inner = error.code === 'gate/backing' && error.cause instanceof ImageError ? error.cause : error;
  return inner.code === 'storage/open' && (inner.detail.errno === 'ENOENT' || inner.detail.errno === 'ENOTDIR');
}

/**
 * Makes sure that the parent is there without keeping it open: also a disk of which only the facts are wanted is refused when its parent
 * is missing or another. What the caller does not allow, or somebody else holds, is not looked into.
 */
export function requireParent(claim: ParentClaim, from: string, gate: OpenGate): void {
  try {
    openParent(claim, from, gate).close();
  } catch (error) {
    if (error instanceof ImageError && (error.code === 'vhd/parent-missing' || error.code === 'vhd/parent-changed')) {
      throw error;
    }
    if (!(error instanceof ImageError)) throw error;
  }
}
