// Codes and sentences of vhdx.
import type { Sentence } from '../sentence.ts';

export const vhdxMessages = {
  // opening
  'vhdx/not-vhdx': 'Image not in VHDX format',
  'vhdx/no-header': 'No valid VHDX header found',
  'vhdx/version': (d) => `Unsupported VHDX version: ${d.found}`,
  'vhdx/log-version': (d) => `The log has version ${d.found}; only version 0 is known`,
  'vhdx/log-place': (d) => `The log (${d.length} bytes at ${d.offset}) ${d.reason}`,
  'vhdx/log-truncated': (d) =>
    `The log says that the file was ${d.expected} bytes long, and it is ${d.found}: it has been truncated`,
  'vhdx/log-outside': (d) => `The log writes to ${d.offset}, beyond the end of the file that it describes (${d.size})`,
  'vhdx/log-too-full': (d) => `The log changes ${d.found} sectors; at most ${d.allowed} are held in memory`,
  'vhdx/region-table': 'Neither copy of the region table is valid',
  'vhdx/region-place': (d) => `Region ${d.name} (${d.length} bytes at ${d.offset}) ${d.reason}`,
  'vhdx/region-overlap': (d) => `VHDX region ${d.first} overlaps with region ${d.second}`,
  'vhdx/region-twice': (d) => `Region ${d.name} stands in the region table twice`,
  'vhdx/region-unknown': (d) => `The image needs a region that is not known here: {${d.guid}}`,
  'vhdx/region-missing': (d) => `The region table has no region ${d.name}`,
  'vhdx/metadata-table': 'The metadata region does not begin with a metadata table',
  'vhdx/item-place': (d) => `Metadata item ${d.name} (${d.length} bytes at ${d.offset} of its region) ${d.reason}`,
  'vhdx/item-twice': (d) => `Metadata item ${d.name} stands in the metadata table twice`,
  'vhdx/item-unknown': (d) => `The image needs a metadata item that is not known here: {${d.guid}}`,
  'vhdx/item-missing': (d) => `Metadata item ${d.name} is missing`,
  'vhdx/incomplete': 'The program that made this image has not ended its work on it (incomplete file)',
  'vhdx/block-size': (d) => `Block size ${d.found} is not a power of two between 1 MB and 256 MB`,
  'vhdx/virtual-size': (d) => `Virtual size ${d.found} is beyond the 64 TB of the format`,
  'vhdx/virtual-size-sectors': (d) => `Virtual size ${d.size} is not a multiple of the sector size ${d.sector}`,
  'vhdx/sector-size': (d) => `Sector size ${d.found} is neither 512 nor 4096`,
  'vhdx/bat-short': (d) => `The BAT region of ${d.length} bytes is too short for the ${d.entries} entries of this disk`,

  // blocks
  'vhdx/block-state': (d) => `VHDX BAT entry ${d.entry} has the state ${d.found}, which ${d.reason}`,
  'vhdx/block-outside': (d) =>
    `VHDX BAT entry ${d.entry} start offset ${d.offset} points after end of file (${d.size}). Image has probably been truncated.`,
  'vhdx/block-cut': (d) =>
    `VHDX BAT entry ${d.entry} end offset ${d.end} points after end of file (${d.size}). Image has probably been truncated.`,
  'vhdx/block-overlap': (d) => `VHDX BAT entry ${d.entry} (offset ${d.offset}) lies over ${d.over}`,
  'vhdx/bitmap-missing': (d) =>
    `Block ${d.block} is partially present, and the sector bitmap of its chunk is not there`,

  // the layer below
  'vhdx/locator': (d) => `The parent locator is damaged: ${d.reason}`,
  'vhdx/locator-type': (d) => `Parents of the type {${d.guid}} are not known here`,
  'vhdx/parent-missing': (d) =>
    `The parent of this differencing disk was not found: a VHDX with DataWriteGuid {${d.identity}}, last seen as '${d.name}'${d.reason}`,
  'vhdx/parent-changed': (d) =>
    `The parent '${d.name}' is not what this differencing disk was made on: its DataWriteGuid is {${d.found}}, expected is {${d.identity}}`,
  'vhdx/parent-format': (d) => `The parent of a VHDX is a VHDX; '${d.name}' is ${d.format}`,
  'vhdx/parent-closed': 'The identity of the parent is needed, and it cannot be opened here',
  'vhdx/partial-no-parent': (d) => `Block ${d.block} is partially present in a disk that has no parent`,

  // creating and changing
  'vhdx/size-too-large': 'Image size too large; max of 64TB',
  'vhdx/log-size-large': 'Log size must be smaller than 4 GB',
  'vhdx/log-size-unit': 'Log size must be a multiple of 1 MB',
  'vhdx/block-size-power': 'Block size must be a power of two',
  'vhdx/subformat': (d) => `Parameter 'subformat' does not accept value '${d.found}'`,
  'vhdx/fixed-parent': 'A fixed disk cannot be a differencing disk',
  'vhdx/zero-parent': 'Blocks of the state zero would hide the parent: block_state_zero is not for differencing disks',
  'vhdx/no-log': 'The image has no log, so its tables cannot be changed safely',
  'vhdx/sequence-end': 'The sequence number of the header cannot be raised any further',
  'vhdx/no-room': (d) => `The metadata region has no room for ${d.what}`,
} as const satisfies Record<string, Sentence>;
