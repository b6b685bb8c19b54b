// A sample on disk: its folder, `case.json`, and how its files are unpacked.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { runPeer } from '../peers.ts';

/** One stretch of `map --output=json`. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present?: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

/** What other programs say of the sample. */
export interface Expectation {
  /** How it opens: by default it does; `refuse`: it must not; `refuse-content`: info may, nothing else; the others: either. */
  readonly open?: 'refuse' | 'refuse-content' | 'refuse-or-read' | 'refuse-or-replay';
  /** The contents that are right. */
  readonly raw: readonly { readonly size: number; readonly sd64k: string }[];
  /** The `sd64k` of each internal snapshot, by name. */
  readonly snapshots?: Readonly<Record<string, string>>;
  readonly virtual_size?: number;
  readonly info?: Readonly<Record<string, unknown>>;
  /** The format found without being told. */
  readonly probe?: string | null;
  readonly noconvert?: boolean;
  readonly check_rc?: number;
  readonly check?: Readonly<Record<string, unknown>> | null;
  readonly map_rc?: number;
  readonly map?: readonly MapEntry[];
}

export interface SampleCase {
  readonly id: string;
  readonly format: string;
  readonly creator: string;
  readonly note: string;
  /** The file that is opened, and the options before its name. */
  readonly main: string;
  readonly args: readonly string[];
  readonly files: Readonly<Record<string, { stored?: string; size?: number; zeros?: number }>>;
  readonly expect: Expectation;
}

export interface Sample {
  readonly folder: string;
  readonly about: SampleCase;
}

/** The samples in the folders of `root`, by name. */
export function samplesIn(root: string): Sample[] {
  return fs
    .readdirSync(root)
    .sort()
    .map((name) => path.join(root, name))
    .filter((folder) => fs.existsSync(path.join(folder, 'case.json')))
    .map((folder) => ({
      folder,
      about: JSON.parse(fs.readFileSync(path.join(folder, 'case.json'), 'utf8')) as SampleCase,
    }));
}

/** Writes the files of the sample into `target`, sparse, and gives the path of the main one. */
export function unpackSample(sample: Sample, target: string): string {
  for (const [name, file] of Object.entries(sample.about.files)) {
    const into = path.join(target, name);
    if (file.stored === undefined) {
      fs.writeFileSync(into, '');
      fs.truncateSync(into, file.zeros ?? 0);
      continue;
    }
    writeSparse(into, unpacked(path.join(sample.folder, file.stored)));
  }
  return path.join(target, sample.about.main);
}

function unpacked(stored: string): Uint8Array {
  if (stored.endsWith('.gz')) return zlib.gunzipSync(fs.readFileSync(stored));
  if (stored.endsWith('.br')) return zlib.brotliDecompressSync(fs.readFileSync(stored));
  if (!stored.endsWith('.bz2')) return fs.readFileSync(stored);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-bz2-'));
  try {
    const copy = path.join(folder, 'stored.bz2');
    fs.copyFileSync(stored, copy);
    fs.chmodSync(copy, 0o600);
    const { status, stderr } = runPeer('bzip2', ['-d', copy]);
    if (status !== 0) throw new Error(`bzip2 -d ${stored}: ${stderr}`);
    return fs.readFileSync(path.join(folder, 'stored'));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

// As the foreign images were unpacked when their maps were recorded: a map shows the holes of the file.
const step = 64 * 1024;
const zeroes = Buffer.alloc(step);

/** Writes `bytes`, leaving holes where a whole block is zero. */
function writeSparse(name: string, bytes: Uint8Array): void {
  const file = fs.openSync(name, 'w');
  try {
    for (let at = 0; at < bytes.length; at += step) {
      const piece = bytes.subarray(at, at + step);
      if (Buffer.compare(piece, zeroes.subarray(0, piece.length)) !== 0) fs.writeSync(file, piece, 0, piece.length, at);
    }
    fs.ftruncateSync(file, bytes.length);
  } finally {
    fs.closeSync(file);
  }
}
