// Help, made from the tables.
import { allDrivers } from '../core/formats/registry.ts';
import type { CommandSpec, OptionSpec } from './args.ts';
import { commands } from './commands.ts';
import { programName } from './level.ts';
import { out } from './print.ts';

const width = 100;

/** Help of the program: its verbs and what holds for all of them. */
export function printProgramHelp(): void {
  const lines = [
    `usage: ${programName} COMMAND [OPTIONS] …`,
    '',
    'Creates, converts, checks and looks into images of virtual disks, with the arguments of qemu-img.',
    '',
    'Commands:',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`),
    '',
    '',
    'Options before a command:',
    '  -h, --help     print this text',
    '  -V, --version  print the version',
    '',
    'Every command:',
    `  ${programName} COMMAND --help   prints its options with examples`,
    ...wrap('exit codes are those of qemu-img: 0 done, 1 failed; check and compare have more (see there)', '  '),
    '',
    'Sizes are bytes, or numbers with a suffix: k, M, G, T, P, E (1024, 1024k, …). 1.5G and 0x10000 are sizes too.',
    '',
    `Formats: ${allDrivers()
      .map(({ id }) => id)
      .sort()
      .join(' ')}`,
    '',
    'Environment:',
    '  PLATTER_PROGNAME=NAME      the name in front of messages; qemu-img: its words and nothing besides',
    '  PLATTER_QEMU_COMPAT=7.2    text and JSON as qemu-img 7.2 prints them (default: 10.0)',
    '  PLATTER_DEBUG=1            a stack trace with internal errors',
  ];
  out(`${lines.join('\n')}\n`);
}

/** Help of one verb. */
export function printCommandHelp(spec: CommandSpec): void {
  const options: [string, OptionSpec][] = [
    ...Object.entries(spec.options),
    ['help', { short: 'h', long: ['help'], meaning: 'print this text' }],
  ];
  const lines = [
    ...wrap(`usage: ${programName} ${spec.name} [OPTIONS] ${spec.operands}`.trimEnd(), ''),
    '',
    ...wrap(`${capital(spec.summary)}.`, ''),
    '',
    'Options:',
    ...options.flatMap(([, option]) => describeOption(option)),
  ];
  for (const note of spec.notes ?? []) lines.push('', ...wrap(note, ''));
  if (spec.examples.length > 0) lines.push('', 'Examples:');
  for (const [line, meaning] of spec.examples) {
    lines.push(`  ${programName} ${line}`, ...wrap(meaning, '      '));
  }
  out(`${lines.join('\n')}\n`);
}

function describeOption({ short, long = [], argument, meaning }: OptionSpec): string[] {
  const names = [...(short === undefined ? [] : [`-${short}`]), ...long.map((name) => `--${name}`)].join(', ');
  const head = `  ${short === undefined ? '    ' : ''}${names}${argument === undefined ? '' : ` ${argument}`}`;
  const body = wrap(meaning, ' '.repeat(28));
  if (head.length <= 26) return [head.padEnd(28) + (body[0] ?? '').trimStart(), ...body.slice(1)];
  return [head, ...body];
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > width) {
      lines.push(indent + line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, indent + line];
}
