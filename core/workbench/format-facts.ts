// What can be done with images of a format, as its driver shows it: what forms and menus are drawn from.
import type { FormatDriver } from '../formats/driver.ts';
import type { FormatFacts } from './contract.ts';

/** The verbs whose being possible depends on the format; reading ones (info, map, convert from it, compare, digest) go with every format. */
export type Verb =
  | 'create'
  | 'convert'
  | 'measure'
  | 'resize'
  | 'snapshot'
  | 'overlay'
  | 'rebase'
  | 'commit'
  | 'amend'
  | 'bitmap'
  | 'check'
  | 'repair'
  | 'compact'
  | 'undo';

/** The facts of a format. Its hidden options are left out. */
export function factsOf(driver: FormatDriver): FormatFacts {
  const canCompress = (subformat: string): boolean =>
    driver.compresses === true || driver.compresses?.includes(subformat) === true;
  return {
    id: driver.id,
    label: driver.label,
    extensions: driver.extensions,
    canCreate: driver.create !== undefined,
    hasBacking: driver.hasBacking,
    hasSnapshots: driver.snapshots?.create !== undefined,
    canCheck: driver.check !== undefined,
    canRepair: driver.repair !== undefined,
    hasBitmaps: driver.dirtyBitmaps !== undefined,
    canCompress: driver.compresses !== undefined,
    onlyConverted: driver.onlyConverted === true,
    subformats: (driver.options.find(({ name }) => name === 'subformat')?.values ?? []).map((name) => ({
      name,
      canCompress: canCompress(name),
      hasBacking: driver.hasBacking && driver.wholeSubformats?.includes(name) !== true,
    })),
    verbs: verbsOf(driver),
    options: driver.options.filter(({ hidden }) => hidden !== true),
    amendOptions: (driver.amendOptions ?? []).filter(({ hidden }) => hidden !== true),
  };
}

function verbsOf(driver: FormatDriver): Verb[] {
  // What is only read, or written in one go, is not changed in place.
  const writable = driver.create !== undefined && driver.onlyConverted !== true;
  const differs = writable && driver.hasBacking;
  const possible: Readonly<Record<Verb, boolean>> = {
    create: writable,
    convert: driver.create !== undefined,
    measure: driver.measure !== undefined,
    resize: writable,
    snapshot: driver.snapshots?.create !== undefined,
    overlay: differs,
    rebase: differs,
    commit: differs,
    amend: driver.amendOptions !== undefined,
    bitmap: driver.dirtyBitmaps !== undefined,
    check: driver.check !== undefined,
    repair: driver.repair !== undefined,
    compact: driver.compact !== undefined,
    undo: writable,
  };
  return (Object.keys(possible) as Verb[]).filter((verb) => possible[verb]);
}
