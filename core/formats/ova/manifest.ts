// The manifest of a package (DSP0243 section 5.1): a digest for each file, read and compared.
import crypto from 'node:crypto';
import type { Storage } from '../../block/storage.ts';
import { MiB } from '../../block/units.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import { digestNames } from './spec.ts';

/** One line: `SHA256(disk.vmdk)= 0123…`. */
export interface ManifestLine {
  readonly name: string;
  /** As the manifest calls it: SHA1, SHA256, … */
  readonly algorithm: string;
  /** Lower-case hexadecimal digits. */
  readonly digest: string;
}

/** Reads a manifest. Throws `ova/manifest-line` for what is no line of one, or names a digest that is not known. */
export function parseManifest(bytes: Uint8Array, where: Where): ManifestLine[] {
  const lines: ManifestLine[] = [];
  for (const [index, text] of Buffer.from(bytes).toString('utf8').split('\n').entries()) {
    const line = text.trim();
    if (line === '') continue;
    const match = /^([A-Za-z0-9-]+)\s*\((.*)\)\s*=\s*([0-9a-fA-F]+)$/.exec(line);
    const algorithm = (match?.[1] ?? '').toUpperCase().replace('-', '');
    const digest = (match?.[3] ?? '').toLowerCase();
    if (match === null || digestNames[algorithm]?.digits !== digest.length) {
      throw new ImageError('ova/manifest-line', { line: index + 1, found: line.slice(0, 80) }, where);
    }
    lines.push({ name: match[2] ?? '', algorithm, digest });
  }
  return lines;
}

const piece = MiB;

/** The digest of all of `storage`, computed piece by piece; yields how many bytes are done. Throws `storage/*`. */
export function* digestOf(storage: Storage, algorithm: string): Generator<number, string, void> {
  const hash = crypto.createHash(digestNames[algorithm]?.hash ?? algorithm);
  const buffer = new Uint8Array(Math.min(piece, storage.size));
  for (let at = 0; at < storage.size;) {
    const part = buffer.subarray(0, Math.min(piece, storage.size - at));
    storage.readAt(part, at);
    hash.update(part);
    at += part.length;
    yield at;
  }
  return hash.digest('hex');
}

/** A line as it is written. */
export function manifestLine({ name, algorithm, digest }: ManifestLine): string {
  return `${algorithm}(${name})= ${digest}\n`;
}
