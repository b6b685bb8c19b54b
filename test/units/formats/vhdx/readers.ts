// 7-Zip as a second reader of VHDX: it follows differencing chains, which qemu-img does not.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { peer, runPeer } from '../../../peers.ts';

let reads: boolean | null = null;

/** Releases before 21 do not know the format. */
export function sevenZipReadsVhdx(): boolean {
  reads ??= peer('7z') !== null && runPeer('7z', ['i']).stdout.includes('VHDX');
  return reads;
}

/** Why tests that need it are skipped; null: it is there. */
export function whyNoSevenZip(): string | null {
  return sevenZipReadsVhdx() ? null : 'the installed 7z does not read VHDX';
}

/** The guest's disk as 7-Zip reads it, through the layers below. */
export function readBySevenZip(file: string): Uint8Array {
  const program = peer('7z') ?? '7z';
  const child = spawnSync(program, ['x', '-so', '-tvhdx', path.basename(file)], {
    cwd: path.dirname(file),
    maxBuffer: 1024 * 1024 * 1024,
  });
  if (child.status !== 0) throw new Error(`7z ${file}: exit ${child.status}: ${child.stderr.toString()}`);
  return child.stdout;
}

const libvhdiScript = `
import sys, pyvhdi
chain = []
for name in sys.argv[1:]:
    image = pyvhdi.file()
    image.open(name)
    if chain:
        image.set_parent(chain[-1])
    chain.append(image)
left = chain[-1].get_media_size()
while left > 0:
    piece = chain[-1].read_buffer(min(left, 1 << 20))
    sys.stdout.buffer.write(piece)
    left -= len(piece)
`;
const python = '/usr/bin/python3';
let imports: boolean | null = null;

/** Debian's python3-libvhdi is there: libyal's reader, which takes the chain from its base to its top. */
export function libvhdiReads(): boolean {
  imports ??= spawnSync(python, ['-c', 'import pyvhdi']).status === 0;
  return imports;
}

/** The guest's disk of the last of `chain`, base first. */
export function readByLibvhdi(chain: readonly string[]): Uint8Array {
  const child = spawnSync(python, ['-c', libvhdiScript, ...chain], { maxBuffer: 1024 * 1024 * 1024 });
  if (child.status !== 0) throw new Error(`libvhdi ${chain.join(' ')}: ${child.stderr.toString()}`);
  return child.stdout;
}
