// digest: a checksum of what the guest sees, the same for the same disk in every format.
import crypto from 'node:crypto';
import { readGuest, resolve } from '../block/read.ts';
import { MiB } from '../block/units.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';
import { breather } from './breathe.ts';

export interface DigestParams {
  readonly path: string;
  /** Layers below are opened: the guest sees them. */
  readonly options: OpenOptions;
  readonly algorithm: DigestAlgorithm;
}

export const digestAlgorithms = ['sha256', 'sha512', 'sha1', 'md5', 'blake2b512'] as const;
export type DigestAlgorithm = (typeof digestAlgorithms)[number];

export interface DigestResult {
  readonly algorithm: DigestAlgorithm;
  /** Small hexadecimal letters. */
  readonly value: string;
  /** Bytes that went into it: the virtual size. */
  readonly size: number;
}

const piece = 2 * MiB;
const zeroes = new Uint8Array(piece);

/** Digests the whole disk, zeroes included. Throws what opening and reading throw, `request/cancelled`. */
export async function digest({ path, options, algorithm }: DigestParams, job: Job): Promise<DigestResult> {
  const { node } = openImage(path, options);
  try {
    const hash = crypto.createHash(algorithm);
    const buffer = new Uint8Array(piece);
    const breathe = breather();
    let done = 0;
    const step = async (): Promise<void> => {
      job.throwIfCancelled();
      job.progress({ phase: 'digest', done, total: node.size });
      await breathe();
    };
    for (const run of resolve(node)) {
      for (let at = 0; at < run.length;) {
        const length = Math.min(piece, run.length - at);
        if (run.mapping.kind === 'zero') hash.update(zeroes.subarray(0, length));
        else {
          const part = buffer.subarray(0, length);
          readGuest(node, part, run.start + at);
          hash.update(part);
        }
        at += length;
        done += length;
        await step();
      }
    }
    return { algorithm, value: hash.digest('hex'), size: node.size };
  } finally {
    node.close();
  }
}
