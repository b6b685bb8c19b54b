// JSON in qemu's layout: four spaces, keys in the order of its dictionaries.

export type Json = string | number | bigint | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Everything on lines of its own, as `--output=json` prints it. No newline at the end. */
export function prettyJson(value: Json, indent = 0): string {
  const inner = ' '.repeat(4 * (indent + 1));
  const close = `\n${' '.repeat(4 * indent)}`;
  if (isList(value)) {
    return `[${value.map((entry) => `\n${inner}${prettyJson(entry, indent + 1)}`).join(',')}${close}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = inDictionaryOrder(value);
    return `{${entries.map(([key, entry]) => `\n${inner}${quote(key)}: ${prettyJson(entry, indent + 1)}`).join(',')}${close}}`;
  }
  return scalar(value);
}

/** On one line, as in names of images: `{"driver": "raw", "file": {…}}`. */
export function flatJson(value: Json): string {
  if (isList(value)) return `[${value.map(flatJson).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = inDictionaryOrder(value);
    return `{${entries.map(([key, entry]) => `${quote(key)}: ${flatJson(entry)}`).join(', ')}}`;
  }
  return scalar(value);
}

/** QEMU's JSON with strings in single quotes too, as JSON. What is not well formed stays so. */
export function relaxedJson(text: string): string {
  return text.replace(/"(?:[^"\\]|\\[^])*"|'((?:[^'\\]|\\[^])*)'/g, (whole, single: string | undefined) =>
    single === undefined
      ? whole
      : `"${single.replaceAll("\\'", "'").replaceAll(/\\[^]|"/g, (at) => (at === '"' ? '\\"' : at))}"`,
  );
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function scalar(value: string | number | bigint | boolean | null): string {
  return typeof value === 'string' ? quote(value) : String(value);
}

/** Everything beyond printable ASCII is escaped. */
function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
  );
}

/**
 * The entries of a dictionary in the order in which qemu prints them: by bucket of a hash table of 512, the last key put into a
 * bucket first.
 */
export function inDictionaryOrder<T>(dictionary: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(dictionary)
    .reverse()
    .map((entry): { bucket: number; entry: [string, T] } => ({ bucket: bucketOf(entry[0]), entry }))
    .sort((a, b) => a.bucket - b.bucket)
    .map(({ entry }) => entry);
}

/** The bucket of a key: the hash function of gdbm, in 32 bits. */
function bucketOf(key: string): number {
  const bytes = Buffer.from(key, 'utf8');
  let value = Math.imul(0x238f13af, bytes.length);
  for (const [index, byte] of bytes.entries()) value = (value + (byte << ((index * 5) % 24))) | 0;
  return ((Math.imul(1103515243, value) + 12345) >>> 0) % 512;
}

/** Our own results: everything on lines of its own, keys in the order in which they were written. */
export function inOrder(value: unknown): string {
  return JSON.stringify(value, null, 4);
}
