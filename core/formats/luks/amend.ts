// amend: key slots of a LUKS image, and nothing else.
import { amendKeysAsAsked } from '../../block/crypto/luks/amend-options.ts';
import type { AmendRequest, OptionRow } from '../driver.ts';
import type { LuksNode } from './node.ts';

const given = { shown: 'given' } as const;

export const luksAmendOptions: readonly OptionRow[] = [
  { name: 'state', type: 'string', meaning: 'Select new state of affected keyslots (active/inactive)', ...given },
  { name: 'keyslot', type: 'number', meaning: 'Select a single keyslot to modify explicitly', ...given },
  { name: 'old-secret', type: 'string', meaning: 'Select all keyslots that match this password', ...given },
  {
    name: 'new-secret',
    type: 'string',
    meaning: 'New secret to set in the matching keyslots. Empty string to erase',
    ...given,
  },
  { name: 'iter-time', type: 'number', meaning: 'Time to spend in PBKDF in milliseconds', ...given },
];

/** Fills or erases key slots. Throws `amend/key-*`, `luks/amend-*`, `crypto/*`, `storage/*`. */
export function amendLuks(node: LuksNode, request: AmendRequest): void {
  amendKeysAsAsked(node.place, node.header, { ...request, prefix: '', openedBy: 'key-secret' });
}
