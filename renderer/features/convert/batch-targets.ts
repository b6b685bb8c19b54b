// Where each image of a batch goes, and what is in the way there.
import { baseName, join } from '../../text/paths.ts';

export interface BatchRules {
  readonly folder: string;
  /** The new name without its ending: `{name}` is the old one, `{number}` counts from 1. */
  readonly rule: string;
  /** Without the dot. */
  readonly ending: string;
  /** Names that the folder has. */
  readonly present: ReadonlySet<string>;
  readonly overwrite: boolean;
}

export interface BatchTarget {
  readonly source: string;
  readonly target: string;
  /** Null: nothing is in the way. */
  readonly conflict: 'same' | 'twice' | 'exists' | 'unnamed' | null;
}

/** One target for each source, in their order. */
export function targetsOf(sources: readonly string[], rules: BatchRules): BatchTarget[] {
  const { folder, rule, ending, present, overwrite } = rules;
  const reads = new Set(sources);
  const named = sources.map((source, index) => {
    const stem = baseName(source).replace(/(.)\.[^.]{1,8}$/, '$1');
    const name = rule
      .replaceAll('{name}', stem)
      .replaceAll('{number}', String(index + 1))
      .trim();
    return { source, stem: name, name: `${name}.${ending}`, target: join(folder, `${name}.${ending}`) };
  });
  const times = new Map<string, number>();
  for (const { target } of named) times.set(target, (times.get(target) ?? 0) + 1);
  return named.map(({ source, stem, name, target }) => ({
    source,
    target,
    conflict:
      stem === '' || /[/\\]/.test(stem)
        ? 'unnamed'
        : reads.has(target)
          ? 'same'
          : (times.get(target) ?? 0) > 1
            ? 'twice'
            : present.has(name) && !overwrite
              ? 'exists'
              : null,
  }));
}
