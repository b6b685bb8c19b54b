// Codes and sentences of vmdk.
import type { Sentence } from '../sentence.ts';

export const vmdkMessages = {
  // the descriptor
  'vmdk/too-small': 'File is too small, not a valid image',
  'vmdk/magic': 'Image not in VMDK format',
  'vmdk/descriptor': 'invalid VMDK image descriptor',
  'vmdk/descriptor-value': (d) => `invalid VMDK image descriptor: ${d.key} is ${d.found}`,
  'vmdk/descriptor-missing': 'This is one extent of a VMDK image: open the descriptor (.vmdk) that names it',
  'vmdk/descriptor-full': (d) => `The descriptor needs ${d.needed} bytes, there is room for ${d.allowed}`,
  'vmdk/create-type': (d) => `Unsupported image type '${d.type}'`,
  'vmdk/name': (d) => `The name '${d.name}' cannot be written into a VMDK descriptor`,

  // extents
  'vmdk/extent-line': (d) => `Invalid extent line: ${d.line}`,
  'vmdk/extent-type': (d) => `Unsupported extent type '${d.type}'`,
  'vmdk/extent-access': (d) => `The extent '${d.name}' is marked NOACCESS`,
  'vmdk/extent-count': (d) => `The descriptor names more than ${d.allowed} extents`,
  'vmdk/extent-open': (d) => `Could not open '${d.name}': ${d.reason}`,
  'vmdk/extent-short': (d) => `The extent file has ${d.size} bytes, the descriptor says ${d.expected}`,
  'vmdk/extent-nested': 'The extent file is a descriptor itself',
  'vmdk/extent-embedded': (d) => `The embedded descriptor names ${d.count} extents, this file is one of them`,
  'vmdk/extent-read-only': (d) => `The extent at ${d.start} cannot be written: ${d.reason}`,

  // headers
  'vmdk/footer': 'Invalid footer',
  'vmdk/version': (d) => `Unsupported VMDK version ${d.version}`,
  'vmdk/version-read-only': 'VMDK version 3 must be read only',
  'vmdk/table-size': 'L2 table size too big',
  'vmdk/directory-entry': 'L1 entry size is invalid',
  'vmdk/directory-size': 'L1 size too big',
  'vmdk/directory-outside': (d) =>
    `The grain directory (${d.length} bytes) reaches beyond the end of the file (${d.size})`,
  'vmdk/directory-short': (d) => `The grain directory has ${d.found} entries, the disk needs ${d.needed}`,
  'vmdk/grain-size': 'Invalid granularity, image may be corrupt',
  'vmdk/compression': (d) => `Unknown compression algorithm ${d.algorithm}`,
  'vmdk/truncated': (d) => `File truncated, expecting at least ${d.expected} bytes`,
  'vmdk/sesparse': (d) => `${d.reason}`,
  'vmdk/sesparse-write': 'No write support for seSparse images available',

  // tables
  'vmdk/table-outside': (d) => `Grain table ${d.table} (at ${d.offset}) reaches beyond the end of the file (${d.size})`,
  'vmdk/table-overlap': (d) => `Grain table ${d.table} (at ${d.offset}) stands inside the ${d.what}`,
  'vmdk/table-entry': (d) => `An entry of grain table ${d.table} is invalid: ${d.entry}`,
  'vmdk/grain-outside': (d) =>
    `The grain of guest offset ${d.guest} stands at ${d.offset}, beyond the end of the file (${d.size})`,
  'vmdk/grain-overlap': (d) => `The grain of guest offset ${d.guest} stands at ${d.offset}, inside the ${d.what}`,
  'vmdk/grain-marker': (d) => `The marker of the compressed grain of guest offset ${d.guest} is wrong: ${d.reason}`,
  'vmdk/too-many-grains': (d) => `The file could hold more than ${d.allowed} grains; they are not checked`,
  'vmdk/full': 'The extent file cannot grow beyond 2 TiB',

  // the parent
  'vmdk/parent-missing': (d) => `${d.reason} (looking for the image with CID ${d.cid})`,
  'vmdk/parent-unnamed': (d) => `The image is a delta of an image with CID ${d.cid}${d.uuid}, but does not name it`,
  'vmdk/parent-format': (d) => `The parent '${d.name}' is a ${d.format} image; a VMDK delta needs a VMDK parent`,
  'vmdk/parent-changed': (d) =>
    `The parent '${d.name}' has changed since this delta was made: its CID is ${d.found}, expected is ${d.expected}`,

  // creating and changing
  'vmdk/option': (d) => `invalid parameter value: ${d.value}`,
  'vmdk/compat6': 'compat6 cannot be enabled with hwversion set',
  'vmdk/flat-backing': "Flat image can't have backing file",
  'vmdk/flat-zeroed': "Flat image can't enable zeroed grain",
  'vmdk/backing-format': 'backing_file must be a vmdk image',
  'vmdk/backing-found': (d) => `Invalid backing file format: ${d.format}. Must be vmdk`,
  'vmdk/size': (d) => `The image size is too large for VMDK: ${d.size}, allowed ${d.allowed}`,
  'vmdk/stream-plain': 'A streamOptimized image takes compressed grains only',
  'vmdk/stream-order': (d) =>
    `A streamOptimized image is written once in ascending order: ${d.guest} comes after ${d.last}`,
  'vmdk/stream-finished': 'Could not write to allocated cluster for streamOptimized',
  'vmdk/resize': (d) => `${d.reason}`,
} as const satisfies Record<string, Sentence>;
