// Which version this is.
import fs from 'node:fs';

/** The version of the package, and the version of qemu-img whose arguments and output it takes after. */
export function versionText(): string {
  const file = new URL(import.meta.url.endsWith('.ts') ? '../package.json' : '../../package.json', import.meta.url);
  const { version } = JSON.parse(fs.readFileSync(file, 'utf8')) as { version: string };
  return version;
}
