// What a form of creation options holds, and what it comes to for the engine.
import type { OptionRow } from '../../core/workbench/contract.ts';
import type { OptionValues } from '../text/command-line.ts';
import { parseSize } from '../text/sizes.ts';

/** Options that sheets have fields of their own for. */
const elsewhere = new Set(['size', 'backing_file', 'backing_fmt', 'encryption']);

/** Rows of a form, and those that are about encryption. */
export function splitRows(rows: readonly OptionRow[]): {
  plain: readonly OptionRow[];
  encryption: readonly OptionRow[];
} {
  const asked = rows.filter(({ name }) => !elsewhere.has(name));
  const secret = ({ name }: OptionRow): boolean =>
    name.startsWith('encrypt.') || /^(key-secret|cipher|ivgen|hash|iter)/.test(name);
  return { plain: asked.filter((row) => !secret(row)), encryption: asked.filter(secret) };
}

/** A passphrase is typed, not the name of one. */
export function isPassphrase({ name }: OptionRow): boolean {
  return name === 'key-secret' || name.endsWith('.key-secret');
}

/** The values allowed, also where only the help says them. */
export function choicesOf({ values, meaning, type }: OptionRow): readonly string[] | null {
  if (type === 'bool') return ['on', 'off'];
  if (values !== undefined) return values;
  const listed = /allowed values: ([^)]+)\)/.exec(meaning)?.[1];
  return listed === undefined ? null : listed.split(',').map((value) => value.trim());
}

export interface FormOutcome {
  readonly options: OptionValues;
  readonly secrets: Record<string, string>;
  /** Names of options whose text cannot be read. */
  readonly wrong: readonly string[];
}

/** Name under which a typed passphrase of the new image is handed over. */
const targetSecret = 'target';

/** Reads the texts of a form; empty ones are left to the engine. */
export function readForm(rows: readonly OptionRow[], texts: Readonly<Record<string, string>>): FormOutcome {
  const options: OptionValues = {};
  const secrets: Record<string, string> = {};
  const wrong: string[] = [];
  for (const row of rows) {
    const text = texts[row.name] ?? '';
    if (text.trim() === '' || elsewhere.has(row.name)) continue;
    if (isPassphrase(row)) {
      options[row.name] = targetSecret;
      secrets[targetSecret] = text;
      continue;
    }
    const value = valueOf(row, text.trim());
    if (value === null) wrong.push(row.name);
    else options[row.name] = value;
  }
  return { options, secrets, wrong };
}

function valueOf({ type }: OptionRow, text: string): string | number | boolean | null {
  switch (type) {
    case 'bool':
      return text === 'on';
    case 'size':
      return parseSize(text);
    case 'number':
      return /^\d{1,9}$/.test(text) ? Number(text) : null;
    case 'string':
      return text;
  }
}
