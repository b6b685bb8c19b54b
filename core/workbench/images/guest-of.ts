// Which byte of the guest's disk is stored at a place of a file: a walk over the mapping that can be left and taken up again.
import type { BlockNode } from '../../block/node.ts';
import type { Run } from '../../block/read.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import type { Searched } from '../contract.ts';

/** Milliseconds that one question walks on. */
const walkTime = 150;
const runsPerLook = 256;

/**
 * The first byte from `from` on the disk of `node` that is stored at byte `host` of its file `role`; of a compressed unit the first of the
 * unit. What cannot be read is passed over, and what comes from layers below is not meant. `next`: where to go on.
 */
export function guestOf(node: BlockNode, role: string, host: number, from: number): Searched {
  const file = node.files.find((one) => one.role === role)?.storage;
  const until = performance.now() + walkTime;
  let at = from;
  for (let count = 1; at < node.size; count++) {
    const run = surveyOne(node, { start: at, length: node.size - at });
    const within = isUnread(run) || run.depth > 0 ? null : offsetIn(run, file, host);
    if (within !== null) return { found: at + within, next: at + within + 1, unread: 0 };
    at += run.length;
    if (count % runsPerLook === 0 && performance.now() > until) break;
  }
  return { found: null, next: at < node.size ? at : null, unread: 0 };
}

/** How far into the run the byte `host` is; null: it is not in it. */
function offsetIn({ mapping, length }: Run, file: unknown, host: number): number | null {
  const place = mapping.kind === 'zero' ? mapping.reserved : mapping;
  if (place === undefined || place.storage !== file) return null;
  const within = host - place.offset;
  if (mapping.kind === 'packed') return within >= 0 && within < mapping.storedLength ? 0 : null;
  return within >= 0 && within < length ? within : null;
}
