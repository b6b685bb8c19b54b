// How far the catalogue has changed, whoever changed it: this program, one of its threads, or another program.
import type { Catalogue } from './catalogue.ts';

/** A number that is another one whenever something that is shown of images or datastores has changed. Cheap to ask. */
export function changeNumber({ database }: Catalogue): number {
  return database.one<{ number: number }>('select number from change')?.number ?? 0;
}
