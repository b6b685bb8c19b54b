// The tree of facts that a format tells, laid flat into lines.

export type Fact = string | number | boolean | readonly Fact[] | { readonly [key: string]: Fact };

export interface FactLine {
  readonly name: string;
  readonly value: string;
}

/** One line for each leaf; names are joined by a dot. At most `most` lines. */
export function factLines(facts: Fact, most = 60, prefix = ''): FactLine[] {
  if (typeof facts !== 'object') return [{ name: prefix, value: String(facts) }];
  const entries = Object.entries<Fact>(facts);
  return entries
    .flatMap(([key, value]) => factLines(value, most, prefix === '' ? key : `${prefix}.${key}`))
    .slice(0, most);
}
