// The shape of a row of the message table.

/** What a sentence is filled with. Sizes are bytes. */
export type Facts = Readonly<Record<string, string | number | boolean>>;

/** One of several things that a fault is about: a process that holds a file. */
export type DetailRow = Readonly<Record<string, string | number>>;

/** What is known of a fault: facts, and lists beside them. */
export type ErrorDetail = Readonly<Record<string, string | number | boolean | readonly DetailRow[]>>;

/** Fixed text, or text made of what was found. */
export type Sentence = string | ((facts: Facts) => string);

/** What of a detail can stand in a sentence. */
export function factsOf(detail: ErrorDetail): Facts {
  const facts: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(detail)) if (typeof value !== 'object') facts[name] = value;
  return facts;
}
