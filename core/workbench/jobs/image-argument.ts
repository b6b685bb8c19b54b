// How a window names an image to a job: plain data, checked at the boundary, turned into the options that the engine opens with.
import path from 'node:path';
import * as v from 'valibot';
import type { SecretSource } from '../../block/crypto/secret.ts';
import { identityOfName } from '../../block/host/opening.ts';
import { followAll, followFiles, followNothing, followSameFolder, type GatePolicy } from '../../formats/gate.ts';
import type { Finding } from '../../formats/driver.ts';
import type { OpenOptions } from '../../formats/open.ts';
import { fenced, type Fence } from '../fence.ts';
import { keptPolicy, type KeptGate } from '../kept-gate.ts';

/** What an image may pull in: what was decided (`kept-gate.ts`); or nothing, files in its folder, what qemu-img follows, everything. */
export const trust = v.optional(v.picklist(['policy', 'nothing', 'folder', 'files', 'everything']), 'policy');
type Trust = v.InferOutput<typeof trust>;

/** A path without the byte that ends names in C. */
export const filePath = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(4096),
  v.check((text) => !text.includes('\0'), 'a path cannot hold a zero byte'),
);

/** Files that images may pull in this once, after somebody was asked (`gate/ask`). */
export const allow = v.optional(v.pipe(v.array(filePath), v.maxLength(1000)), []);

export const imageArgument = v.strictObject({
  path: filePath,
  /** Null: the content decides. */
  format: v.nullable(v.string()),
  trust,
  allow,
  /** Name of the passphrase handed over beside the parameters for it and the layers below that have none of their own (`file:PATH`); null: none. */
  secret: v.nullable(v.string()),
});
export type ImageArgument = v.InferOutput<typeof imageArgument>;

/** Values of creation options. */
export const optionValues = v.record(v.string(), v.union([v.string(), v.number(), v.boolean()]));

export const byteCount = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const policies: Readonly<Record<Exclude<Trust, 'policy'>, GatePolicy>> = {
  nothing: followNothing,
  folder: followSameFolder,
  files: followFiles,
  everything: followAll,
};

/**
 * How far the references of `image` are followed. `named`: files that were named to the job besides, which need no question.
 */
export function policyOf(
  image: { readonly path?: string; readonly trust: Trust; readonly allow: readonly string[] },
  { gate, fence }: Pick<Surroundings, 'gate' | 'fence'>,
  named: readonly string[] = [],
): GatePolicy {
  const itself = image.path === undefined ? [] : [image.path];
  const policy =
    image.trust === 'policy' ? keptPolicy(gate, [...itself, ...named, ...image.allow]) : policies[image.trust];
  return fenced(policy, fence);
}

/** What surrounds an image that is named: passphrases by name, how far its references may reach, and what was decided about them. */
export interface Surroundings {
  readonly secrets: Readonly<Record<string, string>>;
  readonly fence: Fence;
  readonly gate: KeptGate;
  /** Hears what is mended in an image that its last writer did not close, when a job opens it to change it. */
  readonly log?: (text: string) => void;
}

/** The options to open `image` with; `named` as in `policyOf`. */
export function optionsOf(
  image: ImageArgument,
  surroundings: Surroundings,
  named: readonly string[] = [],
): OpenOptions {
  const { format, secret } = image;
  const { secrets, log } = surroundings;
  return {
    format,
    policy: policyOf(image, surroundings, named),
    secret: secretsOf(secrets, secret),
    ...(log === undefined ? {} : { tell: ({ text }: Finding) => log(text) }),
  };
}

/** Begins the name of a passphrase that is for one file of a chain; its path follows. */
const ofFile = 'file:';

/**
 * Answers with the passphrase that an image asks for by name; where it names none, with that for its file (`file:PATH`), or else with
 * that called `fallback`.
 */
export function secretsOf(secrets: Readonly<Record<string, string>>, fallback: string | null): SecretSource {
  return ({ id, file, isNew }) => {
    const own = id === null && !isNew ? secretOfFile(secrets, file) : undefined;
    const name = id ?? fallback;
    const text = own ?? (name === null ? undefined : secrets[name]);
    return text === undefined ? null : new TextEncoder().encode(text);
  };
}

function secretOfFile(secrets: Readonly<Record<string, string>>, file: string): string | undefined {
  const whole = path.resolve(file);
  const named = Object.entries(secrets).flatMap(([name, text]) =>
    name.startsWith(ofFile) ? [{ path: path.resolve(name.slice(ofFile.length)), text }] : [],
  );
  const same = named.find((one) => one.path === whole);
  if (same !== undefined || named.length === 0) return same?.text;
  // Another name of the same file: links, and folders that are.
  const identity = identityOfName(file);
  return identity === null ? undefined : named.find((one) => identityOfName(one.path) === identity)?.text;
}
