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
