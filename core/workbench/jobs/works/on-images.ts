// Works on images that are named by their paths.
import fs from 'node:fs';
import * as v from 'valibot';
import { keepCheckOfFile } from '../../../catalogue/findings.ts';
import { openCatalogue } from '../../../catalogue/catalogue.ts';
import { dependentsOfFile, keepTrust } from '../../../catalogue/lineage.ts';
import { statFileNow, type FileStat } from '../../../catalogue/scan/walk.ts';
import { ImageError } from '../../../errors/image-error.ts';
import { resolveReference } from '../../../formats/gate.ts';
import { amend, changesKeysOnly } from '../../../operations/amend.ts';
import { bitmap } from '../../../operations/bitmap.ts';
import { check } from '../../../operations/check.ts';
import { commit } from '../../../operations/commit.ts';
import { compact } from '../../../operations/compact.ts';
import { compare } from '../../../operations/compare.ts';
import { convert } from '../../../operations/convert.ts';
import { create } from '../../../operations/create.ts';
import { measure } from '../../../operations/measure.ts';
import { overlay } from '../../../operations/overlay.ts';
import { rebase } from '../../../operations/rebase.ts';
import { resize } from '../../../operations/resize.ts';
import { snapshot } from '../../../operations/snapshot.ts';
import { undo } from '../../../operations/undo.ts';
import { convertFor, gptSentence } from '../../../profiles/convert-for.ts';
import { profileNamed } from '../../../profiles/profiles.ts';
import { digest, digestAlgorithms } from '../../../operations/digest.ts';
import {
  allow,
  byteCount,
  filePath,
  imageArgument,
  optionsOf,
  optionValues,
  policyOf,
  secretsOf,
  trust,
} from '../image-argument.ts';
import { work, type WorkContext } from './work.ts';

/** A layer below that a parameter names, seen from the image that will name it. */
function layerOf(image: string, backing: { readonly path: string } | null): string[] {
  return backing === null || backing.path === '' ? [] : [resolveReference(image, backing.path)];
}

const backing = v.nullable(v.strictObject({ path: filePath, format: v.nullable(v.string()) }));
const force = v.boolean();

/** Findings that the result of a check carries; all are counted. */
const findingsKept = 500;

/** Who reads through a file, as the catalogue of this job knows. */
function askCatalogue(context: WorkContext): (path: string) => readonly string[] {
  return (path) => {
    const catalogue = openCatalogue(context.catalogue);
    try {
      return dependentsOfFile(catalogue, path);
    } finally {
      catalogue.close();
    }
  };
}

/** The file has changed, its disk has not: what stands on it stands as well as before. */
function keepTrustIn(context: WorkContext, path: string, before: FileStat): void {
  const catalogue = openCatalogue(context.catalogue);
  try {
    keepTrust(catalogue, path, before);
  } finally {
    catalogue.close();
  }
}

export const worksOnImages = {
  convert: work(
    v.strictObject({
      source: imageArgument,
      snapshot: v.nullable(v.string()),
      target: filePath,
      /** Replace a file that is there. */
      overwrite: v.boolean(),
      format: v.string(),
      options: optionValues,
      backing,
      compress: v.boolean(),
      salvage: v.boolean(),
      verify: v.boolean(),
      keepIdentity: v.boolean(),
      /** Make it for this platform: what `options` leaves open is the profile's, the size is rounded up. Null or absent: for none. */
      profile: v.optional(v.nullable(v.string())),
      /** Bytes per second at most; 0 or absent: as fast as it goes. */
      rate: v.optional(byteCount, 0),
    }),
    true,
    ({ source, target, backing: below }) => [source.path, target, ...layerOf(target, below)],
    async (params, context) => {
      const { overwrite, source, profile = null, ...rest } = params;
      if (!overwrite) refuseExisting(params.target);
      const named = layerOf(params.target, params.backing);
      const asked = {
        ...rest,
        sources: [{ path: source.path, options: optionsOf(source, context, named) }],
        existing: null,
        targetIsZero: false,
        offload: false,
        sparse: 4096,
        cache: undefined,
        depth: 8,
        outOfOrder: true,
        policy: policyOf(source, context, named),
        secret: secretsOf(context.secrets, source.secret),
      };
      if (profile === null) return convert(asked, context.job);
      const result = await convertFor(profileNamed(profile), asked, context.job);
      const told = gptSentence(result);
      if (told !== null) context.log(told);
      for (const { severity, text } of result.verdict?.findings ?? []) context.log(`${severity}: ${text}`);
      return result;
    },
  ),
  create: work(
    v.strictObject({
      target: filePath,
      overwrite: v.boolean(),
      format: v.string(),
      size: v.nullable(byteCount),
      options: optionValues,
      backing,
      trust,
      allow,
      secret: v.nullable(v.string()),
    }),
    true,
    ({ target, backing: below }) => [target, ...layerOf(target, below)],
    async ({ target, overwrite, secret, ...rest }, context) => {
      if (!overwrite) refuseExisting(target);
      const policy = policyOf(rest, context, layerOf(target, rest.backing));
      const { format, size, options, backing: below } = rest;
      const asked = {
        path: target,
        format,
        size,
        options,
        backing: below,
        unsafe: false,
        policy,
        secret: secretsOf(context.secrets, secret),
      };
      return create(asked, context.job);
    },
  ),
  /** What is found is kept with the image, if the catalogue has it. */
  check: work(
    v.strictObject({
      image: imageArgument,
      repair: v.nullable(v.picklist(['leaks', 'all'])),
      /** Leave the image alone and repair a copy here. */
      onCopy: v.optional(v.nullable(filePath), null),
      /** With `all`: the image takes its parent as it is now. */
      relink: v.optional(v.boolean(), false),
    }),
    ({ repair, onCopy }) => repair !== null || onCopy !== null,
    ({ image, onCopy }) => (onCopy === null ? [image.path] : [image.path, onCopy]),
    async ({ image, ...asked }, context) => {
      const params = { path: image.path, options: optionsOf(image, context), limit: findingsKept, ...asked };
      const result = await check(params, context.job, ({ text }) => {
        context.log(text);
      });
      const catalogue = openCatalogue(context.catalogue);
      try {
        keepCheckOfFile(catalogue, asked.onCopy ?? image.path, result);
      } finally {
        catalogue.close();
      }
      return result;
    },
  ),
  compare: work(
    v.strictObject({ first: imageArgument, second: imageArgument, strict: v.boolean() }),
    false,
    ({ first, second }) => [first.path, second.path],
    ({ first, second, strict }, context) => {
      const side = (image: typeof first) => ({
        name: image.path,
        path: image.path,
        options: optionsOf(image, context),
      });
      return compare({ first: side(first), second: side(second), strict }, context.job);
    },
  ),
  digest: work(
    v.strictObject({ image: imageArgument, algorithm: v.picklist(digestAlgorithms) }),
    false,
    ({ image }) => [image.path],
    ({ image, algorithm }, context) =>
      digest({ path: image.path, options: optionsOf(image, context), algorithm }, context.job),
  ),
  /** Bytes that a conversion would need, with the same words as `convert`. */
  measure: work(
    v.strictObject({
      source: v.nullable(imageArgument),
      snapshot: v.nullable(v.string()),
      /** Of an empty disk; null with a source. */
      size: v.nullable(byteCount),
      format: v.string(),
      options: optionValues,
    }),
    false,
    ({ source }) => (source === null ? [] : [source.path]),
    ({ source, snapshot, size, format, options }, context) =>
      measure(
        {
          source: source === null ? null : { path: source.path, options: optionsOf(source, context), snapshot },
          size: size ?? 0,
          format,
          options,
          secret: secretsOf(context.secrets, source?.secret ?? null),
        },
        context.job,
      ),
  ),
  resize: work(
    v.strictObject({
      image: imageArgument,
      bytes: byteCount,
      by: v.picklist(['absolute', 'plus', 'minus']),
      preallocation: v.picklist(['off', 'metadata', 'falloc', 'full']),
      shrink: v.boolean(),
      fixGpt: v.boolean(),
      force,
    }),
    true,
    ({ image }) => [image.path],
    ({ image, ...rest }, context) =>
      resize(
        { ...rest, path: image.path, options: optionsOf(image, context), dependents: askCatalogue(context) },
        context.job,
      ),
  ),
  snapshot: work(
    v.strictObject({
      image: imageArgument,
      action: v.variant('kind', [
        v.strictObject({ kind: v.literal('create'), name: v.string() }),
        v.strictObject({ kind: v.literal('apply'), name: v.string() }),
        v.strictObject({ kind: v.literal('delete'), name: v.string() }),
      ]),
      force,
    }),
    true,
    ({ image }) => [image.path],
    async ({ image, action, force: forced }, context) => {
      const before = action.kind === 'apply' ? null : statFileNow(image.path);
      const result = await snapshot(
        {
          path: image.path,
          options: optionsOf(image, context),
          action,
          force: forced,
          // Taking a snapshot changes nothing that an image above could see.
          ...(action.kind === 'apply' ? { dependents: askCatalogue(context) } : {}),
        },
        context.job,
      );
      if (before !== null) keepTrustIn(context, image.path, before);
      return result;
    },
  ),
  rebase: work(
    v.strictObject({ image: imageArgument, backing, unsafe: v.boolean(), compress: v.boolean(), force }),
    true,
    ({ image, backing: below }) => [image.path, ...layerOf(image.path, below)],
    ({ image, ...rest }, context) => {
      const { secret } = image;
      const base = { secret: secretsOf(context.secrets, secret) };
      const named = optionsOf(image, context, layerOf(image.path, rest.backing));
      // Who changes the link only reads and writes nothing of the disk.
      const options = rest.unsafe ? { ...named, guestData: false } : named;
      return rebase({ ...rest, path: image.path, options, base, dependents: askCatalogue(context) }, context.job);
    },
  ),
  commit: work(
    v.strictObject({ image: imageArgument, base: v.nullable(v.string()), keep: v.boolean(), rate: byteCount, force }),
    true,
    ({ image }) => [image.path],
    ({ image, ...rest }, context) =>
      commit(
        { ...rest, path: image.path, options: optionsOf(image, context), dependents: askCatalogue(context) },
        context.job,
      ),
  ),
  amend: work(
    v.strictObject({ image: imageArgument, values: optionValues, force }),
    true,
    ({ image }) => [image.path],
    async ({ image, ...rest }, context) => {
      const options = optionsOf(image, context);
      const before = changesKeysOnly(rest.values) ? statFileNow(image.path) : null;
      const result = await amend(
        { ...rest, path: image.path, options, dependents: askCatalogue(context) },
        context.job,
      );
      if (before !== null) keepTrustIn(context, image.path, before);
      return result;
    },
  ),
  bitmap: work(
    v.strictObject({
      image: imageArgument,
      name: v.pipe(v.string(), v.maxLength(1023)),
      action: v.variant('do', [
        v.strictObject({ do: v.literal('add'), granularity: v.nullable(byteCount), enabled: v.boolean() }),
        v.strictObject({ do: v.picklist(['remove', 'clear', 'enable', 'disable']) }),
        v.strictObject({ do: v.literal('merge'), from: v.string(), source: v.nullable(imageArgument) }),
      ]),
    }),
    true,
    ({ image, action }) => [
      image.path,
      ...(action.do === 'merge' && action.source !== null ? [action.source.path] : []),
    ],
    ({ image, name, action }, context) => {
      const source = action.do === 'merge' ? action.source : null;
      return bitmap(
        {
          path: image.path,
          options: optionsOf(image, context),
          name,
          actions:
            action.do === 'merge'
              ? [{ do: 'merge', from: action.from }]
              : action.do === 'add'
                ? [{ do: 'add' }, ...(action.enabled ? [] : [{ do: 'disable' as const }])]
                : [{ do: action.do }],
          granularity: action.do === 'add' ? action.granularity : null,
          source: source === null ? null : { path: source.path, options: optionsOf(source, context) },
        },
        context.job,
      );
    },
  ),
  overlay: work(
    v.strictObject({
      base: imageArgument,
      target: filePath,
      overwrite: v.boolean(),
      format: v.nullable(v.string()),
      options: optionValues,
    }),
    true,
    ({ base, target }) => [base.path, target],
    ({ base, target, overwrite, format, options }, context) => {
      if (!overwrite) refuseExisting(target);
      const baseOptions = optionsOf(base, context);
      const secret = secretsOf(context.secrets, base.secret);
      return overlay({ base: base.path, baseOptions, path: target, format, options, secret }, context.job);
    },
  ),
  compact: work(
    v.strictObject({
      image: imageArgument,
      estimate: v.boolean(),
      zeroUnused: v.boolean(),
      rewrite: v.boolean(),
      force,
    }),
    ({ estimate }) => !estimate,
    ({ image }) => [image.path],
    ({ image, ...rest }, context) =>
      compact(
        { ...rest, path: image.path, options: optionsOf(image, context), dependents: askCatalogue(context) },
        context.job,
      ),
  ),
  undo: work(
    v.strictObject({ image: imageArgument, dryRun: v.boolean(), force }),
    ({ dryRun }) => !dryRun,
    ({ image }) => [image.path],
    ({ image, ...rest }, context) =>
      undo(
        { ...rest, path: image.path, policy: policyOf(image, context), dependents: askCatalogue(context) },
        context.job,
      ),
  ),
} as const;

function refuseExisting(target: string): void {
  if (fs.existsSync(target)) throw new ImageError('image/target-exists', { name: target }, { file: target });
}
