// `--object`: what options refer to by name. There is one kind, `secret`; its content stays in memory and is never printed.
import fs from 'node:fs';
import { parseKeyValues } from './key-values.ts';
import { CommandError } from './print.ts';

/** Secrets by id. */
export type Secrets = ReadonlyMap<string, Uint8Array>;

/** Reads the `--object` arguments. Throws `CommandError` in qemu-img's words. */
export function readObjects(definitions: readonly string[], exitCode = 1): Secrets {
  const secrets = new Map<string, Uint8Array>();
  for (const definition of definitions) {
    const [id, content] = readSecret(definition, (text) => new CommandError(text, { exitCode }));
    secrets.set(id, content);
  }
  return secrets;
}

function readSecret(definition: string, refuse: (text: string) => CommandError): [string, Uint8Array] {
  const given = new Map<string, string>();
  for (const { name, value } of parseKeyValues(definition, { implied: 'qom-type' })) given.set(name, value);
  const take = (name: string): string | null => {
    const value = given.get(name) ?? null;
    given.delete(name);
    return value;
  };
  const type = take('qom-type');
  if (type === null) throw refuse("Parameter 'qom-type' is missing");
  if (type !== 'secret') throw refuse(`Parameter 'qom-type' does not accept value '${type}'`);
  const id = take('id');
  if (id === null) throw refuse("Parameter 'id' is missing");
  const data = take('data');
  const file = take('file');
  const format = take('format') ?? 'raw';
  const extra = [...given.keys()][0];
  if (extra !== undefined) throw refuse(`Parameter '${extra}' is unexpected`);
  if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) {
    throw refuse(
      "Parameter 'id' expects an identifier\n" +
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    );
  }
  if (format !== 'raw' && format !== 'base64') throw refuse(`Parameter 'format' does not accept value '${format}'`);
  if (data !== null && file !== null) throw refuse("'file' and 'data' are mutually exclusive");
  if (data === null && file === null) throw refuse("Either 'file' or 'data' must be provided");
  const raw = data === null ? readSecretFile(file ?? '', refuse) : Buffer.from(data, 'utf8');
  return [id, format === 'raw' ? raw : Buffer.from(raw.toString('latin1'), 'base64')];
}

/** The longest secret file that is read. */
const longestSecret = 1024 * 1024;

function readSecretFile(file: string, refuse: (text: string) => CommandError): Buffer {
  try {
    const descriptor = fs.openSync(file, 'r');
    try {
      const buffer = Buffer.alloc(longestSecret);
      let length = 0;
      for (;;) {
        const count = fs.readSync(descriptor, buffer, length, buffer.length - length, null);
        if (count === 0) return buffer.subarray(0, length);
        length += count;
      }
    } finally {
      fs.closeSync(descriptor);
    }
  } catch (error) {
    throw refuse(`Unable to read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
