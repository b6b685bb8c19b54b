// Every error code of the engine and its sentence, in one table; where qemu-img has a sentence for the case, it is the same.
import { bitmapMessages } from './messages/bitmap.ts';
import { cloneMessages } from './messages/clone.ts';
import { luksMessages } from './messages/luks.ts';
import { catalogueMessages } from './messages/catalogue.ts';
import { compactMessages } from './messages/compact.ts';
import { guestMessages } from './messages/guest.ts';
import { inPlaceMessages } from './messages/in-place.ts';
import { layersMessages } from './messages/layers.ts';
import { lookMessages } from './messages/look.ts';
import { operationMessages } from './messages/operation.ts';
import { ovaMessages } from './messages/ova.ts';
import { profileMessages } from './messages/profile.ts';
import { qcowMessages } from './messages/qcow.ts';
import { qcow2Messages } from './messages/qcow2.ts';
import { qedMessages } from './messages/qed.ts';
import { resizeMessages } from './messages/resize.ts';
import { snapshotMessages } from './messages/snapshot.ts';
import { undoMessages } from './messages/undo.ts';
import { vdiMessages } from './messages/vdi.ts';
import { vhdMessages } from './messages/vhd.ts';
import { vhdxMessages } from './messages/vhdx.ts';
import { vmdkMessages } from './messages/vmdk.ts';
import { factsOf, type DetailRow, type ErrorDetail, type Facts, type Sentence } from './sentence.ts';
import { workbenchMessages } from './messages/workbench.ts';

export type { DetailRow, ErrorDetail, Facts };

const table = {
  // what was asked
  'request/cancelled': 'Cancelled',
  'request/out-of-range': (d) => `The range ${d.start}+${d.length} lies outside the disk of ${d.size} bytes`,
  'request/invalid-option': (d) => `Invalid parameter '${d.name}'`,
  'request/invalid-value': (d) => `${d.reason}`,
  'request/lane-died': (d) => `A compression thread ended early: ${d.reason}`,
  'request/unsupported': (d) => `${d.what}`,

  // bytes on the host
  'storage/open': (d) => `${d.reason}`,
  'storage/not-a-file': (d) => `'${d.name}' is ${d.found}, not a regular file or a block device`,
  'storage/directory': (d) => `'file' driver requires '${d.name}' to be a regular file`,
  'storage/read': (d) => `${d.reason}`,
  'storage/write': (d) => `${d.reason}`,
  'storage/flush': (d) => `${d.reason}`,
  'storage/truncate': (d) => `${d.reason}`,
  'storage/short-read': (d) => `Only ${d.found} of ${d.length} bytes could be read; the file ends at ${d.size}`,
  'storage/too-large': (d) => `${d.found} is beyond what can be addressed exactly (${Number.MAX_SAFE_INTEGER})`,
  'storage/read-only': 'The file is open for reading only',
  'storage/locked': (d) =>
    d.exclusive === true ? `Failed to get "${d.permission}" lock` : `Failed to get shared "${d.permission}" lock`,
  'storage/closed': 'The file is closed already',
  'storage/shrank': (d) => `The file was ${d.expected} bytes when it was opened and is ${d.found} now`,

  // declared structures
  'bytes/limit': (d) => `${d.field}: found ${d.found}, allowed ${d.allowed}`,
  'bytes/truncated': (d) => `${d.structure} needs ${d.length} bytes, ${d.found} are there`,

  // packed units
  'packed/damaged': (d) => `A compressed unit (${d.codec}) cannot be decoded: ${d.reason}`,

  // opening
  'format/unknown': (d) => `Unknown driver '${d.name}'`,
  'format/unknown-output': (d) => `Unknown file format '${d.name}'`,
  'format/ambiguous': (d) =>
    `The file can be read as ${d.first} and as ${d.second}, and means something else in each; say which it is (-f)`,
  'format/no-create': (d) => `Format driver '${d.name}' does not support image creation`,
  'format/foreign': (d) => `This is ${d.label}, which is not supported here: ${d.instead}`,
  'format/foreign-name': (d) => `The format '${d.name}' (${d.label}) is not supported here: ${d.instead}`,
  'format/read-only': (d) => `${d.format} images are only read here`,
  'gate/loop': (d) => `Backing file '${d.name}' creates an infinite loop.`,
  'gate/depth': (d) => `The backing chain is deeper than ${d.allowed} images`,
  'gate/scheme': (d) =>
    `The image names '${d.name}', which is not a path of a file; names with a protocol are not followed`,
  'gate/refused': (d) => `The image names '${d.name}', which may not be opened: ${d.reason}`,
  'gate/ask': (d) => `The image names '${d.name}', which nobody has allowed it to open: ${d.reason}`,
  'gate/backing': (d) => `Could not open backing file: ${d.reason}`,

  // convert
  'convert/create': (d) => `${d.target}: error while converting ${d.format}: ${d.reason}`,
  'convert/no-compression': 'Compression not supported for this file format',
  'convert/no-backing': (d) => `Backing file not supported for file format '${d.format}'`,
  'convert/no-identity': (d) => `A ${d.target} image cannot carry the identity of a ${d.source} image`,
  'convert/no-snapshots': (d) =>
    `Failed to load snapshot: Block format '${d.format}' used by device '' does not support temporarily loading internal snapshots`,
  'convert/too-small': 'output file is smaller than input file',
  'convert/archive': (d) =>
    `Only a new raw image without a backing file, compression, salvage, bitmaps or kept identity can be put into an archive, not ${d.format} with them`,
  'convert/differs': (d) => `The result differs from the source at offset ${d.offset}; it was thrown away`,
  'copy/read': (d) => `error while reading at byte ${d.offset}: ${d.reason}`,
  'copy/write': (d) => `error while writing at byte ${d.offset}: ${d.reason}`,

  // raw
  'raw/size': (d) => `A raw image holds ${d.size} bytes; ${d.found} was asked`,

  ...catalogueMessages,
  ...compactMessages,
  ...guestMessages,
  ...bitmapMessages,
  ...cloneMessages,
  ...inPlaceMessages,
  ...resizeMessages,
  ...snapshotMessages,
  ...layersMessages,
  ...lookMessages,
  ...operationMessages,
  ...profileMessages,
  ...workbenchMessages,
  ...undoMessages,
  ...qcow2Messages,
  ...qcowMessages,
  ...qedMessages,
  ...vhdMessages,
  ...vhdxMessages,
  ...vmdkMessages,
  ...vdiMessages,
  ...luksMessages,
  ...ovaMessages,
} as const satisfies Record<string, Sentence>;

export type ErrorCode = keyof typeof table;

/** The sentence for `code`, filled with `detail`. */
export function sentence(code: ErrorCode, detail: ErrorDetail): string {
  const entry: Sentence = table[code];
  return typeof entry === 'string' ? entry : entry(factsOf(detail));
}

/** All codes, for the documentation and for the test that looks for unused ones. */
export const errorCodes = Object.keys(table) as ErrorCode[];
