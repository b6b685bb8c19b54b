// Arguments of a command: one table of its options, read as getopt_long reads them.
import { actsAsQemuImg, isLevel10 } from './level.ts';
import { UsageError } from './print.ts';

/** A row of a command's table. */
export interface OptionSpec {
  /** One letter. */
  readonly short?: string;
  /** Long names, without dashes; the first is the one that help shows. */
  readonly long?: readonly string[];
  /** What its argument is called in the help; absent: a flag. */
  readonly argument?: string;
  readonly meaning: string;
}

/** A command: its table and what help says besides. */
export interface CommandSpec<Key extends string = string> {
  readonly name: string;
  readonly summary: string;
  /** The operands as the usage line shows them. */
  readonly operands: string;
  readonly options: Readonly<Record<Key, OptionSpec>>;
  /** The last word is an operand whatever it looks like (`-1G`); a command line without it is refused with this sentence. */
  readonly lastWord?: string;
  /** False: it opens no image. */
  readonly opensImages?: boolean;
  /** It changes images in place, and has `--no-undo`. */
  readonly changesInPlace?: boolean;
  /** Paragraphs after the options. */
  readonly notes?: readonly string[];
  /** A command line (without the program's name) and what it does. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
}

/** The arguments of one call, by the keys of the table. */
export interface Arguments<Key extends string = string> {
  /** `-h` or `--help` was met; nothing after it was looked at. */
  readonly help: boolean;
  readonly operands: readonly string[];
  /** Whether it was given at all. */
  has(key: Key): boolean;
  /** Its last value; null when it was not given. */
  last(key: Key): string | null;
  /** All its values in order. */
  all(key: Key): readonly string[];
  /** Every option that was given, as often as it was given, in order; the value of a flag is empty. */
  readonly given: readonly (readonly [key: string, value: string])[];
}

/** Rows that several commands share. */
export const sharedOptions = {
  quiet: { short: 'q', long: ['quiet'], meaning: 'print errors only' },
  bar: { short: 'p', meaning: 'show progress as a percentage' },
  progress: {
    long: ['progress'],
    argument: 'json',
    meaning: 'progress as one JSON object per line on stderr: phase, done, total, elapsed, rate, eta',
  },
  object: {
    long: ['object'],
    argument: 'OBJECT',
    meaning: actsAsQemuImg
      ? 'an object that options refer to: secret,id=NAME,data=TEXT or secret,id=NAME,file=PATH'
      : 'an object that options refer to: secret,id=NAME,data=TEXT or secret,id=NAME,file=PATH; image=PATH: for this image or layer ' +
        '(*: for any)',
  },
  imageOpts: {
    long: ['image-opts'],
    meaning: 'the names are descriptions (driver=qcow2,file.filename=…), not paths',
  },
  share: {
    short: 'U',
    long: ['force-share'],
    meaning: 'open alongside programs that write to the image; what is read may be inconsistent',
  },
  output: { long: ['output'], argument: 'human|json', meaning: 'how the result is printed (default: human)' },
  format: { short: 'f', long: ['format'], argument: 'FORMAT', meaning: 'format of the image (default: probed)' },
  disk: {
    long: ['disk'],
    argument: 'NAME|N',
    meaning: 'which disk of a package (OVA, OVF) is meant: its file, its id or its number',
  },
  cache: {
    short: 'T',
    long: ['source-cache'],
    argument: 'CACHE',
    meaning: 'cache mode for reading: none, writeback, writethrough, directsync, unsafe (default: writeback)',
  },
} as const satisfies Record<string, OptionSpec>;

/** Checks a table's types; gives it back. */
export function defineCommand<Key extends string>(spec: CommandSpec<Key>): CommandSpec<Key> {
  return spec;
}

/** Reads `words` (what follows the command's name). Throws `UsageError` in the words of qemu-img at the level we run at. */
export function parseArguments<Key extends string>(spec: CommandSpec<Key>, words: readonly string[]): Arguments<Key> {
  const last = spec.lastWord === undefined || asksForHelp(words) ? null : (words.at(-1) ?? '');
  const argv = last === null ? words : words.slice(0, -1);
  if (last !== null && words.length < 2) throw new UsageError(spec.lastWord ?? '', spec.name);
  const values = new Map<string, string[]>();
  const given: (readonly [key: string, value: string])[] = [];
  const operands: string[] = [];
  let help = false;
  let at = 0;
  /** The element that getopt's index stands behind: what 7.2 names for a bad letter inside a bundle. */
  let previous = spec.name;
  const fail = (modern: string, old: string): never => {
    throw new UsageError(isLevel10 ? modern : old, spec.name);
  };
  const take = (key: string, value: string): void => {
    given.push([key, value]);
    const known = values.get(key);
    if (known === undefined) values.set(key, [value]);
    else known.push(value);
  };
  while (at < argv.length && !help) {
    const word = argv[at] ?? '';
    at++;
    if (word === '--') {
      operands.push(...argv.slice(at));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      operands.push(word);
      continue;
    }
    if (word.startsWith('--')) {
      const equals = word.indexOf('=');
      const name = equals < 0 ? word : word.slice(0, equals);
      const key = findLong(spec, name.slice(2), (candidates) => {
        if (candidates.length === 0) {
          return fail(`unrecognized option '${word}'`, `unrecognized option '${word}'`);
        }
        const list = candidates.map((candidate) => `'--${candidate}'`).join(' ');
        return fail(`option '${word}' is ambiguous; possibilities: ${list}`, `unrecognized option '${word}'`);
      });
      if (key === 'help') {
        help = true;
      } else if (optionOf(spec, key).argument === undefined) {
        if (equals >= 0) fail(`option '${name}' doesn't allow an argument`, `unrecognized option '${word}'`);
        take(key, '');
      } else if (equals >= 0) {
        take(key, word.slice(equals + 1));
      } else if (at < argv.length) {
        take(key, argv[at] ?? '');
        at++;
      } else {
        fail(`option '${name}' requires an argument`, `missing argument for option '${word}'`);
      }
    } else {
      for (let place = 1; place < word.length && !help; place++) {
        const letter = word[place] ?? '';
        const key = findShort(spec, letter);
        const isLast = place === word.length - 1;
        if (key === null) {
          const old = isLast ? word : (operands.at(-1) ?? previous);
          fail(`invalid option -- '${letter}'`, `unrecognized option '${old}'`);
        } else if (key === 'help') {
          help = true;
        } else if (optionOf(spec, key).argument === undefined) {
          take(key, '');
        } else if (!isLast) {
          take(key, word.slice(place + 1));
          break;
        } else if (at < argv.length) {
          take(key, argv[at] ?? '');
          at++;
        } else {
          fail(`option requires an argument -- '${letter}'`, `missing argument for option '${word}'`);
        }
      }
    }
    previous = argv[at - 1] ?? word;
  }
  if (last !== null) operands.push(last);
  return {
    help,
    operands,
    has: (key) => values.has(key),
    last: (key) => values.get(key)?.at(-1) ?? null,
    all: (key) => values.get(key) ?? [],
    given,
  };
}

function asksForHelp(words: readonly string[]): boolean {
  return words.at(-1) === '-h' || words.at(-1) === '--help';
}

function optionOf(spec: CommandSpec, key: string): OptionSpec {
  const option = spec.options[key];
  if (option === undefined) throw new Error(`no option '${key}' in the table of ${spec.name}`);
  return option;
}

function findShort(spec: CommandSpec, letter: string): string | null {
  if (letter === 'h') return 'help';
  return Object.keys(spec.options).find((key) => spec.options[key]?.short === letter) ?? null;
}

/** The key of a long name, or of the only option that begins with it. `refuse` is told the candidates otherwise. */
function findLong(spec: CommandSpec, name: string, refuse: (candidates: string[]) => never): string {
  const rows = [['help', 'help'] as const].concat(
    Object.entries(spec.options).flatMap(([key, { long = [] }]) => long.map((word) => [key, word] as const)) as never,
  ) as (readonly [string, string])[];
  const exact = rows.find(([, word]) => word === name);
  if (exact !== undefined) return exact[0];
  const candidates = rows.filter(([, word]) => word.startsWith(name) && name !== '');
  const first = candidates[0];
  if (first !== undefined && candidates.every(([key]) => key === first[0])) return first[0];
  return refuse(candidates.map(([, word]) => word));
}

/** `--output`: human unless json. Throws `CommandError`'s sentence as a usage mistake without the pointer to the help. */
export function readOutput(args: Arguments<'output'>, refuse: (text: string) => Error): 'human' | 'json' {
  const value = args.last('output') ?? 'human';
  if (value !== 'human' && value !== 'json') throw refuse('--output must be used with human or json as argument.');
  return value;
}
