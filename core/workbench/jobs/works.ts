// What a job can be.
import type * as v from 'valibot';
import { worksOnCatalogue } from './works/on-catalogue.ts';
import { worksOnImages } from './works/on-images.ts';

export const works = { ...worksOnImages, ...worksOnCatalogue } as const;

export type WorkName = keyof typeof works;
export type WorkParams<Name extends WorkName> = v.InferOutput<(typeof works)[Name]['params']>;

/** True for the name of a work. */
export function isWork(name: string): name is WorkName {
  return Object.hasOwn(works, name);
}
