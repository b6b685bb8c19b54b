// The operations: what a job can be. Their parameters and results are plain data.
import { amend } from './amend.ts';
import { bitmap } from './bitmap.ts';
import { bench } from './bench.ts';
import { check } from './check.ts';
import { commit } from './commit.ts';
import { compact } from './compact.ts';
import { compare } from './compare.ts';
import { convert } from './convert.ts';
import { create } from './create.ts';
import { dd } from './dd.ts';
import { digest } from './digest.ts';
import { info } from './info.ts';
import { map } from './map.ts';
import { measure } from './measure.ts';
import { overlay } from './overlay.ts';
import { rebase } from './rebase.ts';
import { resize } from './resize.ts';
import { snapshot } from './snapshot.ts';
import { undo } from './undo.ts';

export const operations = {
  amend,
  bench,
  bitmap,
  check,
  commit,
  compact,
  compare,
  convert,
  create,
  dd,
  digest,
  info,
  map,
  measure,
  overlay,
  rebase,
  resize,
  snapshot,
  undo,
} as const;

export type OperationName = keyof typeof operations;
