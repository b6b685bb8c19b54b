// What the fields about passphrases of an image come to for `amend`, and which key slots its header has in use.
import type { OptionValues } from '../../text/command-line.ts';

export interface KeyFields {
  /** Leave them alone, add one, put a new one in place of one, or take one away. */
  work: 'keep' | 'add' | 'change' | 'remove';
  /** Opens the image now. */
  present: string;
  fresh: string;
  again: string;
  /** What goes: the number of a slot, or empty for whatever `old` opens. */
  slot: string;
  old: string;
}

/** One amendment. */
export interface KeyStep {
  readonly values: OptionValues;
  /** What opens the image for it. */
  readonly present: string;
  /** By the names that stand in `values`. */
  readonly secrets: Record<string, string>;
  readonly force: boolean;
  /** The same for a command, by name: the file that holds it. `now` opens the image. */
  readonly needs: Readonly<Record<string, string>>;
}

/** Slots that a LUKS header has. */
export const slotCount = 8;

const files = { now: 'PASSPHRASE-FILE', new: 'NEW-PASSPHRASE-FILE', old: 'OLD-PASSPHRASE-FILE' } as const;

/** `prefix` stands before the names of the options: `encrypt.` where the header is within another format. */
export function keySteps(
  prefix: string,
  { work, present, fresh, again, slot, old }: KeyFields,
  force: boolean,
): { readonly steps: readonly KeyStep[]; readonly ready: boolean } {
  const inactive = { [`${prefix}state`]: 'inactive' };
  const add: KeyStep = {
    values: { [`${prefix}state`]: 'active', [`${prefix}new-secret`]: 'new' },
    present,
    secrets: { new: fresh },
    force: false,
    needs: { now: files.now, new: files.new },
  };
  const twice = present !== '' && fresh !== '' && fresh === again;
  switch (work) {
    case 'keep':
      return { steps: [], ready: false };
    case 'add':
      return { steps: [add], ready: twice };
    case 'change': {
      const drop: KeyStep = {
        values: { ...inactive, [`${prefix}old-secret`]: 'old' },
        present: fresh,
        secrets: { old: present },
        force: false,
        needs: { now: files.new, old: files.now },
      };
      return { steps: [add, drop], ready: twice && fresh !== present };
    }
    case 'remove': {
      const bySlot = slot !== '';
      const values = bySlot
        ? { ...inactive, [`${prefix}keyslot`]: Number(slot) }
        : { ...inactive, [`${prefix}old-secret`]: 'old' };
      const needs = bySlot ? { now: files.now } : { now: files.now, old: files.old };
      const step: KeyStep = { values, present, secrets: bySlot ? {} : { old }, force, needs };
      return { steps: [step], ready: present !== '' && (bySlot || old !== '') };
    }
  }
}

/** Passphrases of a step as a command takes them: from files, never in the line itself. */
export function secretWords(needs: Readonly<Record<string, string>>, image: string): string[] {
  return Object.entries(needs).flatMap(([id, file]) => {
    const opens = id === 'now' ? `,image=${image.replaceAll(',', ',,')}` : '';
    return ['--object', `secret,id=${id}${opens},file=${file}`];
  });
}

/** What an image says of its slots. */
export interface SlotFacts {
  /** False: its encryption has no slots. */
  readonly any: boolean;
  /** Numbers of the slots in use. */
  readonly active: readonly number[];
}

/** Reads them from what the format tells. */
export function slotFacts(facts: unknown): SlotFacts {
  const slots = memberOf(memberOf(facts, 'encrypt') ?? facts, 'slots');
  if (!Array.isArray(slots)) return { any: false, active: [] };
  const active = slots.flatMap((slot: unknown, index) => (memberOf(slot, 'active') === true ? [index] : []));
  return { any: true, active };
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}
