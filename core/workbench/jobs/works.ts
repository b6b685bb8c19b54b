// What a job can be.
import type * as v from 'valibot';
import { worksOnCatalogue } from './works/on-catalogue.ts';
import { worksOnImages } from './works/on-images.ts';

export const works = { ...worksOnImages, ...worksOnCatalogue } as const;

export type WorkName = keyof typeof works;
/** What a work is asked with: what has a default may be left out. */
export type WorkParams<Name extends WorkName> = v.InferInput<(typeof works)[Name]['params']>;

/** True for the name of a work. */
export function isWork(name: string): name is WorkName {
  return Object.hasOwn(works, name);
}

/** A work as somebody sees it who wants to do it to many images. */
export interface WorkFacts {
  readonly name: WorkName;
  /** It writes to images or makes files; null: that depends on what it is asked with. */
  readonly changes: boolean | null;
  /** The parameter that says which image, and whether as an image argument or as an id of the catalogue; null: it is about something else. */
  readonly subject: { readonly param: string; readonly by: 'argument' | 'id' } | null;
  /** It makes a new file, whose name has to be another for each image. */
  readonly makesFile: boolean;
  /** Parameters, and whether they may be left out. */
  readonly params: readonly { readonly name: string; readonly optional: boolean }[];
}

/** Names of the parameter that a work is about, as they are looked for. */
const subjects = ['image', 'source', 'base'];

/** All works, in alphabetical order. */
export function workFacts(): WorkFacts[] {
  const names = (Object.keys(works) as WorkName[]).sort();
  return names.map((name) => {
    const { params, always } = works[name];
    const entries = Object.entries<v.GenericSchema>(params.entries);
    const subject = entries.find(([param]) => subjects.includes(param));
    const by = subject?.[1].type === 'string' ? 'id' : 'argument';
    return {
      name,
      changes: always,
      subject: subject === undefined ? null : { param: subject[0], by },
      makesFile: 'target' in params.entries,
      params: entries.map(([param, schema]) => ({ name: param, optional: schema.type === 'optional' })),
    };
  });
}
