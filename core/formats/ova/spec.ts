// On-disk facts of OVA: the header of tar (POSIX.1 ustar, with what GNU tar adds), and the names that OVF 1.x gives to things (DSP0243).
import { field, struct, type ValuesOf } from '../../bytes/struct.ts';
import { ascii, bytes } from '../../bytes/types.ts';

export const blockSize = 512;

/** POSIX.1-2017, pax, "ustar Interchange Format". Numbers are octal digits; a set top bit of the first byte means base 256 (GNU). */
export const tarHeader = struct(
  { name: 'tar header', path: 'tar', section: 'POSIX ustar: Header Block' },
  'big',
  blockSize,
  {
    name: field(0, ascii(100), 'name of the file, or its end where prefix is used'),
    mode: field(100, ascii(8), 'permissions'),
    uid: field(108, ascii(8), 'user number'),
    gid: field(116, ascii(8), 'group number'),
    size: field(124, bytes(12), 'bytes of the file that follow'),
    mtime: field(136, ascii(12), 'seconds since 1970'),
    chksum: field(148, ascii(8), 'sum of the bytes of the header, with blanks in this field'),
    typeflag: field(156, ascii(1), 'what kind of entry this is'),
    linkname: field(157, ascii(100), 'where a link leads'),
    magic: field(257, ascii(6), "'ustar'"),
    version: field(263, ascii(2), "'00'"),
    uname: field(265, ascii(32), 'user'),
    gname: field(297, ascii(32), 'group'),
    devmajor: field(329, ascii(8), 'major number of a device'),
    devminor: field(337, ascii(8), 'minor number of a device'),
    prefix: field(345, ascii(155), 'what stands before the name, with a slash between'),
    pad: field(500, bytes(12), 'unused'),
  },
);
export type TarHeader = ValuesOf<typeof tarHeader>;

/** Where `chksum` stands in the header. */
export const checksumPlace = { offset: 148, length: 8 } as const;

/** Values of `typeflag`. */
export const tarType = {
  file: '0',
  oldFile: '',
  contiguous: '7',
  folder: '5',
  pax: 'x',
  paxGlobal: 'g',
  gnuLongName: 'L',
  gnuLongLink: 'K',
  gnuSparse: 'S',
} as const;

/** What an octal size field can say: eleven digits. */
export const largestOctalSize = 0o77777777777;

/** Limits of ours, far beyond real packages. */
export const limits = {
  headers: 16_384,
  entries: 4096,
  /** Bytes of a pax header or of a long name. */
  metadata: 64 * 1024,
  /** Bytes of a descriptor and of a manifest. */
  descriptor: 8 * 1024 * 1024,
  manifest: 1024 * 1024,
  /** Nesting of elements. */
  depth: 100,
  files: 4096,
  disks: 256,
  systems: 1024,
  chunks: 9999,
} as const;

export const envelopeNamespace = 'http://schemas.dmtf.org/ovf/envelope/1';
export const rasdNamespace = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData';
export const vssdNamespace = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData';
export const vmwareNamespace = 'http://www.vmware.com/schema/ovf';

/** The format of a streamOptimized VMDK, as VMware and VirtualBox name it. */
export const streamOptimizedUri = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized';

/** What a format URI says of the file: the first that occurs in it. A URI without any of them says nothing that is known. */
export const formatWords: readonly (readonly [word: string, format: string])[] = [
  ['vmdk', 'vmdk'],
  ['vhdx', 'vhdx'],
  ['vhd', 'vpc'],
  ['bb676673', 'vpc'],
  ['vdi', 'vdi'],
  ['qcow', 'qcow2'],
];

/** Digests that a manifest may use, by the name it gives them, with what Node calls them and their hexadecimal digits. */
export const digestNames: Readonly<Record<string, { readonly hash: string; readonly digits: number }>> = {
  MD5: { hash: 'md5', digits: 32 },
  SHA1: { hash: 'sha1', digits: 40 },
  SHA256: { hash: 'sha256', digits: 64 },
  SHA384: { hash: 'sha384', digits: 96 },
  SHA512: { hash: 'sha512', digits: 128 },
};
