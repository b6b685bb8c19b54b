// amend: what is said, and what becomes of the image, as with qemu-img.
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, runPeer, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { sameAsQemuImg } from './transcripts.ts';

const secrets = ['--object', 'secret,id=s0,data=abc', '--object', 'secret,id=s1,data=def'] as const;

function prepare(folder: string): void {
  const run = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
  const io = (file: string, ...commands: string[]): string =>
    mustRun('qemu-io', ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), file], { cwd: folder });
  run('create', '-q', '-f', 'qcow2', 'a', '4M');
  io('a', 'write -P 1 0 1M', 'write -c -P 2 2M 64k', 'write -z 3M 128k', 'write -z 0 64k');
  run('create', '-q', '-f', 'raw', 'base', '4M');
  run('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'raw', 'over', '4M');
  io('over', 'write -P 1 0 128k', 'write -z 64k 256k');
  run('snapshot', '-c', 's', 'over');
  io('over', 'write -z 1M 256k');
  run('create', '-q', '-f', 'qcow2', '-o', 'data_file=external.raw', 'external', '4M');
  run('create', '-q', '-f', 'qcow2', '-o', 'data_file=mirror.raw,data_file_raw=on', 'mirror', '4M');
  run('create', '-q', '-f', 'qcow2', '-o', 'extended_l2=on', 'sub', '4M');
  run('create', '-q', '-f', 'qcow2', '-o', 'compression_type=zstd', 'zstd', '4M');
  io('zstd', 'write -c -P 2 2M 64k');
  run('create', '-q', '-f', 'qcow2', '-o', 'compression_type=zstd', 'zstdempty', '4M');
  run('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'tiny', '4M');
  io('tiny', 'write -P 1 0 1M');
  run('snapshot', '-c', 's', 'tiny');
  run('create', '-q', '-f', 'raw', 'raw', '1M');
}

/** luks, and inside (LUKS in qcow2). qemu-img measures the speed of the machine first, and gives up where it cannot. */
function prepareKeys(folder: string): void {
  prepare(folder);
  for (const args of [
    ['-f', 'luks', '-o', 'key-secret=s0,iter-time=10', 'luks'],
    ['-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10', 'inside'],
  ]) {
    const { status, stderr } = runPlatter(['create', '-q', ...secrets, ...args, '1M'], { cwd: folder });
    if (status !== 0) throw new Error(stderr);
  }
}

sameAsQemuImg('amend changes', {
  prepare,
  lines: [
    'amend -o lazy_refcounts=on a => a',
    'amend -o lazy_refcounts=off a => a',
    ...[1, 64].map((bits) => `amend -o refcount_bits=${bits} a => a`),
    ...[32, 2].map((bits) => `amend -o refcount_bits=${bits} tiny => tiny`),
    'amend -o refcount_bits=16,compat=0.10 a => a',
    'amend -o compat=1.1,lazy_refcounts=on,refcount_bits=64 a => a',
    'amend -o size=8M a => a',
    'amend -o size=4M a => a',
    'amend -o size=0 a => a',
    'amend -o compat=v2 over => over',
    'map over',
    'amend -o backing_file=base,backing_fmt=raw over => over',
    'amend -o compat=v3 over => over',
    'amend -p -o compat=v3 a => a',
    'amend -q -p -o lazy_refcounts=on a => a',
    'amend -t none -o lazy_refcounts=on a => a',
    'amend -o compat=v2 zstdempty => zstdempty',
    'amend -o data_file_raw=off mirror => mirror',
    'amend -o data_file=external.raw external => external',
    'amend -f qcow2 -o help',
    'amend -o help a',
    'amend -f luks -o help',
  ],
});

const describedLuks = '--image-opts driver=luks,key-secret=s0,file.filename=luks';
const describedInside = '--image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=inside';
const objects = secrets.join(' ');

sameAsQemuImg('amend refuses of keys', {
  prepare: prepareKeys,
  lines: [
    ...(
      [
        [describedLuks, ''],
        [describedInside, 'encrypt.'],
      ] as const
    ).flatMap(([name, prefix]) => {
      const line = (options: string): string => {
        const named = options
          .split(',')
          .map((option) => prefix + option)
          .join(',');
        return `amend ${objects} -o ${named} ${name}`;
      };
      return [
        line('state=active'),
        line('new-secret=s1'),
        line('iter-time=10'),
        line('state=foo'),
        line('state=active,new-secret=s1,keyslot=0,iter-time=10'),
        line('state=active,new-secret=s1,keyslot=9,iter-time=10'),
        line('state=active,new-secret=s1,keyslot=-1,iter-time=10'),
        line('state=active,new-secret=s1,old-secret=s0'),
        line('state=active,new-secret=nope'),
        line('state=inactive'),
        line('state=inactive,new-secret=s1'),
        line('state=inactive,iter-time=10,old-secret=s1'),
        line('state=inactive,old-secret=s1,keyslot=0'),
        line('state=inactive,old-secret=s0'),
        line('state=inactive,keyslot=0'),
        line('state=inactive,keyslot=3'),
        line('state=inactive,keyslot=8'),
      ];
    }),
  ],
});

sameAsQemuImg('amend refuses', {
  prepare: prepareKeys,
  lines: [
    'amend',
    'amend a',
    'amend -o help',
    'amend -f raw -o help',
    'amend -f foo -o help',
    'amend -o cluster_size=64k a',
    'amend -o foo=bar a',
    'amend -o compat=0.9 a',
    'amend -o refcount_bits=3 a',
    'amend -o refcount_bits=128 a',
    'amend -o refcount_bits=foo a',
    'amend -o backing_file=x a',
    'amend -o backing_file=base over',
    'amend -o data_file=x a',
    'amend -o data_file_raw=on a',
    'amend -o lazy_refcounts=on,compat=0.10 a',
    'amend -o refcount_bits=8,compat=0.10 a',
    'amend -o compat=0.10 external',
    'amend -o compat=0.10 sub',
    'amend -o compat=0.10 zstd',
    'amend -o refcount_bits=1 tiny',
    'amend -o size=1000 a',
    'amend -o size=-1 a',
    'amend -o encrypt.state=active a',
    'amend -t foo -o compat=v3 a',
    'amend -o size=1M raw',
    'amend -o ,x a',
    'amend -o lazy_refcounts=foo a',
    'amend -o compat=v3 a raw',
    'amend -f vmdk -o compat=v3 a',
    'amend -o state=active luks',
    'amend -o encrypt.state=active inside',
    `amend ${objects} -o size=1M ${describedLuks}`,
    `amend ${objects} -o key-secret=s1 ${describedLuks}`,
  ],
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'amended key slots', () => {
  const cwd = scratchFolder('amend-keys');
  beforeAll(() => prepareKeys(cwd));

  it.each([
    ['luks', 'key-secret', ''],
    ['inside', 'encrypt.key-secret', 'encrypt.'],
  ])('%s: qemu-io opens the disk with the new passphrase, and not with the old', (file, setting, prefix) => {
    const driver = file === 'luks' ? 'luks' : 'qcow2';
    const named = (id: string): string => `driver=${driver},${setting}=${id},file.filename=${file}`;
    const amend = (id: string, ...options: string[]): void => {
      const list = options.map((option) => prefix + option).join(',');
      const args = ['amend', ...secrets, '--image-opts', '-o', list, named(id)];
      expect(runPlatter(args, { cwd })).toMatchObject({ status: 0, stderr: '' });
    };
    const opens = (id: string): boolean =>
      runPeer('qemu-io', [...secrets, '--image-opts', '-c', 'read 0 4k', named(id)], { cwd }).status === 0;
    expect([opens('s0'), opens('s1')]).toEqual([true, false]);
    amend('s0', 'state=active', 'new-secret=s1', 'iter-time=10', 'keyslot=5');
    expect([opens('s0'), opens('s1')]).toEqual([true, true]);
    amend('s1', 'state=inactive', 'old-secret=s0');
    expect([opens('s0'), opens('s1')]).toEqual([false, true]);
  });
});
