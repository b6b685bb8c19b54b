// What the fields for a new image hold: its format, the options of that format, where it goes.
import type { FormatFacts, OptionRow, Profile } from '../../core/workbench/contract.ts';
import { optionWords, secretWords } from '../text/command-line.ts';
import { messageOf } from '../text/message.svelte.ts';
import { sizeInput } from '../text/sizes.ts';
import { readForm, type FormOutcome } from '../ui/option-form.ts';
import { formatOf } from './catalogue.svelte.ts';

export class NewImage {
  format = $state('');
  /** Text of each option by its name. */
  texts = $state<Record<string, string>>({});
  /** What the person wrote; null: it follows the format and the source. */
  ownTarget = $state<string | null>(null);

  /** The platform that it is made for; null: none. */
  profile = $state<Profile | null>(null);

  constructor(format: string, target: string | null = null) {
    this.format = format;
    this.ownTarget = target;
  }

  get facts(): FormatFacts | null {
    return formatOf(this.format);
  }

  get label(): string {
    return messageOf(`format.${this.format}`) ?? this.facts?.label ?? this.format;
  }

  /** The usual ending of its files, without the dot. */
  get ending(): string {
    return this.profile?.target.extension ?? this.facts?.extensions[0] ?? this.format;
  }

  get rows(): readonly OptionRow[] {
    return this.facts?.options ?? [];
  }

  get outcome(): FormOutcome {
    return readForm(this.rows, this.texts);
  }

  /** All options can be read. */
  get sound(): boolean {
    return this.outcome.wrong.length === 0;
  }

  /** Words of the command line for the options, and for the passphrase that they name. */
  get words(): string[] {
    const { options, secrets } = this.outcome;
    return [...secretWords(secrets), ...optionWords(options)];
  }

  /** Another format has other options. */
  choose(format: string, texts: Readonly<Record<string, string>> = {}): void {
    this.format = format;
    this.texts = { ...texts };
    this.profile = null;
  }

  /** Its format and options, which can be changed afterwards as far as the platform takes that. */
  chooseFor(profile: Profile | null): void {
    if (profile === null) {
      this.profile = null;
      return;
    }
    const { format, options } = profile.target;
    const rows = formatOf(format)?.options ?? [];
    const texts = Object.entries(options).map(([name, value]) => {
      const isSize = rows.find((row) => row.name === name)?.type === 'size';
      const text =
        typeof value === 'boolean' ? (value ? 'on' : 'off') : isSize ? sizeInput(Number(value)) : String(value);
      return [name, text] as const;
    });
    this.choose(format, Object.fromEntries(texts));
    this.profile = profile;
  }
}
