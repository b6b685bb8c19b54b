// What qemu-img says when it opens an image for writing whose format nobody stated and whose content says nothing: raw, by guess.
import type { FormatDriver } from '../core/formats/driver.ts';
import { actsAsQemuImg } from './level.ts';
import { err } from './print.ts';

/** Says it, where we stand in for qemu-img. `stated`: the format that was given; null: none. */
export function warnOfGuessedRaw(path: string, stated: string | null | undefined, driver: FormatDriver): void {
  if (!actsAsQemuImg || (stated ?? null) !== null || driver.id !== 'raw') return;
  err(
    `WARNING: Image format was not specified for '${path}' and probing guessed raw.\n` +
      '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
      "         Specify the 'raw' format explicitly to remove the restrictions.\n",
  );
}
