// The engine's errors in Chinese: every code that can reach the window has a sentence there, filled with what its English one is filled with.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { errorCodes } from '../../core/errors/messages.ts';
import { errorsZhCN } from '../../renderer/text/messages/errors.zh-cn.ts';
import { findingsZhCN } from '../../renderer/text/messages/findings.zh-cn.ts';

/** Never seen in the window: the command line alone does that. */
const commandLineOnly = ['bench/request', 'bench/memory', 'bench/flush', 'serve/listen'];

/**
 * Faults of the structures of one format: they name fields of its specification, which is English, and their English sentence stays.
 * A code of these that has a sentence is in the table all the same.
 */
const structures = ['qcow2/', 'qcow/', 'qed/', 'vhd/', 'vhdx/', 'vmdk/', 'vdi/', 'luks/', 'ova/'];

const errors = path.resolve(import.meta.dirname, '../../core/errors');
const source = [
  path.join(errors, 'messages.ts'),
  ...fs.readdirSync(path.join(errors, 'messages')).map((name) => path.join(errors, 'messages', name)),
]
  .map((file) => fs.readFileSync(file, 'utf8'))
  .join('\n');

/** The row of a code as it stands in the engine's table. */
function rowOf(code: string): string {
  const start = source.indexOf(`  '${code}':`);
  const rest = source.slice(start + 3);
  return rest.slice(0, rest.search(/\n {2}'|\n\} as const|\n {2}\.\.\.|\n {2}\/\//));
}

describe('what a check finds, in Chinese', () => {
  it('goes by sentences that the engine has', () => {
    const core = path.resolve(import.meta.dirname, '../../core');
    const all = fs
      .readdirSync(core, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => fs.readFileSync(path.join(core, name), 'utf8'))
      .join('\n');
    for (const [pattern] of findingsZhCN) {
      // The words before the first figure.
      const start = pattern.source.slice(1).split(/ \(|\(|\$/)[0] ?? '';
      const known = all.includes(start) || all.includes(start.replace(/^(Leaked|ERROR) /, ''));
      expect(known, pattern.source).toBe(true);
    }
    expect(findingsZhCN.length).toBeGreaterThan(15);
  });
});

describe('the sentences of errors in Chinese', () => {
  it('are there for every code that can reach the window', () => {
    const missing = errorCodes.filter(
      (code) =>
        errorsZhCN[code] === undefined &&
        !commandLineOnly.includes(code) &&
        !structures.some((start) => code.startsWith(start)),
    );
    expect(missing).toEqual([]);
  });

  it('belong to codes that there are, and what is left out does not', () => {
    const known: readonly string[] = errorCodes;
    expect(Object.keys(errorsZhCN).filter((code) => !known.includes(code))).toEqual([]);
    expect(commandLineOnly.filter((code) => !known.includes(code) || errorsZhCN[code] !== undefined)).toEqual([]);
    expect(structures.filter((start) => !known.some((code) => code.startsWith(start)))).toEqual([]);
  });

  it('are filled with nothing that the error does not tell', () => {
    for (const [code, text] of Object.entries(errorsZhCN)) {
      const row = rowOf(code);
      for (const [, hole] of text.matchAll(/\{(\w+)\}/g)) expect(row, code).toContain(`d.${hole ?? ''}`);
    }
  });

  it('are Chinese, but for those that say only what was found', () => {
    const plain = Object.entries(errorsZhCN).filter(([, text]) => !/\p{Script=Han}/u.test(text));
    expect(plain.filter(([, text]) => !/^\{\w+\}$/.test(text))).toEqual([]);
  });
});
