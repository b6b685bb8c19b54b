// News of the catalogue: windows hear that something has changed, whoever did it; what it is they ask themselves.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { changeNumber } from '../catalogue/changes.ts';

/** Something of images or datastores has changed. */
export interface CatalogueNews {
  /** Goes up with every change; two windows with the same number see the same. */
  readonly number: number;
}

/** Milliseconds between two looks; changes in between are one piece of news. */
const pause = 400;

/** Each change from now on, until one of `signals` says that it is over. */
export async function* newsOfCatalogue(
  catalogue: Catalogue,
  signals: readonly (AbortSignal | undefined)[],
): AsyncGenerator<CatalogueNews, void, void> {
  const signal = AbortSignal.any(signals.filter((one) => one !== undefined));
  let seen = changeNumber(catalogue);
  for (;;) {
    try {
      await sleep(pause, null, { signal });
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    }
    const number = changeNumber(catalogue);
    if (number === seen) continue;
    seen = number;
    yield { number };
  }
}
