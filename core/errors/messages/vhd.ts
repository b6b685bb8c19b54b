// Codes and sentences of vhd.
import type { Sentence } from '../sentence.ts';

export const vhdMessages = {
  'vhd/not-vhd': 'invalid VPC image',
  'vhd/too-small': 'File too small for a VHD header',
  'vhd/footer-checksum': 'Incorrect header checksum',
  'vhd/version': (d) => `VHD version ${d.found} is not known; ${d.allowed} is`,
  'vhd/type': (d) => `VHD disk type ${d.found} is not known`,
  'vhd/too-large': "The image size is too large for file format 'vpc'",
  'vhd/size': 'File too large',
  'vhd/fixed-short': (d) => `The fixed disk has ${d.size} bytes, the file holds only ${d.found} of them`,
  'vhd/header-place': 'Error reading dynamic VHD header',
  'vhd/header': 'Invalid header magic',
  'vhd/header-checksum': (d) => `The checksum of the dynamic disk header is ${d.found}, not ${d.allowed}`,
  'vhd/block-size': (d) => `Invalid block size ${d.found}`,
  'vhd/table-small': 'Page table too small',
  'vhd/table-place': 'Error reading pagetable',
  'vhd/table-large': (d) => `Max Table Entries too large (${d.found}); ${d.allowed} are handled`,
  'vhd/truncated': 'block-vpc: free_data_block_offset points after the end of file. The image has been truncated.',
  'vhd/full': (d) => `A VHD file cannot grow beyond ${d.allowed} bytes`,
  'vhd/parent-missing': (d) =>
    `The parent disk ${d.uniqueId} ('${d.name}') cannot be found; without it this differencing disk cannot be read`,
  'vhd/parent-changed': (d) =>
    `The parent disk '${d.name}' has the identity ${d.found}; this differencing disk belongs to ${d.expected}`,
  'vhd/parent-format': (d) => `The parent of a differencing VHD must be a VHD; '${d.name}' is ${d.found}`,
  'vhd/parent-size': (d) => `A differencing VHD has the size of its parent (${d.allowed} bytes), not ${d.found}`,
} as const satisfies Record<string, Sentence>;
