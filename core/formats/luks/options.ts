// The creation options of LUKS in the order of the line that create prints.
import type { OptionRow } from '../driver.ts';

const given = { shown: 'given' } as const;

export const luksOptions: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
  {
    name: 'key-secret',
    type: 'string',
    meaning: 'ID of the secret that provides the keyslot passphrase',
    ...given,
  },
  { name: 'cipher-alg', type: 'string', meaning: 'Name of encryption cipher algorithm', ...given },
  { name: 'cipher-mode', type: 'string', meaning: 'Name of encryption cipher mode', ...given },
  { name: 'ivgen-alg', type: 'string', meaning: 'Name of IV generator algorithm', ...given },
  { name: 'ivgen-hash-alg', type: 'string', meaning: 'Name of IV generator hash algorithm', ...given },
  { name: 'hash-alg', type: 'string', meaning: 'Name of encryption hash algorithm', ...given },
  {
    name: 'iter-time',
    type: 'number',
    meaning: 'Time to spend in PBKDF in milliseconds',
    amendable: true,
    ...given,
  },
];
