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
  const { path, options, values, force, inOrder = false } = params;
  let refused: ImageError | null = null;
  const { runtime = {}, secret } = options;
  const open = howToOpen(options, values);
  // Whoever reads through it reads the same, whatever opens it; consent is then asked for the last key slot only.
  const dependents = changesKeysOnly(values) ? undefined : params.dependents;
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

/** A key slot that is erased must not live on in a journal. Who changes only slots needs no layer below, nor its passphrase. */
function howToOpen(options: OpenOptions, values: AmendParams['values']): OpenOptions {
  const open: OpenOptions = changesKeys(values) ? { ...options, undo: 'none' } : options;
  return changesKeysOnly(values) && options.backing === undefined ? { ...open, withBacking: false } : open;
}

function changesKeys(values: AmendParams['values']): boolean {
  return values.state !== undefined || values['encrypt.state'] !== undefined;
}

/** Options that leave the guest's disk as it is. */
const aboutKeys = /^(encrypt\.)?(state|keyslot|old-secret|new-secret|iter-time)$/;

/** Whether nothing is to change but who can open the image. */
export function changesKeysOnly(values: AmendParams['values']): boolean {
  return changesKeys(values) && Object.keys(values).every((name) => aboutKeys.test(name));
}
