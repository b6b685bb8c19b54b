// How a finding of the qcow2 check is put together: severity, the line that qemu-img prints, place.
import type { Where } from '../../errors/image-error.ts';
import type { Finding } from '../driver.ts';

/** What a repair would do about it, in words; null: nothing. */
export type Repair = string | null;

export function corruption(code: string, text: string, where: Where, repair: Repair = null): Finding {
  return { code: `qcow2/${code}`, severity: 'corruption', text, where, count: 1, repair };
}

export function leak(code: string, text: string, where: Where, repair: Repair): Finding {
  return { code: `qcow2/${code}`, severity: 'leak', text, where, count: 1, repair };
}

/** Something that the check itself could not do. `count` 0: a line that explains others. */
export function internalError(code: string, text: string, where: Where, count = 1): Finding {
  return { code: `qcow2/${code}`, severity: 'error', text, where, count, repair: null };
}

/** The 64 bits of an entry as C's `%lx` prints them. */
export function hexEntry(high: number, low: number): string {
  const upper = (high >>> 0).toString(16);
  const lower = (low >>> 0).toString(16);
  return upper === '0' ? lower : upper + lower.padStart(8, '0');
}

/** The same, put right. */
export function mended(finding: Finding, text = finding.text.replace(/^(ERROR|Leaked)/, 'Repairing')): Finding {
  return { ...finding, text, fixed: true };
}

/** Puts single entries right on disk. */
export interface EntryFixer {
  /** Makes the L2 entry at host offset `at`, whose second half (with subclusters) is given, read as zeroes. */
  zeroEntry(at: number, zeroParts: number, allocatedParts: number): void;
  /** Makes the file so long that it holds the refcount block at `offset`; false: that is out of all proportion. */
  reachBlock(offset: number): boolean;
}
