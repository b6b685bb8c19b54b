// What each stretch of an archive is for: headers, files, what fills up their last blocks, and the end.
import type { Annotation } from '../../bytes/struct.ts';
import { alignUp, type HostOffset, type HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import type { OvaNode } from './node.ts';
import { blockSize, tarHeader } from './spec.ts';

const noAnnotations = (): Annotation[] => [];

/** The regions of the file, in order, without gap or overlap. A descriptor beside its disks is one. */
export function* ovaRegions(node: OvaNode, role: string): Generator<Region, void, void> {
  if (role !== 'file') return;
  const { storage, contents } = node;
  const { entries } = contents.files;
  if (entries === null) {
    if (storage.size > 0) yield plain(0, storage.size, 'OVF descriptor', 'header');
    return;
  }
  let at = 0;
  for (const { name, start, offset, size } of entries) {
    yield {
      start,
      length: offset - start,
      label: `tar header of ${name}`,
      kind: 'header',
      annotate: (window) => headerNotes(node, start, offset, window),
    };
    if (size > 0) yield plain(offset, size, name, 'data');
    at = Math.min(storage.size, alignUp(offset + size, blockSize));
    if (at > offset + size) yield plain(offset + size, at - offset - size, `padding of ${name}`, 'lost');
  }
  const end = Math.min(storage.size, at + 2 * blockSize);
  if (end > at) yield plain(at, end - at, 'end of the archive', 'header');
  if (storage.size > end) yield plain(end, storage.size - end, 'behind the end of the archive', 'lost');
}

function plain(start: HostOffset, length: number, label: string, kind: Region['kind']): Region {
  return { start, length, label, kind, annotate: noAnnotations };
}

/** The header itself, which is the last block before the file; what stands before it is a long name. */
function headerNotes({ storage }: OvaNode, start: HostOffset, end: HostOffset, window: HostRange): Annotation[] {
  const at = Math.max(start, end - blockSize);
  if (window.start >= end || window.start + window.length <= at) return [];
  const block = new Uint8Array(blockSize);
  storage.readAt(block, at);
  return tarHeader
    .annotate(block, at)
    .filter((note) => note.start < window.start + window.length && note.start + note.length > window.start);
}
