// amend: other options for an image that is there.
import { ImageError } from '../errors/image-error.ts';
import type { OptionValue } from '../formats/driver.ts';
import type { OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { changeInPlace, type InPlaceOptions } from './in-place.ts';

export interface AmendParams {
  readonly path: string;
  /** `secret` also hands out the passphrases that the options name. */
  readonly options: OpenOptions;
  /** What is to change, by the names of the format's `amendOptions`. */
  readonly values: Readonly<Record<string, OptionValue>>;
  /** Also what may lose data for good, and images that others are known to read through. */
  readonly force: boolean;
  readonly dependents?: InPlaceOptions['dependents'];
  /** What comes before a lower version is done even if that is refused then, as qemu-img does. */
  readonly inOrder?: boolean | undefined;
}

export interface AmendResult {
  readonly format: string;
}

/**
 * Changes options in place. Throws what opening throws, `amend/unsupported` for a format that has nothing to amend, `amend/*`,
 * `luks/amend-*`, `crypto/*` and the format's codes.
 */
export async function amend(params: AmendParams, job: Job): Promise<AmendResult> {
  const { path, options, values, force, dependents, inOrder = false } = params;
  let refused: ImageError | null = null;
  const { runtime = {}, secret } = options;
  // A key slot that is erased must not live on in a journal.
  const open: OpenOptions = changesKeys(values) ? { ...options, undo: 'none' } : options;
  const description = `amend ${Object.keys(values).join(', ')}`;
  const result = await changeInPlace(
    path,
    { verb: 'amend', open, force, dependents, description },
    ({ node, driver }) => {
      if (driver.amend === undefined) throw new ImageError('amend/unsupported', { format: driver.id }, { file: path });
      const openedWith = runtime['encrypt.key-secret'] ?? runtime['key-secret'] ?? null;
      try {
        driver.amend(node, { options: values, force, openedWith, secret, inOrder }, job);
      } catch (error) {
        if (!inOrder || !(error instanceof ImageError) || !error.code.startsWith('amend/downgrade')) throw error;
        refused = error;
      }
      return { format: driver.id };
    },
  );
  if (refused !== null) throw refused as ImageError;
  return result;
}

function changesKeys(values: AmendParams['values']): boolean {
  return values.state !== undefined || values['encrypt.state'] !== undefined;
}
