// A convert for a platform: the profile decides on what was left open, and the result is held against its rules.
import type { FormatDriver, OptionValue } from '../formats/driver.ts';
import { followSameFolder } from '../formats/gate.ts';
import type { Job } from '../job.ts';
import { convert, type ConvertParams, type ConvertResult } from '../operations/convert.ts';
import { ImageError } from '../errors/image-error.ts';
import { readDiskFacts } from './disk-facts.ts';
import { chooseFor, planFor } from './plan.ts';
import type { Profile } from './profile.ts';
import { checkImage, type ProfileVerdict } from './verdict.ts';

/** A convert whose format and options the profile fills in where nothing was asked for. */
export interface ConvertForParams extends Omit<
  ConvertParams,
  'format' | 'options' | 'archivedAs' | 'choose' | 'gptAtEnd'
> {
  /** Null: the profile's. */
  readonly format: string | null;
  readonly options: Readonly<Record<string, OptionValue>>;
}

export interface ConvertForResult extends ConvertResult {
  /** What the platform would say of the result; null: it is an archive, which was made as the platform asks. */
  readonly verdict: ProfileVerdict | null;
}

/** Throws `profile/cannot-fit` before anything is made, and what `convert` and `chooseFor` throw. */
export async function convertFor(
  profile: Profile,
  params: ConvertForParams,
  job: Job,
  targetOpened?: (driver: FormatDriver) => void,
): Promise<ConvertForResult> {
  const { format, options } = params;
  await refuseHopeless(profile, params, job);
  const own = format === null || format === profile.target.format;
  const asked: ConvertParams = {
    ...params,
    format: format ?? profile.target.format,
    // The platform boots what it gets: firmware and installers ask for the backup at the end.
    gptAtEnd: true,
    choose: (length) => chooseFor(profile, length, { format, options }),
  };
  const result = await convert(asked, job, targetOpened);
  if (own && profile.target.archivedAs !== null) return { ...result, verdict: null };
  const { secret } = params;
  // The files of the result are ours, and stand side by side.
  const opening = { format: asked.format, policy: followSameFolder, ...(secret === undefined ? {} : { secret }) };
  const { verdicts } = await checkImage(params.target, opening, [profile], job);
  return { ...result, verdict: verdicts[0] ?? null };
}

/** What became of the backup GPT, in words; null: there was nothing to move. */
export function gptSentence({ gpt }: ConvertResult): string | null {
  if (gpt === null) return null;
  if (gpt.moved) return 'The disk is larger: its backup GPT was moved to the new end.';
  return `warning: The disk is larger, and its backup GPT does not stand at the end: ${gpt.reason ?? ''}. Have it moved in the guest (sgdisk -e).`;
}

/** What the guest holds goes into the result as it is: where that is the obstacle, hours of copying would be in vain. */
async function refuseHopeless(profile: Profile, { sources, snapshot }: ConvertForParams, job: Job): Promise<void> {
  const [source] = sources;
  if (source === undefined || sources.length > 1 || source.window !== undefined || snapshot !== null) return;
  const { obstacle } = planFor(profile, await readDiskFacts(source.path, source.options, job));
  if (obstacle !== null) throw new ImageError('profile/cannot-fit', { label: profile.label, reason: obstacle });
}
