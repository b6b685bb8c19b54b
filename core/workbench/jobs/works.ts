// What a job can be: each work with the shape of its parameters, what it touches, and what it does in the job's thread.
import fs from 'node:fs';
import * as v from 'valibot';
import { ImageError } from '../../errors/image-error.ts';
import { resolveReference } from '../../formats/gate.ts';
import type { Job } from '../../job.ts';
import { amend } from '../../operations/amend.ts';
import { check } from '../../operations/check.ts';
import { commit } from '../../operations/commit.ts';
import { compare } from '../../operations/compare.ts';
import { convert } from '../../operations/convert.ts';
import { create } from '../../operations/create.ts';
import { digest, digestAlgorithms } from '../../operations/digest.ts';
import { rebase } from '../../operations/rebase.ts';
import { resize } from '../../operations/resize.ts';
import { snapshot } from '../../operations/snapshot.ts';
import { openCatalogue } from '../../catalogue/catalogue.ts';
import { dependentsOfFile } from '../../catalogue/lineage.ts';
import { scan } from '../../catalogue/scan/scan.ts';
import type { Fence } from '../fence.ts';
import {
  byteCount,
  filePath,
  imageArgument,
  optionsOf,
  optionValues,
  policyOf,
  secretsOf,
  trust,
} from './image-argument.ts';

/** What a work is handed besides its parameters. */
export interface WorkContext {
  readonly job: Job;
  /** A line for the job's log. */
  log(text: string): void;
  readonly secrets: Readonly<Record<string, string>>;
  readonly fence: Fence;
  /** Path of the catalogue. */
  readonly catalogue: string;
}

interface Work<Schema extends v.GenericSchema> {
  readonly params: Schema;
  /** The files it is told to read and write: they must lie within the fence, and works on one slow device wait for each other. */
  files(params: v.InferOutput<Schema>): readonly string[];
  /** It writes to images. */
  changes(params: v.InferOutput<Schema>): boolean;
  /** `params` have the shape. Its result is plain data and does not grow with the disk. */
  run(params: unknown, context: WorkContext): Promise<unknown>;
}

function work<Schema extends v.GenericSchema>(
  params: Schema,
  changes: boolean | ((params: v.InferOutput<Schema>) => boolean),
  files: (params: v.InferOutput<Schema>) => readonly string[],
  run: (params: v.InferOutput<Schema>, context: WorkContext) => Promise<unknown>,
): Work<Schema> {
  return {
    params,
    files,
    changes: typeof changes === 'boolean' ? () => changes : changes,
    run: (given, context) => run(v.parse(params, given), context),
  };
}

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

export const works = {
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
    }),
    true,
    ({ source, target, backing: below }) => [source.path, target, ...layerOf(target, below)],
    async (params, context) => {
      const { overwrite, source, ...rest } = params;
      if (!overwrite) refuseExisting(params.target);
      const asked = {
        ...rest,
        sources: [{ path: source.path, options: optionsOf(source, context) }],
        existing: null,
        targetIsZero: false,
        offload: false,
        sparse: 4096,
        cache: undefined,
        depth: 8,
        outOfOrder: true,
        rate: 0,
        policy: policyOf(source, context.fence),
        secret: secretsOf(context.secrets, source.secret),
      };
      return convert(asked, context.job);
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
      secret: v.nullable(v.string()),
    }),
    true,
    ({ target, backing: below }) => [target, ...layerOf(target, below)],
    async ({ target, overwrite, secret, ...rest }, context) => {
      if (!overwrite) refuseExisting(target);
      const policy = policyOf(rest, context.fence);
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
  check: work(
    v.strictObject({ image: imageArgument, repair: v.nullable(v.picklist(['leaks', 'all'])) }),
    ({ repair }) => repair !== null,
    ({ image }) => [image.path],
    ({ image, repair }, context) =>
      check(
        { path: image.path, options: optionsOf(image, context), limit: findingsKept, repair },
        context.job,
        ({ text }) => {
          context.log(text);
        },
      ),
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
    ({ image, action, force: forced }, context) =>
      snapshot(
        {
          path: image.path,
          options: optionsOf(image, context),
          action,
          force: forced,
          // Taking a snapshot changes nothing that an image above could see.
          ...(action.kind === 'apply' ? { dependents: askCatalogue(context) } : {}),
        },
        context.job,
      ),
  ),
  rebase: work(
    v.strictObject({ image: imageArgument, backing, unsafe: v.boolean(), compress: v.boolean(), force }),
    true,
    ({ image, backing: below }) => [image.path, ...layerOf(image.path, below)],
    ({ image, ...rest }, context) => {
      const { secret } = image;
      const base = { secret: secretsOf(context.secrets, secret) };
      const options = optionsOf(image, context);
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
    ({ image, ...rest }, context) =>
      amend(
        { ...rest, path: image.path, options: optionsOf(image, context), dependents: askCatalogue(context) },
        context.job,
      ),
  ),
  scan: work(
    v.strictObject({ datastore: v.string(), everything: v.boolean() }),
    false,
    () => [],
    async (params, context) => {
      const catalogue = openCatalogue(context.catalogue);
      try {
        return await scan(catalogue, params, context.job);
      } finally {
        catalogue.close();
      }
    },
  ),
} as const satisfies Record<string, Work<v.GenericSchema>>;

export type WorkName = keyof typeof works;
export type WorkParams<Name extends WorkName> = v.InferOutput<(typeof works)[Name]['params']>;

function refuseExisting(target: string): void {
  if (fs.existsSync(target)) throw new ImageError('image/target-exists', { name: target }, { file: target });
}
