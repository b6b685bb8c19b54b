// npm run bench: our command and qemu-img in turn on the same warm files; a table of ratios. No test: nothing fails for being slow.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { GiB, MiB } from '../core/block/units.ts';
import { makeMaterial, type Material } from './material.ts';
import { compare, type Command } from './measure.ts';
import { rows, type Row } from './rows.ts';

const { values } = parseArgs({
  options: {
    pairs: { type: 'string', default: '5' },
    only: { type: 'string', default: '' },
    size: { type: 'string', default: '6' },
    keep: { type: 'string' },
  },
});

const platter = path.join(import.meta.dirname, '..', 'bin', 'platter');

function ours(row: Row, material: Material, out: string): Command {
  return { program: platter, args: row.args(material, out), env: { PLATTER_PROGNAME: 'qemu-img' } };
}

function theirs(row: Row, material: Material, out: string): Command {
  const args = row.theirArgs ?? row.args;
  return { program: 'qemu-img', args: args(material, out) };
}

async function main(): Promise<void> {
  const folder = values.keep ?? fs.mkdtempSync(path.join(os.tmpdir(), 'platter-bench-'));
  fs.mkdirSync(folder, { recursive: true });
  try {
    const material = makeMaterial(folder, Number(values.size) * GiB);
    const version = execFileSync('qemu-img', ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
    console.log(
      `${os.cpus()[0]?.model ?? 'unknown processor'}, ${os.availableParallelism()} cores, ${os.type()} ${os.release()}`,
    );
    console.log(
      `Node ${process.version}, ${version}, ${new Date().toISOString().slice(0, 10)}, medians of ${values.pairs} pairs\n`,
    );
    console.log('| work | ours | qemu-img | ratio | target | peak memory |');
    console.log('|---|---|---|---|---|---|');
    for (const row of rows) {
      if (!new RegExp(values.only).test(row.name)) continue;
      const out = path.join(folder, 'out');
      const tidy = (): void => {
        for (const file of fs.readdirSync(folder)) if (file.startsWith('out')) fs.rmSync(path.join(folder, file));
      };
      const result = await compare(ours(row, material, out), theirs(row, material, out), Number(values.pairs), tidy);
      tidy();
      const cells = [
        row.name,
        `${result.ours.toFixed(2)} s`,
        `${result.theirs.toFixed(2)} s`,
        result.ratio.toFixed(2),
        row.target,
        `${Math.round(result.peak / MiB)} MiB`,
      ];
      console.log(`| ${cells.join(' | ')} |`);
    }
  } finally {
    if (values.keep === undefined) fs.rmSync(folder, { recursive: true, force: true });
  }
}

await main();
