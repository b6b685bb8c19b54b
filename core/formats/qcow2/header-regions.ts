// The parts of the first cluster, and the tables with rows of declared structures, as regions with annotations.
import type { Annotation } from '../../bytes/struct.ts';
import { annotateHeader } from '../../block/crypto/luks/header.ts';
import { headerLength } from '../../block/crypto/luks/spec.ts';
import type { HostRange } from '../../block/units.ts';
import { alignUp } from '../../block/units.ts';
import type { Region } from '../driver.ts';
import type { BitmapDirectory } from './bitmap-references.ts';
import type { HeaderExtension } from './header.ts';
import type { Snapshot, SnapshotTable } from './snapshots.ts';
import {
  bitmapDirectoryEntry,
  bitmapsExtension,
  encryptionHeader,
  extensionHead,
  extensionType,
  featureName,
  headerAdditional,
  headerV2,
  headerV3,
  snapshotEntry,
  snapshotExtra,
} from './spec.ts';
import type { Qcow2State } from './state.ts';
import { readPadded } from './stored-refcounts.ts';

/** A stretch of the file that has a name. */
export type NamedStretch = Region;

/** As much of a declared structure as is needed here. */
interface Rows {
  readonly size: number;
  readonly annotate: (bytes: Uint8Array, at: number) => Annotation[];
}

function bytesAt(state: Qcow2State, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  readPadded(state.storage, bytes, start);
  return bytes;
}

/** The annotations that touch `window`. */
function seen(window: HostRange, all: readonly Annotation[]): Annotation[] {
  const end = window.start + window.length;
  return all.filter(({ start, length }) => length > 0 && start < end && start + length > window.start);
}

function text(start: number, bytes: Uint8Array, structure: string, field: string, meaning: string): Annotation {
  const value = JSON.stringify(Buffer.from(bytes).toString('utf8'));
  return { start, length: bytes.length, structure, field, value, meaning, fault: null };
}

function structureAt(state: Qcow2State, rows: Rows, start: number): Annotation[] {
  return rows.annotate(bytesAt(state, start, rows.size), start);
}

const extensionNames: Readonly<Record<number, string>> = {
  [extensionType.backingFormat]: 'backing file format',
  [extensionType.featureNames]: 'feature name table',
  [extensionType.bitmaps]: 'bitmaps extension',
  [extensionType.encryptionHeader]: 'encryption header pointer',
  [extensionType.dataFile]: 'external data file name',
};

/** The first cluster: header, extensions, end of extensions, backing file name. What is left over is for who asks. */
export function headerStretches(state: Qcow2State): NamedStretch[] {
  const { header } = state;
  const { fields, extensions, backingName } = header;
  const found: NamedStretch[] = [headerStretch(state)];
  const add = (start: number, length: number, label: string, annotate: Region['annotate']): void => {
    if (length > 0) found.push({ start, length, label, kind: 'header', annotate });
  };
  let end = fields.header_length;
  for (const extension of extensions) {
    const start = extension.offset - extensionHead.size;
    const name = extensionNames[extension.type] ?? `header extension 0x${extension.type.toString(16)}`;
    const length = extensionHead.size + alignUp(extension.data.length, 8);
    add(start, length, name, (window) => seen(window, extensionRows(state, extension, name)));
    end = start + length;
  }
  const stop = fields.backing_file_offset !== 0 ? fields.backing_file_offset : state.layout.clusterSize;
  if (end + extensionHead.size <= stop) {
    const marker = end;
    add(marker, extensionHead.size, 'end of header extensions', (window) =>
      seen(window, structureAt(state, extensionHead, marker)),
    );
  }
  if (backingName !== null) {
    const { backing_file_offset: start, backing_file_size: length } = fields;
    add(start, length, 'backing file name', (window) =>
      seen(window, [
        text(
          start,
          bytesAt(state, start, length),
          'backing file name',
          'name',
          'the layer below, as the image names it',
        ),
      ]),
    );
  }
  return found;
}

function headerStretch(state: Qcow2State): NamedStretch {
  const { fields } = state.header;
  const length = fields.header_length;
  const annotate = (window: HostRange): Annotation[] => {
    if (fields.version < 3) return seen(window, structureAt(state, headerV2, 0));
    const rows = structureAt(state, headerV3, 0);
    if (length >= headerV3.size + headerAdditional.size)
      rows.push(...structureAt(state, headerAdditional, headerV3.size));
    return seen(window, rows);
  };
  return { start: 0, length, label: 'header', kind: 'header', annotate };
}

function extensionRows(state: Qcow2State, extension: HeaderExtension, name: string): Annotation[] {
  const { data, offset, type } = extension;
  const found = structureAt(state, extensionHead, offset - extensionHead.size);
  if (type === extensionType.bitmaps) return [...found, ...bitmapsExtension.annotate(data, offset)];
  if (type === extensionType.encryptionHeader) return [...found, ...encryptionHeader.annotate(data, offset)];
  if (type === extensionType.featureNames) {
    for (let at = 0; at + featureName.size <= data.length; at += featureName.size) {
      found.push(...featureName.annotate(data.subarray(at, at + featureName.size), offset + at));
    }
    return found;
  }
  if (data.length === 0) return found;
  if (type === extensionType.backingFormat || type === extensionType.dataFile) {
    return [...found, text(offset, data, name, 'name', name)];
  }
  const unknown = {
    structure: name,
    field: 'data',
    value: `${data.length} bytes`,
    meaning: 'not understood, kept as it is',
  };
  return [...found, { start: offset, length: data.length, ...unknown, fault: null }];
}

/** Fields of the LUKS header that an encrypted image carries; what it points to counts from the header's start. */
export function luksRows(state: Qcow2State, header: HostRange, window: HostRange): Annotation[] {
  const bytes = bytesAt(state, header.start, Math.min(header.length, headerLength));
  return seen(window, annotateHeader(bytes, header.start));
}

/** Rows of the snapshot table within `window`. */
export function snapshotRows(state: Qcow2State, table: SnapshotTable, window: HostRange): Annotation[] {
  const end = window.start + window.length;
  const touched = table.snapshots.filter(({ offset, length }) => offset < end && offset + length > window.start);
  return seen(
    window,
    touched.flatMap((snapshot) => snapshotRow(state, snapshot, table.snapshots.indexOf(snapshot))),
  );
}

function snapshotRow(state: Qcow2State, snapshot: Snapshot, index: number): Annotation[] {
  const { offset, extraLength, length } = snapshot;
  const bytes = bytesAt(state, offset, length);
  const extraAt = snapshotEntry.size;
  const idAt = extraAt + extraLength;
  const idLength = new DataView(bytes.buffer).getUint16(snapshotEntry.fields.id_size.offset);
  const extra = bytes.subarray(extraAt, extraAt + Math.min(extraLength, snapshotExtra.size));
  const name = 'Snapshot table entry';
  const rows = [
    ...snapshotEntry.annotate(bytes, offset),
    ...snapshotExtra.annotate(extra, offset + extraAt),
    text(offset + idAt, bytes.subarray(idAt, idAt + idLength), name, 'id', 'unique id of the snapshot'),
    text(offset + idAt + idLength, bytes.subarray(idAt + idLength), name, 'name', 'name of the snapshot'),
  ];
  return rows.map((row) => ({ ...row, path: `snapshot[${index}].${row.field}`, section: 'qcow2: Snapshots' }));
}

/** Rows of the bitmap directory within `window`. */
export function directoryRows(state: Qcow2State, directory: BitmapDirectory, window: HostRange): Annotation[] {
  const end = window.start + window.length;
  const touched = directory.bitmaps.filter(({ offset, length }) => offset < end && offset + length > window.start);
  return seen(
    window,
    touched.flatMap(({ offset, name }) => {
      const nameAt = offset + bitmapDirectoryEntry.size;
      const bytes = bytesAt(state, nameAt, Buffer.byteLength(name));
      return [
        ...structureAt(state, bitmapDirectoryEntry, offset),
        text(nameAt, bytes, 'Bitmap directory entry', 'name', 'name of the bitmap'),
      ].map((row) => ({ ...row, path: `bitmap[${JSON.stringify(name)}].${row.field}` }));
    }),
  );
}
