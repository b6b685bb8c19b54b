// convert for a platform: which one is meant, and what a dry run says of it.
import { alignUp } from '../core/block/units.ts';
import { silentJob } from '../core/job.ts';
import type { ConvertParams } from '../core/operations/convert.ts';
import { info } from '../core/operations/info.ts';
import { chooseFor } from '../core/profiles/plan.ts';
import type { Profile } from '../core/profiles/profile.ts';
import { profileNamed } from '../core/profiles/profiles.ts';
import type { Arguments } from './args.ts';
import { CommandError, outLine } from './print.ts';
import { humanSize } from './size.ts';

/** Options that put the target over another image. */
const layers = ['backing', 'backingShort', 'backingFormat'] as const;

/** `--profile`; null: none was named. Throws `CommandError` where it makes no sense, `profile/unknown`. */
export function chosenProfile(args: Arguments<'profile' | 'noCreate' | (typeof layers)[number]>): Profile | null {
  const name = args.last('profile');
  if (name === null) return null;
  if (args.has('noCreate')) throw new CommandError('--profile makes a new image; -n writes over an existing one');
  if (layers.some((key) => args.has(key))) throw new CommandError('--profile makes an image that stands alone');
  return profileNamed(name);
}

/** Prints what a convert would do; the exit code. */
export async function dryRunOfConvert(
  given: ConvertParams,
  profile: Profile | null,
  format: string | null,
): Promise<number> {
  const params = profile === null ? given : { ...given, ...(await chosenFor(profile, given, format)) };
  for (const source of params.sources) outLine(`read      ${source.path}`);
  if (params.snapshot !== null) outLine(`snapshot  ${params.snapshot}`);
  outLine(`write     ${params.target} (${params.existing === null ? `new, ${params.format}` : 'over what is there'})`);
  if (params.backing !== null) outLine(`over      ${params.backing.path} (${params.backing.format})`);
  for (const [name, value] of Object.entries(params.options)) outLine(`option    ${name}=${String(value)}`);
  if ((params.archivedAs ?? null) !== null) outLine(`archive   ${params.archivedAs} in a gzipped tar`);
  if (params.rate > 0) outLine(`limit     ${humanSize(params.rate)} per second`);
  return 0;
}

/** What the profile makes of the sources as they are. */
async function chosenFor(profile: Profile, { sources, options }: ConvertParams, format: string | null) {
  let length = 0;
  for (const source of sources) {
    const [image] = await info({ path: source.path, options: source.options, chain: false }, silentJob);
    length += alignUp(image?.virtualSize ?? 0, 512);
  }
  return chooseFor(profile, length, { format, options });
}
