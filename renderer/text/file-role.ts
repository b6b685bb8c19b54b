// What a file is to its image, in words.
import { messageOf } from './message.svelte.ts';

/** `extents.3` is extent 3, `file` the file of the image itself; what there is no word for is named as the engine names it. */
export function roleText(role: string): string {
  const [kind = role, ...rest] = role.split('.');
  const word = messageOf(`role.${kind}`);
  if (word === null) return role;
  const number = rest.find((part) => /^\d+$/.test(part));
  return number === undefined ? word : `${word} ${number}`;
}
