// New and old passphrases of a LUKS header, under QEMU's rules: never the last one away, never one over another.
import { ImageError, type Where } from '../../../errors/image-error.ts';
import type { HeaderPlace, LuksHeader } from './header.ts';
import { activeSlots, eraseSlot, fillSlot, openAnySlot, openSlot } from './key-slots.ts';
import { usualIterTime } from './create.ts';
import { slotCount, slotState } from './spec.ts';

/** What `amend` does to key slots. Numbers of slots are 0…7; passphrases have been asked for already. */
export interface KeyAmendment {
  /** `active`: a slot for `newPassphrase`; `inactive`: slots are erased. */
  readonly state: 'active' | 'inactive';
  /** Null: a free slot for `active`; the slots that `oldPassphrase` opens for `inactive`. */
  readonly slot: number | null;
  readonly newPassphrase: Uint8Array | null;
  readonly oldPassphrase: Uint8Array | null;
  /** Milliseconds of PBKDF2; null: two seconds. */
  readonly iterTime: number | null;
  /** Overwrite an active slot, erase the last one. */
  readonly force: boolean;
}

/**
 * Adds or erases. `passphrase` opens the header now. Gives the numbers of the slots that changed. Throws `luks/amend-*` with QEMU's
 * sentences, `crypto/password`, `crypto/iterations`, `storage/*`.
 */
export function amendKeys(
  place: HeaderPlace,
  header: LuksHeader,
  passphrase: Uint8Array,
  amendment: KeyAmendment,
): number[] {
  const where: Where = { file: place.storage.name, offset: place.base };
  const { slot } = amendment;
  if (slot !== null && !(Number.isInteger(slot) && slot >= 0 && slot < slotCount)) {
    if (amendment.state === 'inactive' || amendment.newPassphrase !== null) {
      throw new ImageError('luks/amend-slot', { slot, last: slotCount - 1 }, where);
    }
  }
  return amendment.state === 'active'
    ? [addKey(place, header, passphrase, amendment, where)]
    : eraseKeys(place, header, amendment, where);
}

function addKey(
  place: HeaderPlace,
  header: LuksHeader,
  passphrase: Uint8Array,
  { newPassphrase, oldPassphrase, slot, force, iterTime }: KeyAmendment,
  where: Where,
): number {
  if (newPassphrase === null) throw new ImageError('luks/amend-new-missing', {}, where);
  if (oldPassphrase !== null) throw new ImageError('luks/amend-old-given', {}, where);
  const free = header.slots.findIndex((entry) => entry.active !== slotState.enabled);
  const chosen = slot ?? free;
  if (chosen < 0) throw new ImageError('luks/amend-full', {}, where);
  if (slot !== null && !force && header.slots[slot]?.active === slotState.enabled) {
    throw new ImageError('luks/amend-active', { slot }, where);
  }
  const masterKey = openAnySlot(place, header, passphrase);
  fillSlot(place, header, chosen, masterKey, newPassphrase, iterTime ?? usualIterTime);
  masterKey.fill(0);
  return chosen;
}

function eraseKeys(
  place: HeaderPlace,
  header: LuksHeader,
  { newPassphrase, oldPassphrase, slot, force }: KeyAmendment,
  where: Where,
): number[] {
  if (newPassphrase !== null) throw new ImageError('luks/amend-new-given', {}, where);
  const active = activeSlots(header);
  const opens = (candidate: number): boolean => {
    const key = oldPassphrase === null ? null : openSlot(place, header, candidate, oldPassphrase);
    key?.fill(0);
    return key !== null;
  };
  let doomed: number[];
  if (slot !== null) {
    if (oldPassphrase !== null && !opens(slot)) throw new ImageError('luks/amend-slot-other', { slot }, where);
    if (!force && !active.includes(slot)) throw new ImageError('luks/amend-inactive', { slot }, where);
    if (!force && active.length === 1) throw new ImageError('luks/amend-last', { slot }, where);
    doomed = [slot];
  } else {
    if (oldPassphrase === null) throw new ImageError('luks/amend-which', {}, where);
    doomed = active.filter(opens);
    if (doomed.length === 0) throw new ImageError('luks/amend-no-match', {}, where);
    if (!force && doomed.length === active.length) throw new ImageError('luks/amend-all', {}, where);
  }
  for (const one of doomed) eraseSlot(place, header, one);
  return doomed;
}

/**
 * Puts a new passphrase in the place of an old one: the new one gets a free slot first, then every slot that the old one opens is
 * erased, so that a power cut leaves at least one of both. Gives the new slot's number. Throws what `amendKeys` throws.
 */
export function changeKey(
  place: HeaderPlace,
  header: LuksHeader,
  oldPassphrase: Uint8Array,
  newPassphrase: Uint8Array,
  iterTime: number | null,
): number {
  const before = activeSlots(header).filter((slot) => openSlot(place, header, slot, oldPassphrase) !== null);
  const request = { slot: null, oldPassphrase: null, iterTime, force: false };
  const [added = -1] = amendKeys(place, header, oldPassphrase, { ...request, state: 'active', newPassphrase });
  for (const slot of before) eraseSlot(place, header, slot);
  return added;
}
