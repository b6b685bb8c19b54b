// How a window names an image to a job: plain data, checked at the boundary, turned into the options that the engine opens with.
import * as v from 'valibot';
import type { SecretSource } from '../../block/crypto/secret.ts';
import { followAll, followFiles, followNothing, followSameFolder, type GatePolicy } from '../../formats/gate.ts';
import type { OpenOptions } from '../../formats/open.ts';
import { fenced, type Fence } from '../fence.ts';

/** What an image may pull in: nothing, files in its folder, what qemu-img follows, everything. */
export const trust = v.picklist(['nothing', 'folder', 'files', 'everything']);

/** A path without the byte that ends names in C. */
export const filePath = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(4096),
  v.check((text) => !text.includes('\0'), 'a path cannot hold a zero byte'),
);

export const imageArgument = v.strictObject({
  path: filePath,
  /** Null: the content decides. */
  format: v.nullable(v.string()),
  trust,
  /** Name of the passphrase handed over beside the parameters; null: it needs none. */
  secret: v.nullable(v.string()),
});
export type ImageArgument = v.InferOutput<typeof imageArgument>;

/** Values of creation options. */
export const optionValues = v.record(v.string(), v.union([v.string(), v.number(), v.boolean()]));

export const byteCount = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const policies: Readonly<Record<v.InferOutput<typeof trust>, GatePolicy>> = {
  nothing: followNothing,
  folder: followSameFolder,
  files: followFiles,
  everything: followAll,
};

export function policyOf(image: Pick<ImageArgument, 'trust'>, fence: Fence): GatePolicy {
  return fenced(policies[image.trust], fence);
}

/** What surrounds an image that is named: passphrases by name, and how far its references may reach. */
export interface Surroundings {
  readonly secrets: Readonly<Record<string, string>>;
  readonly fence: Fence;
}

/** The options to open `image` with. */
export function optionsOf(image: ImageArgument, { secrets, fence }: Surroundings): OpenOptions {
  return { format: image.format, policy: policyOf(image, fence), secret: secretsOf(secrets, image.secret) };
}

/** Answers with the passphrase that an image asks for by name, or with that called `fallback` where it names none. */
export function secretsOf(secrets: Readonly<Record<string, string>>, fallback: string | null): SecretSource {
  return ({ id }) => {
    const name = id ?? fallback;
    const text = name === null ? undefined : secrets[name];
    return text === undefined ? null : new TextEncoder().encode(text);
  };
}
