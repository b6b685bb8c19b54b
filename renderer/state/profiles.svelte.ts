// The platforms that images can be made for, asked for once.
import type { Profile } from '../../core/workbench/contract.ts';
import { client } from '../bridge.ts';

const known = $state<{ list: readonly Profile[] }>({ list: [] });
let asked: Promise<void> | null = null;

/** Those that are known by now; the first call asks for them. */
export function profiles(): readonly Profile[] {
  asked ??= client.profiles.list().then(
    (list) => {
      known.list = list;
    },
    () => {
      asked = null; // the connection was lost: the next sheet asks again
    },
  );
  return known.list;
}
