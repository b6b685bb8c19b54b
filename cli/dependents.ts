// Verbs that change what images above would see ask the user's catalogue first: `--force`, an option that they share.
import fs from 'node:fs';
import { cataloguePath } from '../core/catalogue/location.ts';
import type { CommandSpec, OptionSpec } from './args.ts';
import { actsAsQemuImg } from './level.ts';

const forceOption: OptionSpec = {
  long: ['force'],
  meaning: 'change the image although others are known to read through it',
};

let forced = false;

/** The command with the option; some have one of their own with more to it. */
export function withForce(spec: CommandSpec): CommandSpec {
  if (spec.changesInPlace !== true || 'force' in spec.options) return spec;
  return { ...spec, options: { ...spec.options, force: forceOption } };
}

/** From now on nobody is asked. */
export function askNobody(): void {
  forced = true;
}

/** Whom a verb is to ask, as operations want it. */
export interface ChosenDependents {
  /** Absent: nobody; there is no catalogue, or we stand in for qemu-img, which has none. */
  readonly dependents?: (path: string) => readonly string[];
  readonly force: boolean;
}

/** What was said of it. The catalogue's code is loaded only where there is a catalogue. */
export async function chosenDependents(): Promise<ChosenDependents> {
  const catalogue = cataloguePath();
  if (actsAsQemuImg || forced || !fs.existsSync(catalogue)) return { force: forced };
  const { askCatalogue } = await import('./known-dependents.ts');
  return { dependents: (path) => askCatalogue(catalogue, path), force: false };
}
