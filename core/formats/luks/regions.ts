// What each stretch of a LUKS file is for.
import { annotateHeader, headerBytes, materialRange } from '../../block/crypto/luks/header.ts';
import { headerLength, slotState } from '../../block/crypto/luks/spec.ts';
import type { Region } from '../driver.ts';
import type { LuksNode } from './node.ts';

/** The regions of the file, in order, without gap or overlap. */
export function* luksRegions(node: LuksNode, role: string): Generator<Region, void, void> {
  if (role !== 'file') return;
  const { header, payload, storage } = node;
  const { size } = storage;
  const known: Region[] = [
    {
      start: 0,
      length: headerLength,
      label: 'LUKS header',
      kind: 'header',
      annotate: () => annotateHeader(headerBytes(header), 0),
    },
    ...header.slots.map((slot, i): Region => {
      const enabled = slot.active === slotState.enabled;
      const label = `key slot ${i} (${enabled ? 'enabled' : 'free'})`;
      return { ...materialRange(header, i), label, kind: 'table', annotate: () => [] };
    }),
    { start: payload, length: Math.max(0, size - payload), label: 'guest disk', kind: 'data', annotate: () => [] },
  ];
  known.sort((a, b) => a.start - b.start);
  let at = 0;
  for (const region of known) {
    const end = Math.min(size, region.start + region.length);
    if (end <= region.start) continue;
    if (region.start > at) yield unused(at, region.start - at);
    yield { ...region, length: end - region.start };
    at = end;
  }
  if (at < size) yield unused(at, size - at);
}

function unused(start: number, length: number): Region {
  return { start, length, label: 'unused', kind: 'lost', annotate: () => [] };
}
