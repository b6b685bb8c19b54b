// Codes and sentences of ova: packages of disks (OVF) and the archives that hold them.
import type { Sentence } from '../sentence.ts';

export const ovaMessages = {
  // the archive
  'ova/tar-header': (d) => `There is no tar header here: its checksum (${d.found}) is wrong`,
  'ova/tar-size': (d) => `The tar header says the size '${d.found}', which is none`,
  'ova/tar-many': (d) => `The archive has more than ${d.allowed} entries`,
  'ova/tar-cut': (d) => `The archive ends at ${d.size}, in the middle of a header`,
  'ova/tar-truncated': (d) =>
    `'${d.name}' would end at byte ${d.end} of the archive, which has ${d.size} bytes: it is truncated`,
  'ova/tar-metadata': (d) => `A header for metadata has ${d.found} bytes, at most ${d.allowed} are read`,
  'ova/tar-pax': 'A record of a pax header is damaged',
  'ova/entry-kind': (d) => `'${d.name}' is no plain file in the archive`,
  'ova/duplicate': (d) => `The archive has several files called '${d.name}'`,

  // the descriptor
  'ova/no-descriptor': 'The archive has no OVF descriptor (a file that ends in .ovf)',
  'ova/too-large': (d) => `The file has ${d.found} bytes, at most ${d.allowed} are read`,
  'ova/xml': (d) => `The OVF descriptor cannot be read: ${d.reason}`,
  'ova/value': (d) => `The OVF descriptor has an element ${d.element} whose ${d.name} cannot be '${d.found}'`,
  'ova/descriptor-many': (d) => `The OVF descriptor has more than ${d.allowed} ${d.what}`,

  // its disks
  'ova/no-disk': (d) => `The package has no disk '${d.name}'. Its disks are ${d.list}`,
  'ova/no-disks': 'The package has no disk that is stored in a file',
  'ova/which-disk': (d) => `The package has ${d.count} disks; say which one is meant (--disk NAME or N): ${d.list}`,
  'ova/blank-disk': (d) => `The disk '${d.name}' is empty: the package has no file for it`,
  'ova/dangling': (d) =>
    `The disk '${d.name}' refers to the file with id '${d.reference}', which the descriptor does not list`,
  'ova/missing-file': (d) => `The package has no file '${d.name}'`,
  'ova/compressed': (d) =>
    `'${d.name}' is compressed as a whole (${d.compression}) and cannot be read in parts: unpack the package and the file, then use that`,
  'ova/nested': 'A package inside a package is not opened here',
  'ova/outside': (d) =>
    `A disk of the archive names '${d.name}', which is not in the archive; nothing outside of it is opened`,

  // the manifest
  'ova/manifest-line': (d) => `Line ${d.line} of the manifest cannot be read: '${d.found}'`,
  'ova/digest': (d) =>
    `'${d.name}' is damaged: its ${d.algorithm} digest is not the one in the manifest (--salvage takes what can be read all the same)`,

  // check
  'ova/check-digest': (d) => `'${d.name}': the ${d.algorithm} digest is ${d.found}, the manifest says ${d.expected}`,
  'ova/check-unlisted': (d) => `'${d.name}' has no digest in the manifest`,
  'ova/check-gone': (d) => `The manifest has a digest of '${d.name}', which is not in the package`,
  'ova/check-size': (d) => `'${d.name}' has ${d.found} bytes, the descriptor says ${d.expected}`,
  'ova/check-capacity': (d) => `Disk '${d.name}' has ${d.found} bytes, the descriptor says ${d.expected}`,
  'ova/check-disk': (d) => `Disk '${d.name}' cannot be opened: ${d.reason}`,
  'ova/check-name': (d) => `The archive has an entry '${d.name}', which an unpacker might put outside of its folder`,
  'ova/check-order': (d) => `The first file of the archive must be the descriptor '${d.name}'`,

  // writing
  'ova/in-place':
    'The disks of a package are only read: digests and sizes would not fit any more. Convert the disk, or convert to a new package',
  'create/only-converted': 'A package is written in one go together with its content: use convert -O ova',
  'ova/option': (d) => `Parameter '${d.name}' does not accept value '${d.found}'`,
  'ova/descriptor-room': 'The descriptor does not fit into the room that was kept for it',
} as const satisfies Record<string, Sentence>;
