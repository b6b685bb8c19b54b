// resize at the command line: beside qemu-img where it resizes, told what is lost, GPT moved to the new end.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, mustRun, runPeer, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { sameAsQemuImg } from './transcripts.ts';

const MiB = 1024 * 1024;

sameAsQemuImg('resize says and does what qemu-img does', {
  prepare(folder) {
    const create = (...args: string[]): void => void mustRun('qemu-img', ['create', '-q', ...args], { cwd: folder });
    create('-f', 'raw', 'a.raw', '10M');
    create('-f', 'qcow2', 'a.qcow2', '10M');
    create('-f', 'qcow2', '-o', 'compat=0.10', 'old.qcow2', '10M');
    create('-f', 'raw', 'base.raw', '20M');
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -q -P 5 0 20M', 'base.raw'], { cwd: folder });
    create('-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'over.qcow2', '10M');
    create('-f', 'vpc', 'a.vpc', '10M');
    for (const name of ['a.qcow2', 'old.qcow2']) {
      mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 1 0 10M', name], { cwd: folder });
      mustRun('qemu-img', ['snapshot', '-c', 's', name], { cwd: folder });
    }
  },
  lines: [
    'resize',
    'resize -f raw a.raw b c',
    "resize -f raw a.raw ''",
    'resize -f raw a.raw -1G',
    'resize -f raw a.raw 9E',
    'resize -f raw a.raw -q',
    'resize -f raw --preallocation=xx a.raw 40M',
    'resize -f raw --preallocation=falloc a.raw 1M',
    'resize a.raw 11M => a.raw',
    'resize -q -f raw --preallocation=full a.raw +1M => a.raw',
    'resize -f raw a.raw --shrink -- -1000 => a.raw',
    'resize --image-opts driver=raw,file.filename=a.raw 60M => a.raw',
    'resize -f vpc a.vpc 5M',
    'resize -f qcow2 a.qcow2 +1000 => a.qcow2',
    'resize -f qcow2 --shrink a.qcow2 9M => a.qcow2',
    'resize -f qcow2 old.qcow2 12M => old.qcow2',
    'resize -f qcow2 --preallocation=metadata a.qcow2 12M => a.qcow2',
    'resize -f qcow2 over.qcow2 30M => over.qcow2',
    'map over.qcow2',
    'compare a.qcow2 base.raw',
    'snapshot -q -a s a.qcow2',
  ],
});

const native = { env: { PLATTER_PROGNAME: 'platter' } };

describeWith({ peers: ['sgdisk', 'sfdisk', 'qemu-img'] }, 'resize and the partitions of the guest', () => {
  const folder = scratchFolder('resize');

  /** A disk with a GPT and two partitions that end at 25 MiB, in the format. */
  function gptDisk(name: string, format: string): string {
    const raw = path.join(folder, `${name}.img`);
    fs.writeFileSync(raw, '');
    fs.truncateSync(raw, 40 * MiB);
    mustRun('sgdisk', ['-n', '1:1M:+8M', '-n', '2:10M:+15M', '-c', '2:data', raw]);
    const file = path.join(folder, `${name}.${format}`);
    mustRun('qemu-img', ['convert', '-f', 'raw', '-O', format, ...forceSize(format), raw, file]);
    fs.rmSync(raw);
    return file;
  }

  function forceSize(format: string): string[] {
    return format === 'vpc' ? ['-o', 'force_size=on'] : [];
  }

  function verify(file: string, format: string): string {
    const raw = `${file}.out`;
    mustRun('qemu-img', ['convert', '-f', format, '-O', 'raw', file, raw]);
    const { stdout } = runPeer('sgdisk', ['-v', raw]);
    const partitions = runPeer('sfdisk', ['--dump', raw]).stdout;
    expect(partitions).toMatch(/start= *2048, size= *16384/);
    expect(partitions).toMatch(/start= *20480, size= *30720.*name="data"/);
    return stdout;
  }

  it.each(['qcow2', 'vpc', 'vhdx'])('--fix-gpt, larger and smaller: %s', (format) => {
    const file = gptDisk('fix', format);
    const grown = runPlatter(['resize', '-f', format, '--fix-gpt', file, '64M'], native);
    expect(grown.status, grown.stderr).toBe(0);
    expect(verify(file, format)).toContain('No problems found.');
    const cut = runPlatter(['resize', '-f', format, '--shrink', '--fix-gpt', file, '25M'], native);
    expect(cut.status).toBe(1);
    expect(cut.stderr).toContain('Partition 2 ends at byte 26214400');
    const shrunk = runPlatter(['resize', '-f', format, '--shrink', '--fix-gpt', file, '27M'], native);
    expect(shrunk.status, shrunk.stderr).toBe(0);
    expect(verify(file, format)).toContain('No problems found.');
  });

  it('without --fix-gpt the backup is left behind, and a later one puts it right from either copy', () => {
    const file = gptDisk('later', 'raw');
    expect(runPlatter(['resize', '-f', 'raw', file, '+10M'], native).stdout).toContain('resize --fix-gpt moves it');
    const descriptor = fs.openSync(file, 'r+');
    fs.writeSync(descriptor, Buffer.alloc(512), 0, 512, 512);
    fs.closeSync(descriptor);
    expect(runPlatter(['resize', '-f', 'raw', '--fix-gpt', file, '+0'], native).stderr).toContain('gpt/none');
    expect(runPlatter(['resize', '-f', 'raw', '--shrink', file, '40M'], native).status).toBe(0);
    const fixed = runPlatter(['resize', '-f', 'raw', '--fix-gpt', file, '+10M'], native);
    expect(fixed.status, fixed.stderr).toBe(0);
    expect(verify(file, 'raw')).toContain('No problems found.');
  });

  it('--fix-gpt on a disk without a GPT changes nothing and says how it goes', () => {
    const file = path.join(folder, 'plain.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', file, '4M']);
    const before = fs.readFileSync(file);
    const { status, stderr } = runPlatter(['resize', '-f', 'qcow2', '--fix-gpt', file, '8M'], native);
    expect(status).toBe(1);
    expect(stderr).toContain('gpt/none');
    expect(stderr).toContain('without --fix-gpt it can be resized');
    expect(fs.readFileSync(file).equals(before)).toBe(true);
    expect(fs.readdirSync(folder).filter((name) => name.includes('plain'))).toEqual(['plain.qcow2']);
  });

  it('tells what is lost, and does nothing without --shrink', () => {
    const file = gptDisk('lost', 'qcow2');
    mustRun('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 20M 1M', file]);
    const before = fs.readFileSync(file);
    const { status, stderr } = runPlatter(['resize', '-f', 'qcow2', file, '8M'], native);
    expect(status).toBe(1);
    const lines = stderr.split('\n');
    expect(lines[0]).toBe('platter: Use the --shrink option to perform a shrink operation.');
    expect(lines[1]).toMatch(/^platter: warning: Shrinking an image will delete all data/);
    expect(stderr).toContain('bytes (1.06 MiB) of stored data');
    expect(stderr).toMatch(/Partition 1 .* ends 1048576 bytes beyond it\./);
    expect(stderr).toMatch(/Partition 2 'data' .* lies beyond it\./);
    expect(stderr).toContain('The backup GPT lies beyond the new end');
    expect(fs.readFileSync(file).equals(before)).toBe(true);
  });

  it('a streamOptimized vmdk is written anew, and says so first', () => {
    const file = path.join(folder, 'stream.vmdk');
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', `${file}.raw`, '4M']);
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 3 1M 1M', `${file}.raw`]);
    const stream = ['-O', 'vmdk', '-o', 'subformat=streamOptimized,adapter_type=lsilogic'];
    mustRun('qemu-img', ['convert', '-f', 'raw', ...stream, `${file}.raw`, file]);
    for (const [size, bytes] of [
      ['9M', 9 * MiB],
      ['1536k', 1.5 * MiB],
    ] as const) {
      const done = runPlatter(['resize', '-f', 'vmdk', '--shrink', file, size], native);
      expect(done.status, done.stderr).toBe(0);
      expect(done.stderr).toContain('is written anew beside its file');
      const info = mustRun('qemu-img', ['info', '-f', 'vmdk', file]);
      expect(info).toContain(`(${bytes} bytes)`);
      expect(info).toContain('streamOptimized');
      fs.truncateSync(`${file}.raw`, bytes);
      expect(runPeer('qemu-img', ['compare', '-f', 'vmdk', '-F', 'raw', file, `${file}.raw`]).stdout).toContain(
        'identical',
      );
    }
    expect(fs.readFileSync(file).subarray(512, 4096).toString('latin1')).toContain('ddb.adapterType = "lsilogic"');
  });
});
