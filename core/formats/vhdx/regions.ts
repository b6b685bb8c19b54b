// What each stretch of a VHDX file is for.
import { MiB, type HostRange } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import {
  annotateBat,
  annotateBitmap,
  annotateLog,
  annotateMetadata,
  annotatePayload,
  annotateStructure,
  annotateTable,
} from './annotate.ts';
import { activeSequence, type LogSequence } from './log.ts';
import type { VhdxNode } from './node.ts';
import {
  fileIdentifier,
  header,
  headerOffsets,
  headerPieceLength,
  headerSectionLength,
  regionTableEntry,
  regionTableHeader,
  regionTableLength,
  regionTableOffsets,
} from './spec.ts';
import { fixedPieces, useOfFile, type FixedPiece } from './use.ts';

type Annotate = Region['annotate'];
const noAnnotations: Annotate = () => [];

/** The regions of the image's file, in order, without gap or overlap. Throws `storage/*`. */
export function* vhdxRegions(node: VhdxNode, role: string): Generator<Region, void, void> {
  if (role !== 'file') return;
  const { size } = node.image.file;
  let at = 0;
  for (const region of inOrder(node)) {
    const start = Math.max(at, region.start);
    const end = Math.min(size, region.start + region.length);
    if (end <= start) continue;
    if (start > at) yield unused(at, start - at);
    yield start === region.start && end === start + region.length ? region : { ...region, start, length: end - start };
    at = end;
  }
  if (at < size) yield unused(at, size - at);
}

function unused(start: number, length: number): Region {
  return { start, length, label: 'unused', kind: 'lost', annotate: noAnnotations };
}

/** Pieces and blocks by their start; gaps are left to the caller. */
function* inOrder(node: VhdxNode): Generator<Region, void, void> {
  const pieces = fixedPieces(node);
  let next = 0;
  for (const { start, owners } of useOfFile(node, () => {})) {
    let at = 0;
    while (at < owners.length) {
      const piece = pieces[next];
      if (piece !== undefined && piece.start <= start + at * MiB) {
        yield* pieceRegions(node, piece);
        next++;
        continue;
      }
      const owner = owners[at] ?? 0;
      let end = at + 1;
      while (end < owners.length && owners[end] === owner) end++;
      if (owner !== 0) yield blockRegion(node, owner, { start: start + at * MiB, length: (end - at) * MiB });
      const limit = piece === undefined ? end : Math.min(end, (piece.start - start) / MiB);
      at = Math.max(at + 1, limit);
    }
  }
  for (; next < pieces.length; next++) {
    const piece = pieces[next];
    if (piece !== undefined) yield* pieceRegions(node, piece);
  }
}

function blockRegion(node: VhdxNode, owner: number, range: HostRange): Region {
  if (owner > 0) {
    const block = owner - 1;
    const annotate: Annotate = (window) => annotatePayload(node, block, range.start, window);
    return { ...range, label: `block ${block}`, kind: 'data', annotate };
  }
  const chunk = -owner - 1;
  const annotate: Annotate = (window) => annotateBitmap(node, chunk, range.start, window);
  return { ...range, label: `sector bitmap of chunk ${chunk}`, kind: 'table', annotate };
}

function* pieceRegions(node: VhdxNode, piece: FixedPiece): Generator<Region, void, void> {
  const { start, length, label } = piece;
  const region = (annotate: Annotate, kind: Region['kind'] = 'table'): Region => ({
    start,
    length,
    label,
    kind,
    annotate,
  });
  switch (piece.name) {
    case 'header section':
      yield* headerRegions(node);
      return;
    case 'log':
      yield* logRegions(node, piece);
      return;
    case 'BAT':
      yield region((window) => annotateBat(node, window));
      return;
    case 'metadata':
      yield region((window) => annotateMetadata(node, window));
      return;
    case 'other':
      yield region(noAnnotations, 'data');
      return;
  }
}

function* headerRegions(node: VhdxNode): Generator<Region, void, void> {
  const { file } = node.image;
  const part = (start: number, length: number, label: string, annotate: Annotate): Region => ({
    start,
    length,
    label,
    kind: 'header',
    annotate,
  });
  yield part(0, headerPieceLength, 'file identifier', (window) => annotateStructure(file, fileIdentifier, 0, window));
  for (const [slot, start] of headerOffsets.entries()) {
    const label = `header ${slot + 1}${slot === node.image.section.current ? ' (current)' : ''}`;
    yield part(start, headerPieceLength, label, (window) => annotateStructure(file, header, start, window));
  }
  for (const [copy, start] of regionTableOffsets.entries()) {
    const annotate: Annotate = (window) => {
      const table = { head: regionTableHeader, entry: regionTableEntry, count: node.image.table.regions.length };
      return annotateTable(file, table, start, window);
    };
    yield part(start, regionTableLength, `region table ${copy + 1}`, annotate);
  }
  const end = regionTableOffsets[1] + regionTableLength;
  yield part(end, headerSectionLength - end, 'reserved', noAnnotations);
}

/** The entries that are to be replayed, and what lies between them. */
function* logRegions(node: VhdxNode, piece: FixedPiece): Generator<Region, void, void> {
  const { file, section } = node.image;
  const sequence: LogSequence | null = node.image.repaired ? null : activeSequence(file, section.header);
  const cuts: { start: number; length: number; label: string; annotate: Annotate }[] = [];
  for (const entry of sequence?.entries ?? []) {
    const label = `log entry ${entry.header.SequenceNumber}`;
    const length = entry.header.EntryLength;
    const first = Math.min(length, piece.length - entry.at);
    const annotate: Annotate = (window) => annotateLog(node, entry, window);
    cuts.push({ start: piece.start + entry.at, length: first, label, annotate });
    if (first < length) cuts.push({ start: piece.start, length: length - first, label, annotate });
  }
  cuts.sort((a, b) => a.start - b.start);
  let at = piece.start;
  const rest = (end: number): Region => ({
    start: at,
    length: end - at,
    label: 'log, nothing to replay',
    kind: 'log',
    annotate: noAnnotations,
  });
  for (const cut of cuts) {
    if (cut.start > at) yield rest(cut.start);
    yield { ...cut, kind: 'log' };
    at = cut.start + cut.length;
  }
  if (at < piece.start + piece.length) yield rest(piece.start + piece.length);
}
