// The creation options of qcow, in the order of the line that create prints.
import type { OptionRow } from '../driver.ts';

export const qcowOptions: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image', shown: 'given' },
  { name: 'backing_fmt', type: 'string', meaning: 'Format of the backing image', shown: 'given' },
  {
    name: 'encryption',
    type: 'bool',
    meaning: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    shown: 'given',
  },
  { name: 'encrypt.format', type: 'string', meaning: "Encrypt the image, format choices: 'aes'", shown: 'given' },
  {
    name: 'encrypt.key-secret',
    type: 'string',
    meaning: 'ID of the secret that provides the AES encryption key',
    shown: 'given',
  },
];
