// Codes and sentences of the operations.
import type { Sentence } from '../sentence.ts';

export const operationMessages = {
  'create/no-size': 'Image creation needs a size parameter',
  'create/no-backing': (d) => `Backing file not supported for file format '${d.format}'`,
  'create/no-backing-format': (d) => `Backing file format not supported for file format '${d.format}'`,
  'create/empty-backing': 'Expected backing file name, got empty string',
  'create/same-name': 'Error: Trying to create an image with the same filename as the backing file',
  'create/backing-format': (d) =>
    d.detected === ''
      ? 'Backing file specified without backing format'
      : `Backing file specified without backing format\nDetected format of ${d.detected}.`,
  'create/backing-unknown': (d) =>
    d.owner === 'qcow'
      ? `unrecognized backing format '${d.format}'`
      : `Parameter 'backing-fmt' does not accept value '${d.format}'`,
  'create/lonely-backing-format': 'Backing format cannot be used without backing file',
  'create/backing': (d) => `${d.reason}\nCould not open backing image.`,
  'check/repair-only': 'The image was opened to be repaired; its disk cannot be changed',
  'check/no-repair': (d) =>
    `There is nothing in ${d.format} images that could be repaired without guessing: what they say is said once, and nothing confirms it`,
  'create/value': (d) => `Parameter '${d.name}' does not accept value '${d.found}'`,
  'create/too-large': (d) => `The image size is too large for file format '${d.format}'${d.hint}`,
  'create/mode': (d) => `invalid parameter value: ${d.found}`,
  'create/preallocation': (d) => `Unsupported preallocation mode: ${d.found}`,
  'info/layer': (d) => `Could not open '${d.name}': ${d.reason}`,
  'check/unsupported': 'This image format does not support checks',
  'compare/open': (d) => `Could not open '${d.name}': ${d.reason}`,
  'compare/allocation': (d) => `Sector allocation test failed for ${d.name}`,
  'compare/read': (d) => `Error while reading offset ${d.offset} of ${d.name}: ${d.reason}`,
  'measure/too-large': (d) => `The image size is too large${d.hint}`,
  'measure/unsupported': (d) => `Block driver '${d.format}' does not support size measurement`,
  'measure/no-snapshots': (d) =>
    `Failed to load snapshot: Block format '${d.format}' used by device '' does not support temporarily loading internal snapshots`,
} as const satisfies Record<string, Sentence>;
