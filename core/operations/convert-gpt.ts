// A convert that makes the disk larger: what is copied has its backup GPT at the new end; the source stays as it is.
import type { CopyPart } from '../block/copy/plan.ts';
import { alignDown } from '../block/units.ts';
import { writtenOver } from '../block/written-over.ts';
import { ImageError } from '../errors/image-error.ts';
import { moveGptEnd } from '../guest/gpt-end.ts';
import { readPartitionTable, type PartitionTable } from '../guest/partitions.ts';

/** What became of the backup GPT of a disk that grew. `reason`: why it is where it was; null: it was moved. */
export interface GptAtEnd {
  readonly moved: boolean;
  readonly reason: string | null;
}

/**
 * The parts to be copied to a disk of `size` bytes with its backup GPT at that end, and what became of it; null: the disk does not grow, or
 * has no GPT. Never throws for what stands in the table.
 */
export function withGptAtEnd(
  parts: readonly CopyPart[],
  size: number,
): { readonly parts: readonly CopyPart[]; readonly gpt: GptAtEnd | null } {
  const [first, second] = parts;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (first === undefined || size <= length) return { parts, gpt: null };
  let table: PartitionTable | null;
  try {
    table = readPartitionTable(first.source);
  } catch (error) {
    // What cannot be read stops the copy itself, or is left out by it.
    if (error instanceof ImageError) return { parts, gpt: null };
    throw error;
  }
  if (table?.gpt === null || table === null) return { parts, gpt: null };
  if (second !== undefined) return { parts, gpt: { moved: false, reason: 'the disk is put together from several' } };
  const end = alignDown(size, 512);
  const source = writtenOver(first.source, end);
  try {
    moveGptEnd(source, table, end);
  } catch (error) {
    if (error instanceof ImageError) return { parts, gpt: { moved: false, reason: error.message } };
    throw error;
  }
  return { parts: [{ source, start: 0, length: end }], gpt: { moved: true, reason: null } };
}
