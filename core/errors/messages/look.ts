// Codes and sentences of looking at bytes: places to go to, patterns to search for.
import type { Sentence } from '../sentence.ts';

export const lookMessages = {
  'look/place': (d) => `'${d.text}' is not a place: ${d.reason}`,
  'look/beyond': (d) => `0x${Number(d.offset).toString(16)} lies behind the end: there are ${d.size} bytes`,
  'look/before': (d) => `'${d.text}' lies before the start`,
  'look/no-table': (d) => `There is no table '${d.name}' here${d.known === '' ? '' : `; there are ${d.known}`}`,
  'look/no-entry': (d) => `There is no entry ${d.text}`,
  'look/pattern': (d) => `'${d.text}' is not ${d.expected}`,
  'look/pattern-length': (d) => `A pattern has 1 to ${d.allowed} bytes, this one has ${d.found}`,
} as const satisfies Record<string, Sentence>;
