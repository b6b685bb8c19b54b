// Which files the images of this call may pull in: `--follow-all`, an option of every command that opens images.
import { followAll, type GatePolicy } from '../core/formats/gate.ts';
import type { CommandSpec, OptionSpec } from './args.ts';

const followAllOption: OptionSpec = {
  long: ['follow-all'],
  meaning:
    'open extents and data files that an image names wherever they are (default: in the folder of the image only, as anybody ' +
    'can write such a name into an image)',
};

let everywhere = false;

/** The command with the option that all share. */
export function withFollowAll(spec: CommandSpec): CommandSpec {
  return spec.opensImages === false ? spec : { ...spec, options: { ...spec.options, followAll: followAllOption } };
}

/** From now on the files that images name are opened wherever they are. */
export function followEverywhere(): void {
  everywhere = true;
}

/** What was said of it, as opening an image wants it. */
export function chosenPolicy(): { readonly policy?: GatePolicy } {
  return everywhere ? { policy: followAll } : {};
}
