// Passphrases for encrypted images: the secrets of `--object`, and where none is named a question in the terminal. Kept in memory only.
import fs from 'node:fs';
import path from 'node:path';
import type { SecretNeed, SecretSource } from '../core/block/crypto/secret.ts';
import { identityOfName } from '../core/block/host/opening.ts';
import { actsAsQemuImg } from './level.ts';
import { anyImage, type Secrets } from './objects.ts';
import { CommandError, err } from './print.ts';

/** The secrets that were defined, and no other: by the name that the image's description says, or the one defined for its file. */
export function definedSecrets(secrets: Secrets): SecretSource {
  return ({ id, file, isNew }) => {
    const named = id ?? (isNew ? null : idForFile(secrets, file));
    return named === null ? null : (secrets.get(named) ?? null);
  };
}

function idForFile({ ofImages }: Secrets, file: string): string | null {
  if (ofImages.size === 0) return null;
  const found = ofImages.get(path.resolve(file));
  if (found !== undefined) return found;
  // Another name of the same file: links, and folders that are.
  const identity = identityOfName(file);
  const same = identity === null ? undefined : [...ofImages].find(([name]) => identityOfName(name) === identity);
  return same?.[1] ?? ofImages.get(anyImage) ?? null;
}

/**
 * The secrets that were defined; where an image needs one and none is named, the user is asked, once per image. Nobody is asked when
 * there is no terminal, nor when we stand in for qemu-img, which does not ask. Throws `CommandError` when a new passphrase is not
 * typed twice alike, and when the user breaks off.
 */
export function secretSource(secrets: Secrets): SecretSource {
  const defined = definedSecrets(secrets);
  const answers = new Map<string, Uint8Array>();
  return (need) => {
    const known = defined(need);
    if (known !== null || need.id !== null || !canAsk()) return known;
    const key = path.resolve(need.file);
    const answer = answers.get(key) ?? ask(need);
    answers.set(key, answer);
    return answer;
  };
}

function canAsk(): boolean {
  return !actsAsQemuImg && process.stdin.isTTY && process.stderr.isTTY;
}

function ask({ file, isNew }: SecretNeed): Uint8Array {
  const first = readHidden(`Passphrase for ${file}: `);
  if (isNew && Buffer.compare(first, readHidden('The same once more: ')) !== 0) {
    throw new CommandError('The two passphrases differ; nothing was done');
  }
  return first;
}

const [enter, newLine, interrupt, endOfInput, backspace, deletion] = [13, 10, 3, 4, 8, 127];
const longest = 4096;

/** A line from the terminal that is not shown while it is typed. */
function readHidden(prompt: string): Buffer {
  const { stdin } = process;
  const typed: number[] = [];
  stdin.setRawMode(true);
  try {
    err(prompt);
    for (;;) {
      const byte = readByte();
      if (byte === enter || byte === newLine) break;
      if (byte === interrupt || byte === null || (byte === endOfInput && typed.length === 0)) {
        throw new CommandError('No passphrase was given', { exitCode: 130 });
      }
      if (byte === endOfInput) break;
      if (byte === backspace || byte === deletion) dropCharacter(typed);
      else if (typed.length < longest) typed.push(byte);
    }
  } finally {
    stdin.setRawMode(false);
    err('\n');
  }
  const line = Buffer.from(typed);
  typed.fill(0);
  return line;
}

/** The last character, which may be several bytes of UTF-8. */
function dropCharacter(typed: number[]): void {
  for (let byte = typed.pop(); byte !== undefined && (byte & 0xc0) === 0x80; byte = typed.pop());
}

/** The next byte that is typed; null: the terminal has gone. */
function readByte(): number | null {
  const one = new Uint8Array(1);
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      return fs.readSync(0, one, 0, 1, null) === 1 ? (one[0] ?? null) : null;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) return null;
      Atomics.wait(pause, 0, 0, 20);
    }
  }
}
