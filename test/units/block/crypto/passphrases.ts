// Encrypted images made and read by qemu-img: the secret in its arguments, and another try where it cannot measure its own speed.
import type { SecretSource } from '../../../../core/block/crypto/secret.ts';
import { runPeer, type Finished } from '../../../peers.ts';

/** The passphrase that the tests use, in ASCII and beyond. */
export const passphrase = 'correct hörse';

/** As bytes. */
export const secretBytes = Buffer.from(passphrase, 'utf8');

/** Hands out that passphrase for the name `s`, and for none. */
export const secret: SecretSource = ({ id }) => (id === null || id === 's' ? secretBytes : null);

/** `--object` for qemu-img and qemu-io: `s` is the passphrase, `other` is another one. */
export const secretArgs = ['--object', `secret,id=s,data=${passphrase}`, '--object', 'secret,id=other,data=other'];

/** Fewest rounds of PBKDF2, so that the tests are quick. */
export const quick = 'iter-time=1';

/** qemu-img or qemu-io with the secrets; `verb` first. On a machine that counts time in ticks qemu may fail to measure itself: again. */
export function runWithSecrets(
  name: 'qemu-img' | 'qemu-io',
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): Finished {
  const all = name === 'qemu-img' ? [args[0] ?? '', ...secretArgs, ...args.slice(1)] : [...secretArgs, ...args];
  for (let tries = 0; ; tries++) {
    const finished = runPeer(name, all, options);
    if (tries === 50 || !finished.stderr.includes('accurate CPU usage')) return finished;
  }
}

/** The same for a step that must succeed. */
export function mustRunWithSecrets(
  name: 'qemu-img' | 'qemu-io',
  args: readonly string[],
  options: { readonly cwd?: string } = {},
): string {
  const { status, stdout, stderr } = runWithSecrets(name, args, options);
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: exit ${status}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}
