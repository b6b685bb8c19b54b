// info, map, check, measure, compare and dd over images of many kinds that qemu-img made.
import fs from 'node:fs';
import path from 'node:path';
import { mustRun } from '../peers.ts';
import { sameAsQemuImg } from './transcripts.ts';

/** Name, creation (arguments after `create -q`), writes by qemu-io. */
const images: readonly (readonly [name: string, create: string, ...writes: string[]])[] = [
  ['base.raw', '-f raw base.raw 3M', 'write -P 1 0 64k', 'write -P 2 1M 64k', 'write -P 3 2M 128k'],
  [
    'mid.qcow2',
    '-f qcow2 -b base.raw -F raw mid.qcow2 4M',
    'write -P 4 128k 64k',
    'write -z 1M 64k',
    'write -P 5 3500k 64k',
  ],
  [
    'top.qcow2',
    '-f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 5M',
    'write -P 4 256k 64k',
    'write -z -u 2M 64k',
    'discard 128k 64k',
  ],
  ['small.qcow2', '-f qcow2 -o cluster_size=512 -b mid.qcow2 -F qcow2 small.qcow2', 'write -P 4 1k 1k'],
  ['packed.qcow2', '-f qcow2 packed.qcow2 2M', 'write -P 4 256k 64k', 'write -z 512k 64k', 'write -c -P 6 1M 64k'],
  ['zstd.qcow2', '-f qcow2 -o compression_type=zstd zstd.qcow2 2M', 'write -c -P 6 1M 64k'],
  ['metadata.qcow2', '-f qcow2 -o preallocation=metadata metadata.qcow2 2M'],
  ['falloc.qcow2', '-f qcow2 -o preallocation=falloc falloc.qcow2 2M', 'write -z 512k 64k'],
  ['full.qcow2', '-f qcow2 -o preallocation=full full.qcow2 2M'],
  ['old.qcow2', '-f qcow2 -o compat=0.10 old.qcow2 2M', 'write -P 4 256k 64k', 'write -z 512k 64k'],
  ['lazy.qcow2', '-f qcow2 -o lazy_refcounts=on,refcount_bits=1 lazy.qcow2 2M', 'write -P 4 256k 64k'],
  ['external.qcow2', '-f qcow2 -o data_file=external.raw external.qcow2 2M', 'write -P 4 256k 64k'],
  ['mirror.qcow2', '-f qcow2 -o data_file=mirror.raw,data_file_raw=on mirror.qcow2 2M', 'write -P 4 256k 64k'],
  ['odd.raw', '-f raw odd.raw 1k'],
  ['overodd.qcow2', '-f qcow2 -b odd.raw -F raw overodd.qcow2 100k'],
  ['empty.qcow2', '-f qcow2 empty.qcow2 0'],
  ['big.qcow2', '-f qcow2 -o cluster_size=2M big.qcow2 1T', 'write -P 7 1023G 1M', 'write -P 7 5G 3M'],
];

const names = images.map(([name]) => name);

function prepare(folder: string): void {
  const at = { cwd: folder };
  for (const [name, create, ...writes] of images) {
    mustRun('qemu-img', ['create', '-q', ...create.split(' ')], at);
    const commands = writes.flatMap((write) => ['-c', write]);
    if (commands.length > 0) mustRun('qemu-io', ['-f', path.extname(name).slice(1), ...commands, name], at);
  }
  fs.truncateSync(path.join(folder, 'odd.raw'), 1000);
  fs.writeFileSync(path.join(folder, 'nothing.raw'), '');
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'snapshots.qcow2', '2M'], at);
  mustRun('qemu-io', ['-c', 'write -P 4 256k 64k', 'snapshots.qcow2'], at);
  mustRun('qemu-img', ['snapshot', '-c', 'before', 'snapshots.qcow2'], at);
  mustRun('qemu-io', ['-c', 'write -P 5 256k 128k', 'snapshots.qcow2'], at);
  mustRun('qemu-img', ['snapshot', '-c', 'after', 'snapshots.qcow2'], at);
  mustRun('qemu-img', ['bitmap', '--add', 'packed.qcow2', 'daily'], at);
  // A leak, and a cluster that two entries claim.
  mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'leak.qcow2', '2M'], at);
  mustRun('qemu-io', ['-c', 'write 0 128k', 'leak.qcow2'], at);
  fs.copyFileSync(path.join(folder, 'leak.qcow2'), path.join(folder, 'twice.qcow2'));
  patchTable(path.join(folder, 'leak.qcow2'), () => 0n);
  patchTable(path.join(folder, 'twice.qcow2'), (first) => first);
}

/** Gives the second entry of the first L2 table the value that `make` makes of the first. */
function patchTable(file: string, make: (first: bigint) => bigint): void {
  const bytes = fs.readFileSync(file);
  const l1 = Number(bytes.readBigUInt64BE(40));
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
  bytes.writeBigUInt64BE(make(bytes.readBigUInt64BE(l2)), l2 + 8);
  fs.writeFileSync(file, bytes);
}

const all = [...names, 'nothing.raw', 'snapshots.qcow2'];
const chained = ['top.qcow2', 'small.qcow2', 'overodd.qcow2'];
const measured = ['base.raw', 'mid.qcow2', 'top.qcow2', 'metadata.qcow2', 'falloc.qcow2', 'old.qcow2', 'overodd.qcow2'];

sameAsQemuImg('info', {
  readOnly: true,
  prepare,
  lines: [
    ...all.flatMap((name) => [`info ${name}`, `info --output=json ${name}`]),
    ...chained.flatMap((name) => [`info --backing-chain ${name}`, `info --backing-chain --output=json ${name}`]),
    'info -U top.qcow2',
    'info -f raw top.qcow2',
  ],
});

sameAsQemuImg('map', {
  readOnly: true,
  prepare,
  lines: [
    ...all.flatMap((name) => [`map ${name}`, `map --output=json ${name}`]),
    'map --output=json -f raw top.qcow2',
    'map --output=json --start-offset=100k --max-length=1M top.qcow2',
    'map --output=json --start-offset=2M --max-length=3M top.qcow2',
    'map --output=json --start-offset=100 --max-length=1 top.qcow2',
    'map --output=json --start-offset=9M top.qcow2',
    'map --output=json --max-length=0 top.qcow2',
    'map --start-offset=0x20001 top.qcow2',
  ],
});

sameAsQemuImg('check', {
  readOnly: true,
  prepare,
  lines: [...all, 'leak.qcow2', 'twice.qcow2'].flatMap((name) => [
    `check ${name}`,
    `check --output=json ${name}`,
    `check -q ${name}`,
  ]),
});

sameAsQemuImg('measure', {
  readOnly: true,
  prepare,
  lines: [
    ...measured.flatMap((name) => [
      `measure -O raw ${name}`,
      `measure -O qcow2 ${name}`,
      `measure -O qcow2 -o cluster_size=4k,refcount_bits=64 --output=json ${name}`,
    ]),
    'measure -O qcow2 -o preallocation=full top.qcow2',
    'measure -O qcow2 -o extended_l2=on --size 10G',
    'measure -O qcow2 -o cluster_size=2M --size 64T',
    'measure -O qcow2 -o backing_file=base.raw,backing_fmt=raw mid.qcow2',
    'measure -O qcow2 -l before snapshots.qcow2',
    'measure -O raw -l snapshot.name=after snapshots.qcow2',
    'measure -O qcow2 -l nosuch snapshots.qcow2',
  ],
});

sameAsQemuImg('compare', {
  readOnly: true,
  prepare: (folder) => {
    prepare(folder);
    const at = { cwd: folder };
    mustRun('qemu-img', ['convert', '-O', 'qcow2', 'top.qcow2', 'flat.qcow2'], at);
    mustRun('qemu-img', ['convert', '-c', '-O', 'qcow2', 'top.qcow2', 'flatpacked.qcow2'], at);
    mustRun('qemu-img', ['convert', '-O', 'raw', 'top.qcow2', 'flat.raw'], at);
    fs.copyFileSync(path.join(folder, 'flat.raw'), path.join(folder, 'byte.raw'));
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 9 1049100 1', 'byte.raw'], at);
    fs.copyFileSync(path.join(folder, 'flat.raw'), path.join(folder, 'longer.raw'));
    fs.truncateSync(path.join(folder, 'longer.raw'), 6 * 1024 * 1024);
    fs.copyFileSync(path.join(folder, 'longer.raw'), path.join(folder, 'tail.raw'));
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 9 5500001 1', 'tail.raw'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'top.qcow2', '-F', 'qcow2', 'over.qcow2'], at);
  },
  lines: [
    ...pairs([
      'top.qcow2',
      'flat.qcow2',
      'flatpacked.qcow2',
      'flat.raw',
      'byte.raw',
      'longer.raw',
      'tail.raw',
      'over.qcow2',
    ]),
    'compare nothing.raw empty.qcow2',
    'compare -q byte.raw flat.raw',
    'compare -f raw -F raw flat.qcow2 flat.qcow2',
    'compare -f qcow2 flat.raw flat.raw',
    'compare nosuch flat.raw',
  ],
});

function pairs(of: readonly string[]): string[] {
  return of.flatMap((a, index) => of.slice(index).flatMap((b) => [`compare ${a} ${b}`, `compare -s ${b} ${a}`]));
}

sameAsQemuImg('dd', {
  prepare,
  lines: [
    'dd if=base.raw of=d1 => d1',
    'dd if=base.raw of=d2 bs=1M count=1 => d2',
    'dd if=base.raw of=d3 bs=1M skip=1 -O qcow2 => d3',
    'dd if=base.raw of=d4 skip=100 => d4',
    'dd if=base.raw of=d5 bs=1M skip=100 => d5',
    'dd if=base.raw of=d6 bs=1000 count=1 => d6',
    'dd if=base.raw of=d7 bs=1000 count=1 skip=1 => d7',
    'dd if=base.raw of=d8 bs=1000 count=77 skip=3 => d8',
    'dd if=base.raw of=d9 count=0 => d9',
    'dd if=top.qcow2 of=d10 -O qcow2 bs=64k skip=3 count=40 => d10',
    'dd if=overodd.qcow2 of=d11 => d11',
    'dd if=odd.raw of=d12 -O qcow2 => d12',
    'dd if=base.raw of=d13 bs=x',
    'dd if=base.raw of=d13 bs=3G',
    'dd if=base.raw of=d13 count=x',
    'dd if=base.raw of=d13 skip=-1',
    'dd -f qcow2 if=base.raw of=d13',
    'dd -O foo if=base.raw of=d13',
    'dd if=nope of=d13',
    'dd if=base.raw of=/nonexist/x',
    'dd bs if=base.raw of=d13',
    'dd if= of=d13',
    'dd if=base.raw of=d13 iflag=direct',
    'dd if=base.raw of=d13 -n',
    'dd if=base.raw of=d13 bs=1k bs=',
    'compare d3 base.raw',
    'compare d10 top.qcow2',
  ],
});
