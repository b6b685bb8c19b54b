// The creation options of qcow2, in the order of the line that create prints.
import type { OptionRow } from '../driver.ts';

const given = { shown: 'given' } as const;
const always = { shown: 'always' } as const;

export const qcow2Options: readonly OptionRow[] = [
  {
    name: 'encryption',
    type: 'bool',
    meaning: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    ...given,
  },
  { name: 'encrypt.format', type: 'string', meaning: "Encrypt the image, format choices: 'aes', 'luks'", ...given },
  {
    name: 'encrypt.key-secret',
    type: 'string',
    meaning: 'ID of secret providing qcow AES key or LUKS passphrase',
    ...given,
  },
  { name: 'encrypt.cipher-alg', type: 'string', meaning: 'Name of encryption cipher algorithm', ...given },
  { name: 'encrypt.cipher-mode', type: 'string', meaning: 'Name of encryption cipher mode', ...given },
  { name: 'encrypt.ivgen-alg', type: 'string', meaning: 'Name of IV generator algorithm', ...given },
  { name: 'encrypt.ivgen-hash-alg', type: 'string', meaning: 'Name of IV generator hash algorithm', ...given },
  { name: 'encrypt.hash-alg', type: 'string', meaning: 'Name of encryption hash algorithm', ...given },
  {
    name: 'encrypt.iter-time',
    type: 'number',
    meaning: 'Time to spend in PBKDF in milliseconds',
    amendable: true,
    ...given,
  },
  { name: 'cluster_size', type: 'size', meaning: 'qcow2 cluster size', default: 65536, ...always },
  { name: 'extended_l2', type: 'bool', meaning: 'Extended L2 tables', default: false, ...always },
  {
    name: 'preallocation',
    type: 'string',
    meaning: 'Preallocation mode (allowed values: off, metadata, falloc, full)',
    ...given,
  },
  {
    name: 'compression_type',
    type: 'string',
    meaning: 'Compression method used for image cluster compression',
    default: 'zlib',
    ...always,
  },
  { name: 'size', type: 'size', meaning: 'Virtual disk size', amendable: true, ...always },
  {
    name: 'compat',
    type: 'string',
    meaning: 'Compatibility level (v2 [0.10] or v3 [1.1])',
    amendable: true,
    ...given,
  },
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image', amendable: true, ...given },
  { name: 'backing_fmt', type: 'string', meaning: 'Image format of the base image', amendable: true, ...given },
  { name: 'data_file', type: 'string', meaning: 'File name of an external data file', amendable: true, ...given },
  {
    name: 'data_file_raw',
    type: 'bool',
    meaning: 'The external data file must stay valid as a raw image',
    amendable: true,
    ...given,
  },
  {
    name: 'lazy_refcounts',
    type: 'bool',
    meaning: 'Postpone refcount updates',
    default: false,
    amendable: true,
    ...always,
  },
  {
    name: 'refcount_bits',
    type: 'number',
    meaning: 'Width of a reference count entry in bits',
    default: 16,
    amendable: true,
    ...always,
  },
];
