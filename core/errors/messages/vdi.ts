// Codes and sentences of vdi.
import type { Sentence } from '../sentence.ts';

export const vdiMessages = {
  'vdi/signature': (d) => `Image not in VDI format (bad signature ${d.found})`,
  'vdi/version': (d) => `unsupported VDI image (version ${d.found})`,
  'vdi/header-size': (d) => `unsupported VDI image (header size ${d.found}, at least ${d.allowed} are needed)`,
  'vdi/type': (d) => `unsupported VDI image (image type ${d.found})`,
  'vdi/sector-size': (d) => `unsupported VDI image (sector size ${d.found} is not 512)`,
  'vdi/block-size': (d) => `unsupported VDI image (block size ${d.found} is not a power of two of 512 bytes at least)`,
  'vdi/blocks': (d) => `unsupported VDI image (too many blocks ${d.found}, max is ${d.allowed})`,
  'vdi/disk-size': (d) => `unsupported VDI image (disk size ${d.found}, image bitmap has room for ${d.allowed})`,
  'vdi/too-large': (d) => `Unsupported VDI image size (size is ${d.found}, max supported is ${d.allowed})`,
  'vdi/map-place': (d) =>
    `The block map (${d.length} bytes at ${d.found}) does not lie between the header and the end of the file: ${d.allowed}`,
  'vdi/data-place': (d) => `The data begin at ${d.found}, inside of the block map that ends at ${d.allowed}`,
  'vdi/truncated': (d) => `Block ${d.block} would end at ${d.found}; the file ends at ${d.allowed}`,
  'vdi/full': (d) => `A VDI file holds at most ${d.allowed} blocks`,
  'vdi/old-version': (d) => `An image of VDI version ${d.found} cannot be ${d.what}`,
  'vdi/parent-missing': (d) =>
    `The parent disk ${d.uuid} is not in the folder of the image; without it this differencing disk cannot be read`,
  'vdi/parent-changed': (d) =>
    `The parent disk '${d.name}' has changed: its modification UUID is ${d.found}; this differencing disk belongs to ${d.expected}`,
  'vdi/parent-other': (d) =>
    `The parent disk '${d.name}' is ${d.found}; this differencing disk belongs to ${d.expected}`,
  'vdi/parent-format': (d) => `The parent of a differencing VDI must be a VDI; '${d.name}' is ${d.found}`,
  'vdi/parent-place': (d) =>
    `A VDI knows its parent by UUID only: '${d.name}' must lie in the folder of the image, to be found there`,
} as const satisfies Record<string, Sentence>;
