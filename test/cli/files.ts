// The files that the transcripts speak of.
import fs from 'node:fs';
import path from 'node:path';
import { mustRun } from '../peers.ts';

/** base.img (raw), top.qcow2 (data, zeroes, compressed), sub/t1 (an overlay over base.img). */
export function prepare(folder: string): void {
  const at = { cwd: folder };
  mustRun('qemu-img', ['create', '-q', '-f', 'raw', 'base.img', '3M'], at);
  mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 64k', '-c', 'write -P 2 1M 64k', 'base.img'], at);
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'top.qcow2', '2M'], at);
  mustRun(
    'qemu-io',
    ['-c', 'write -P 4 256k 64k', '-c', 'write -z 512k 64k', '-c', 'write -c -P 6 1M 64k', 'top.qcow2'],
    at,
  );
  fs.mkdirSync(path.join(folder, 'sub'));
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', '../base.img', '-F', 'raw', 'sub/t1'], at);
}
