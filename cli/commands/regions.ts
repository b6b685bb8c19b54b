// platter regions: what each stretch of an image's file, or of the guest's disk, is for.
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { lookOptions, openForLooking } from '../looked-at.ts';
import { CommandError, out, outLine } from '../print.ts';

export const spec = defineCommand({
  name: 'regions',
  summary: "list what each stretch of an image's file, or of the guest's disk, is for",
  operands: 'FILE',
  options: { ...lookOptions, output: sharedOptions.output },
  notes: [
    'Every byte is in exactly one region. Kinds: header, table, log, data, lost (nothing refers to it). With --guest: partition tables, ' +
      'the heads of file systems, partitions.',
  ],
  examples: [
    ['regions disk.qcow2', 'header, tables and data of the file, in order'],
    ['regions --guest --output=json disk.vhdx', "partition tables and file systems of the guest's disk"],
  ],
});

export function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  return Promise.resolve().then(() => list(args));
}

function list(args: Arguments<keyof typeof spec.options>): number {
  const output = readOutput(args, (text) => new CommandError(text));
  const looked = openForLooking(args, spec.name);
  try {
    if (output === 'json') {
      let lead = '[';
      for (const { start, length, kind, label } of looked.regions()) {
        out(`${lead}${JSON.stringify({ start, length, kind, label })}`);
        lead = ',\n';
      }
      out(lead === '[' ? '[]\n' : ']\n');
      return 0;
    }
    outLine(`${'Offset'.padEnd(16)}${'Length'.padEnd(16)}${'Kind'.padEnd(8)}What`);
    for (const { start, length, kind, label } of looked.regions()) {
      outLine(`${hex(start).padEnd(16)}${hex(length).padEnd(16)}${kind.padEnd(8)}${label}`);
    }
  } finally {
    looked.close();
  }
  return 0;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
