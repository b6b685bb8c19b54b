// What a file of an image is seen by besides its regions: the counts that it keeps, and the pieces in which the disk lies in it.
import type { BlockNode } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import type { StoredCounts } from '../../formats/driver.ts';
import { countClass, extentClass, smallGap } from './classes.ts';
import type { StretchWalk } from './stretch-map.ts';

/** How often each cluster is referred to. Throws `storage/*`. */
export function countsWalk(counts: StoredCounts): StretchWalk {
  return function* walk({ start, end }, put) {
    for (let at = start; at < end;) {
      const { count, length } = counts.run(at, end);
      put(countClass(count), at, length);
      at += length;
      yield (at - start) / (end - start);
    }
  };
}

/**
 * What the disk of `node` has in `storage`, by the length of the pieces: one goes on where the next bytes of the disk are the next ones of
 * the file. What cannot be read is passed over.
 */
export function piecesWalk(node: BlockNode, storage: Storage): StretchWalk {
  return function* walk(_range, put) {
    let offset = 0;
    let length = 0;
    let diskEnd = -1;
    /** Bytes that a packed unit may take less than it says. */
    let slack = 0;
    const end = (): void => {
      if (length > 0) put(extentClass(length), offset, length);
      length = 0;
    };
    for (let at = 0; at < node.size;) {
      const stored = storedAt(node, storage, at);
      if (stored.offset !== null) {
        const gap = stored.offset - (offset + length);
        const goesOn = length > 0 && diskEnd === at && gap >= -slack && gap <= smallGap;
        if (!goesOn) {
          end();
          ({ offset } = stored);
        }
        length = stored.offset + stored.length - offset;
        diskEnd = at + stored.covers;
        slack = stored.packed ? stored.length : 0;
      }
      at += stored.covers;
      yield at / node.size;
    }
    end();
  };
}

interface Stored {
  /** Where it stands in the file, and how many bytes of it; null: it is not stored there. */
  readonly offset: number | null;
  readonly length: number;
  readonly packed: boolean;
  /** Bytes of the disk. */
  readonly covers: number;
}

function storedAt(node: BlockNode, storage: Storage, at: number): Stored {
  const nothing = { offset: null, length: 0, packed: false };
  const run = surveyOne(node, { start: at, length: node.size - at });
  const covers = run.length;
  if (isUnread(run)) return { ...nothing, covers };
  const { depth, mapping } = run;
  if (depth > 0 || mapping.kind === 'zero' || mapping.storage !== storage) return { ...nothing, covers };
  const packed = mapping.kind === 'packed';
  return { offset: mapping.offset, length: packed ? mapping.storedLength : covers, packed, covers };
}
