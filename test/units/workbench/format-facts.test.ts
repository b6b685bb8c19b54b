// What the facts of a format promise, held against what the verbs then do.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { isImageError } from '../../../core/errors/image-error.ts';
import { allDrivers } from '../../../core/formats/registry.ts';
import { silentJob } from '../../../core/job.ts';
import { convert } from '../../../core/operations/convert.ts';
import { create } from '../../../core/operations/create.ts';
import { factsOf } from '../../../core/workbench/format-facts.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'format facts', () => {
  const root = scratchFolder('format-facts');
  const source = path.join(root, 'source.raw');
  const facts = allDrivers().map(factsOf);
  const codeOf = async (work: Promise<unknown>): Promise<string | null> => {
    try {
      await work;
      return null;
    } catch (error) {
      if (isImageError(error)) return error.code;
      throw error;
    }
  };
  /** Every format with every subformat that it has. */
  const kinds = facts.flatMap(({ id, subformats, canCompress, hasBacking, verbs }) =>
    (subformats.length === 0 ? [{ name: null, canCompress, hasBacking }] : subformats).map((kind) => ({
      id,
      verbs,
      ...kind,
    })),
  );
  const optionsOf = (name: string | null): Record<string, string> => (name === null ? {} : { subformat: name });

  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', source, '4M']);
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 7 1M 1M', source]);
  });

  it('know into what a conversion can compress', async () => {
    const said: string[] = [];
    for (const { id, name, canCompress, verbs } of kinds) {
      if (!verbs.includes('convert') || id === 'luks') continue; // LUKS wants a passphrase first
      const folder = path.join(root, `compressed-${id}-${name ?? ''}`);
      fs.mkdirSync(folder);
      const code = await codeOf(
        convert(
          {
            sources: [{ path: source, options: { format: 'raw' } }],
            snapshot: null,
            target: path.join(folder, `out.${id}`),
            format: id,
            options: optionsOf(name),
            backing: null,
            existing: null,
            targetIsZero: false,
            compress: true,
            offload: false,
            sparse: 4096,
            cache: undefined,
            depth: 8,
            outOfOrder: true,
            rate: 0,
            salvage: false,
            verify: true,
            keepIdentity: false,
          },
          silentJob,
        ),
      );
      if ((code === null) !== canCompress) said.push(`${id} ${name ?? ''}: ${code ?? 'compressed'}`);
    }
    expect(said).toEqual([]);
  });

  it('know what can have a layer below', async () => {
    const said: string[] = [];
    for (const { id, name, hasBacking, verbs } of kinds) {
      if (!verbs.includes('create') || id === 'luks') continue;
      const folder = path.join(root, `over-${id}-${name ?? ''}`);
      fs.mkdirSync(folder);
      const base = path.join(folder, `base.${id}`);
      mustRun('qemu-img', ['create', '-q', '-f', id, base, '4M']);
      const backing = { path: base, format: id };
      const code = await codeOf(
        create(
          {
            path: path.join(folder, `top.${id}`),
            format: id,
            size: null,
            options: optionsOf(name),
            backing,
            unsafe: false,
          },
          silentJob,
        ),
      );
      if ((code === null) !== hasBacking) said.push(`${id} ${name ?? ''}: ${code ?? 'made'}`);
    }
    expect(said).toEqual([]);
  });

  it('say the table of the README', () => {
    const readme = fs.readFileSync(path.resolve(import.meta.dirname, '../../../README.md'), 'utf8');
    const columns = ['raw', 'qcow', 'qcow2', 'vpc', 'vhdx', 'vmdk', 'vdi', 'luks'];
    const rows = { snapshot: 'snapshot', overlay: 'overlay', rebase: 'rebase', commit: 'commit', amend: 'amend' };
    const more = { bitmap: 'bitmap', check: 'check', repair: 'check` -r', resize: 'resize', undo: 'undo' };
    for (const [verb, title] of Object.entries({ ...rows, ...more })) {
      const start = verb === 'repair' ? '| `check -r`' : `| \`${title}\``;
      const line = readme.split('\n').find((one) => one.startsWith(start)) ?? '';
      const cells = line.split('|').slice(2, 10);
      const written = columns.filter((_, index) => !(cells[index] ?? '–').includes('–'));
      const known = columns.filter((id) => facts.find((one) => one.id === id)?.verbs.some((one) => one === verb));
      expect({ verb, formats: known }).toEqual({ verb, formats: written });
    }
  });
});
