// Lists like `size=1M,lazy_refcounts,backing_file=a,,b`: qemu's option strings.

export interface KeyValue {
  readonly name: string;
  readonly value: string;
}

/**
 * The entries in order. A comma inside a value is doubled; a name alone is `on`, `no` before it makes it `off`. `implied` names the
 * first entry if it has no `=`.
 */
export function parseKeyValues(text: string, options: { implied?: string } = {}): KeyValue[] {
  const entries: KeyValue[] = [];
  let at = 0;
  while (at < text.length) {
    let end = at;
    while (end < text.length && text[end] !== '=' && text[end] !== ',') end++;
    if (text[end] === '=' || (at === 0 && options.implied !== undefined)) {
      const name = text[end] === '=' ? text.slice(at, end) : (options.implied ?? '');
      const read = readValue(text, text[end] === '=' ? end + 1 : at);
      entries.push({ name, value: read.value });
      at = read.next;
    } else {
      const name = text.slice(at, end);
      entries.push(name.startsWith('no') ? { name: name.slice(2), value: 'off' } : { name, value: 'on' });
      at = end + 1;
    }
  }
  return entries;
}

/** The value from `from` to the next single comma. */
function readValue(text: string, from: number): { value: string; next: number } {
  let value = '';
  for (let at = from; at < text.length; at++) {
    if (text[at] === ',') {
      if (text[at + 1] !== ',') return { value, next: at + 1 };
      at++;
    }
    value += text[at];
  }
  return { value, next: text.length };
}

/** Not empty, and neither begins nor ends with a comma that separates nothing: such lists can be joined. */
export function isJoinable(text: string): boolean {
  if (text === '' || text.startsWith(',')) return false;
  const commas = /,*$/.exec(text)?.[0].length ?? 0;
  return commas % 2 === 0;
}

/** One of the entries asks for help: `help` or `?`. */
export function asksForHelp(text: string): boolean {
  for (let at = 0; at < text.length;) {
    const { value, next } = readValue(text, at);
    if (value === 'help' || value === '?') return true;
    at = next;
  }
  return false;
}

/** A value of an option that commas are no trouble to. */
export function escapeCommas(value: string): string {
  return value.replaceAll(',', ',,');
}

/** What is wrong with a size in an option. */
export function sizeMessage(name: string, value: string, reason: 'invalid' | 'range' | null): string {
  if (reason === 'range') return `Value '${value}' is out of range for parameter '${name}'`;
  return (
    `Parameter '${name}' expects a non-negative number below 2^64\n` +
    'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n' +
    'and exabytes, respectively.'
  );
}
