// Descriptions of images (`--image-opts`, `json:`): what is said of each setting, beside qemu-img; and what the settings do.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openImage } from '../../core/formats/open.ts';
import { nameImage } from '../../cli/image-options.ts';
import { CommandError, openFailure } from '../../cli/print.ts';
import { describeWith, mustRun, runPlatter, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const folder = scratchFolder('descriptions');
const at = (name: string): string => path.join(folder, name);
const MiB = 1024 * 1024;

/** Settings behind `driver=qcow2,file.filename=disk.qcow2,`; both must take or refuse them, in the same words. */
const settings: readonly string[] = [
  'node-name=one',
  'node-name=1a',
  'read-only=on',
  'read-only=maybe',
  'auto-read-only=on',
  'auto-read-only=perhaps',
  'force-share=on',
  'discard=unmap',
  'discard=ignore',
  'discard=foo',
  'detect-zeroes=on',
  'detect-zeroes=foo',
  'detect-zeroes=unmap',
  'discard=unmap,detect-zeroes=unmap',
  'discard=ignore,detect-zeroes=unmap',
  'cache.direct=on',
  'cache.no-flush=on',
  'cache.writeback=on',
  'lazy-refcounts=on',
  'lazy-refcounts=maybe',
  'cache-size=1M',
  'cache-size=1Q',
  'l2-cache-size=1M',
  'refcount-cache-size=256k',
  'l2-cache-size=1M,cache-size=512k',
  'l2-cache-size=1M,refcount-cache-size=1M,cache-size=2M',
  'l2-cache-entry-size=4k',
  'cache-clean-interval=60',
  'cache-clean-interval=-1',
  'cache-clean-interval=foo',
  'overlap-check=none',
  'overlap-check=all',
  'overlap-check=foo',
  'overlap-check.template=cached',
  'overlap-check=all,overlap-check.template=none',
  'overlap-check.main-header=off',
  'overlap-check.foo=on',
  'pass-discard-request=off',
  'file.locking=off',
  'file.locking=foo',
  'file.aio=threads',
  'file.aio=native',
  'file.aio=native,cache.direct=on',
  'file.aio=foo',
  'file.x=y',
  'foo=bar',
];

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'settings', () => {
  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', at('disk.qcow2'), '1M']);
  });

  /** What opening by this description says, as the command puts it; nothing when it opens. */
  const said = (description: string): string => {
    try {
      const named = nameImage(description, { imageOpts: true });
      openImage(named.path, named.options).node.close();
      return '';
    } catch (error) {
      return `qemu-img: ${(error instanceof CommandError ? error : openFailure(description, error)).message}\n`;
    }
  };

  it.each(settings)('%s', (setting) => {
    const description = `driver=qcow2,file.filename=${at('disk.qcow2')},${setting}`;
    expect(said(description)).toBe(runQemuImg(['map', '--image-opts', description]).stderr);
  });

  it('that would only waste room when they are ignored are refused', () => {
    for (const name of ['pass-discard-request', 'pass-discard-other', 'discard-no-unref']) {
      expect(said(`driver=qcow2,file.filename=${at('disk.qcow2')},${name}=on`), name).toContain(
        "given back by 'compact'",
      );
    }
  });

  it('of a target that is written over: read-only and shared ones are refused in the same words', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', at('target.qcow2'), '1M']);
    for (const setting of [
      'read-only=on',
      'force-share=on',
      'auto-read-only=on',
      'discard=ignore,detect-zeroes=unmap',
    ]) {
      const target = `driver=qcow2,file.filename=target.qcow2,${setting}`;
      const line = ['convert', '-n', '--target-image-opts', 'disk.qcow2', target];
      const ours = runPlatter(line, { cwd: folder });
      const theirs = runQemuImg(line, { cwd: folder });
      expect(ours, setting).toEqual(theirs);
    }
  });

  it('in single quotes, as QEMU has its JSON', () => {
    const name = "json:{'driver':'qcow2', 'file':{'driver':'file','filename':'disk.qcow2'}}";
    const ours = runPlatter(['map', name], { cwd: folder });
    expect(ours).toEqual(runQemuImg(['map', name], { cwd: folder }));
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'zeroes over data', () => {
  /** What a full target of 1 MiB holds after a disk of zeroes was written over it. */
  const after = (settings: string, ...flags: string[]): { data: number; reads: string } => {
    fs.rmSync(at('full.raw'), { force: true });
    fs.writeFileSync(at('zeroes.raw'), Buffer.alloc(MiB));
    fs.writeFileSync(at('full.raw'), Buffer.alloc(MiB, 7));
    mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', at('full.raw'), at('over.qcow2')]);
    const target = `driver=qcow2,file.filename=${at('over.qcow2')}${settings}`;
    const done = runPlatter(['convert', '-f', 'raw', '-n', ...flags, '--target-image-opts', at('zeroes.raw'), target]);
    expect(done.stderr).toBe('');
    expect(done.status).toBe(0);
    mustRun('qemu-img', ['check', at('over.qcow2')]);
    const map = JSON.parse(mustRun('qemu-img', ['map', '--output=json', at('over.qcow2')])) as {
      length: number;
      offset?: number;
      data: boolean;
    }[];
    const reads = runQemuImg(['compare', '-f', 'raw', '-F', 'qcow2', at('zeroes.raw'), at('over.qcow2')]).stdout.trim();
    const kept = map.filter(({ offset }) => offset !== undefined).reduce((sum, { length }) => sum + length, 0);
    return { data: kept, reads };
  };
  const reads = 'Images are identical.';

  it('give their room back, unless discard=ignore keeps it', () => {
    expect(after('')).toEqual({ data: 0, reads });
    expect(after(',discard=unmap')).toEqual({ data: 0, reads });
    expect(after(',discard=ignore')).toEqual({ data: MiB, reads });
  });

  it('are written with -S 0, unless detect-zeroes finds them', () => {
    expect(after('', '-S', '0')).toEqual({ data: MiB, reads });
    expect(after(',detect-zeroes=on', '-S', '0')).toEqual({ data: MiB, reads });
    expect(after(',discard=unmap,detect-zeroes=unmap', '-S', '0')).toEqual({ data: 0, reads });
  });
});

describe('--follow-all', () => {
  it('opens an extent that lies elsewhere; without it the error names it', () => {
    fs.mkdirSync(at('images'), { recursive: true });
    fs.writeFileSync(at('outside.bin'), Buffer.alloc(MiB, 'x'));
    const lines = [
      '# Disk DescriptorFile',
      'version=1',
      'CID=12345678',
      'parentCID=ffffffff',
      'createType="monolithicFlat"',
    ];
    fs.writeFileSync(at('images/disk.vmdk'), `${[...lines, 'RW 2048 FLAT "../outside.bin" 0'].join('\n')}\n`);
    const refused = runPlatter(['convert', 'images/disk.vmdk', 'out.raw'], { cwd: folder });
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain(
      'an extent must lie in the folder of its image (--follow-all opens it all the same)',
    );
    expect(fs.existsSync(at('out.raw'))).toBe(false);
    const allowed = runPlatter(['convert', '--follow-all', 'images/disk.vmdk', 'out.raw'], { cwd: folder });
    expect(allowed).toMatchObject({ status: 0, stderr: '' });
    expect(fs.readFileSync(at('out.raw')).equals(Buffer.alloc(MiB, 'x'))).toBe(true);
  });

  it('or the description names the data file', () => {
    fs.mkdirSync(at('below'), { recursive: true });
    const made = runPlatter(['create', '-q', '-f', 'qcow2', '-o', 'data_file=../data.raw', 'below/disk.qcow2', '1M'], {
      cwd: folder,
    });
    expect(made).toMatchObject({ status: 0, stderr: '' });
    const name = 'driver=qcow2,file.filename=below/disk.qcow2';
    const refused = runPlatter(['map', '--image-opts', name], { cwd: folder });
    expect(refused.stderr).toContain('a data file must lie in the folder of its image');
    for (const line of [
      ['--image-opts', `${name},data-file.driver=file,data-file.filename=data.raw`],
      ['--follow-all', 'below/disk.qcow2'],
    ]) {
      expect(runPlatter(['map', ...line], { cwd: folder })).toMatchObject({ status: 0, stderr: '' });
    }
  });
});
