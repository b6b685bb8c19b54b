// The creation options of LUKS: their rows in the order of the line that create prints, and what a header is made with.
import type { AlgorithmChoice } from '../../block/crypto/luks/algorithms.ts';
import type { OptionRow, OptionValue } from '../driver.ts';

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

/** The names of the algorithms that creation options give. */
export function algorithmChoice(options: Readonly<Record<string, OptionValue>>): AlgorithmChoice {
  const text = (name: string): string | null => (options[name] === undefined ? null : String(options[name]));
  return {
    cipher: text('cipher-alg'),
    mode: text('cipher-mode'),
    generator: text('ivgen-alg'),
    generatorHash: text('ivgen-hash-alg'),
    hash: text('hash-alg'),
  };
}

/** Milliseconds of `iter-time`; null: not given. */
export function iterTimeOf(options: Readonly<Record<string, OptionValue>>): number | null {
  return typeof options['iter-time'] === 'number' ? options['iter-time'] : null;
}
