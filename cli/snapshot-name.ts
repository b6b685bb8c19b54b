// `-l`: how a command line names an internal snapshot.
import { parseKeyValues } from './key-values.ts';
import { CommandError, complain } from './print.ts';

/**
 * The id or name that `text` stands for: itself, or what `snapshot.id=…,snapshot.name=…` says; null: none was given. Throws
 * `CommandError`.
 */
export function readSnapshotName(text: string | null): string | null {
  if (text === null || !text.startsWith('snapshot.')) return text;
  const values = new Map(parseKeyValues(text).map(({ name, value }) => [name, value]));
  const unknown = [...values.keys()].find((name) => name !== 'snapshot.id' && name !== 'snapshot.name');
  if (unknown !== undefined) complain(`Invalid parameter '${unknown}'`);
  const wanted = values.get('snapshot.id') ?? values.get('snapshot.name');
  if (wanted === undefined || unknown !== undefined) {
    throw new CommandError(`Failed in parsing snapshot param '${text}'`);
  }
  return wanted;
}
