// Codes and sentences of encryption: passphrases and ciphers (crypto/…), LUKS headers and their key slots (luks/…).
import type { Sentence } from '../sentence.ts';

export const luksMessages = {
  // passphrases and ciphers, whatever the format
  'crypto/secret-required': (d) => `Parameter '${d.parameter}' is required for cipher`,
  'crypto/no-secret': (d) => `No secret with id '${d.id}'`,
  'crypto/secret-text': (d) => `Data from secret ${d.id} is not valid UTF-8`,
  'crypto/password': 'Invalid password, cannot unlock any keyslot',
  'crypto/locked': 'The image is encrypted and was opened without its passphrase',
  'crypto/iterations': (d) => `${d.found} rounds of PBKDF2 are more than the ${d.allowed} that are done here`,
  'crypto/key-size': (d) => `There is no ${d.cipher} with a key of ${d.found} bytes`,
  'crypto/essiv-hash': 'Missing IV generator hash specification',
  'crypto/essiv-key': (d) => `No AES cipher with key size ${d.found} available`,

  // the header
  'luks/magic': 'Volume is not in LUKS format',
  'luks/version': (d) => `LUKS version ${Number.parseInt(String(d.found), 10)} is not supported`,
  'luks/unended': (d) => `LUKS header ${d.name} is not NUL terminated`,
  'luks/payload-early': 'LUKS payload is overlapping with the header',
  'luks/no-iterations': 'LUKS key iteration count is zero',
  'luks/slot-state': (d) => `Keyslot ${d.slot} state (active/disable) is corrupted`,
  'luks/slot-iterations': (d) => `Keyslot ${d.slot} iteration count is zero`,
  'luks/slot-stripes': (d) => `Keyslot ${d.slot} is corrupted (stripes ${d.found} != ${d.allowed})`,
  'luks/slot-early': (d) => `Keyslot ${d.slot} is overlapping with the LUKS header`,
  'luks/slot-late': (d) => `Keyslot ${d.slot} is overlapping with the encrypted payload`,
  'luks/slots-overlap': (d) => `Keyslots ${d.slot} and ${d.other} are overlapping in the header`,
  'luks/mode-format': (d) => `Unexpected cipher mode string format '${d.found}'`,
  'luks/mode': (d) => `Cipher mode '${d.found}' not supported`,
  'luks/generator': (d) => `IV generator '${d.found}' not supported`,
  'luks/hash': (d) => `Hash algorithm '${d.found}' not supported`,
  'luks/cipher': (d) => `Algorithm '${d.cipher}' with key size ${d.found} bytes not supported`,
  'luks/cipher-missing': (d) => `The cipher '${d.cipher}' is not available here; AES is`,
  'luks/hash-missing': (d) => `The hash '${d.hash}' is not available here`,
  'luks/short': (d) => `The file ends at ${d.found}, before the encrypted disk at ${d.needed}`,

  // what was asked for a new header
  'luks/choice': (d) => `Parameter '${d.parameter}' does not accept value '${d.found}'`,
  'luks/cipher-unknown': (d) => `Algorithm '${d.found}' not supported`,
  'luks/mode-cipher': (d) => `Unsupported cipher mode ${d.found}`,

  // new and old passphrases
  'luks/amend-slot': (d) => `Invalid keyslot ${d.slot} specified, must be between 0 and ${d.last}`,
  'luks/amend-new-missing': "'new-secret' is required to activate a keyslot",
  'luks/amend-old-given': "'old-secret' must not be given when activating keyslots",
  'luks/amend-new-given': "'new-secret' must not be given when erasing keyslots",
  'luks/amend-full': "Can't add a keyslot - all keyslots are in use",
  'luks/amend-active': (d) => `Refusing to overwrite active keyslot ${d.slot} - please erase it first`,
  'luks/amend-inactive': (d) => `Given keyslot ${d.slot} is already erased (inactive) `,
  'luks/amend-slot-other': (d) => `Given keyslot ${d.slot} doesn't contain the given old password for erase operation`,
  'luks/amend-which':
    'To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given',
  'luks/amend-no-match': 'No keyslots match given (old) password for erase operation',
  'luks/amend-last': (d) =>
    `Attempt to erase the only active keyslot ${d.slot} which will erase all the data in the image irreversibly - refusing operation`,
  'luks/amend-all':
    'All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation',
} as const satisfies Record<string, Sentence>;
