// overlay: the link to the base, its size and name, for every format with differencing; other programs follow it.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openImage } from '../../core/formats/open.ts';
import { silentJob } from '../../core/job.ts';
import { overlay } from '../../core/operations/overlay.ts';
import { describeWith, mustRun, runPeer, runPlatter, type Finished } from '../peers.ts';
import { difference } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';
import { contentOf } from '../units/formats/new-image.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'overlay', () => {
  const cwd = scratchFolder('overlay');
  const formats = ['qcow', 'qcow2', 'vpc', 'vhdx', 'vmdk', 'vdi'] as const;
  const own = (...args: string[]): Finished =>
    runPlatter(['overlay', ...args], { cwd, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } });

  beforeAll(() => {
    fs.mkdirSync(path.join(cwd, 'sub'));
    for (const format of [...formats, 'raw']) {
      mustRun('qemu-img', ['create', '-q', '-f', format, `base.${format}`, '8M'], { cwd });
      mustRun('qemu-io', ['-f', format, '-c', 'write -P 7 64k 128k', `base.${format}`], { cwd });
    }
  });

  it.each(formats)('over %s, in its format', (format) => {
    const made = own(`base.${format}`, `over.${format}`);
    expect(made).toMatchObject({ status: 0, stderr: '' });
    expect(made.stdout).toMatch(
      new RegExp(`^Formatting 'over.${format}', fmt=${format} .*backing_file=base.${format} `),
    );
    const open = (file: string): ReturnType<typeof openImage> => openImage(path.join(cwd, file));
    const [base, over] = [open(`base.${format}`), open(`over.${format}`)];
    expect(over.node.size).toBe(base.node.size);
    expect(over.driver.facts(over.node).backing?.path).toBe(`base.${format}`);
    expect(difference(contentOf(over.node), contentOf(base.node))).toBeNull();
    expect(contentOf(over.node)[64 * 1024]).toBe(7);
    over.node.close();
    base.node.close();
  });

  // qemu reads no differencing VHD, VHDX or VDI.
  it.each(['qcow', 'qcow2', 'vmdk'])('qemu reads through the %s overlay and writes to it', (format) => {
    expect(own('-q', `base.${format}`, `theirs.${format}`)).toMatchObject({ status: 0, stdout: '' });
    mustRun('qemu-img', ['compare', '-F', format, '-f', format, `base.${format}`, `theirs.${format}`], { cwd });
    mustRun('qemu-io', ['-f', format, '-c', 'write -P 9 1M 64k', '-c', 'read -P 7 64k 128k', `theirs.${format}`], {
      cwd,
    });
    const { status } = runPeer('qemu-img', ['compare', `base.${format}`, `theirs.${format}`], { cwd });
    expect(status).toBe(1);
  });

  it('a base below the folder of the overlay is named relative to it, any other with its whole path', () => {
    fs.copyFileSync(path.join(cwd, 'base.qcow2'), path.join(cwd, 'sub', 'inner.qcow2'));
    own('sub/inner.qcow2', 'outer.qcow2');
    own('base.qcow2', 'sub/deep.qcow2');
    own('sub/inner.qcow2', 'sub/beside.qcow2');
    fs.copyFileSync(path.join(cwd, 'base.qcow2'), path.join(cwd, 'a:b.qcow2'));
    own('file:a:b.qcow2', 'colon.qcow2');
    const named = (file: string): unknown =>
      (JSON.parse(mustRun('qemu-img', ['info', '--output=json', file], { cwd })) as Record<string, unknown>)[
        'backing-filename'
      ];
    expect(named('outer.qcow2')).toBe('sub/inner.qcow2');
    expect(named('sub/deep.qcow2')).toBe(path.join(cwd, 'base.qcow2'));
    expect(named('sub/beside.qcow2')).toBe('inner.qcow2');
    expect(named('colon.qcow2')).toBe('./a:b.qcow2');
    for (const file of ['outer.qcow2', 'sub/deep.qcow2', 'sub/beside.qcow2', 'colon.qcow2']) {
      mustRun('qemu-img', ['compare', 'base.qcow2', file], { cwd });
    }
  });

  it('another format, options, several at once, a base whose format is stated', () => {
    const made = own('-f', 'qcow2', '-F', 'raw', '-o', 'cluster_size=4k', 'base.raw', 'one.qcow2', 'two.qcow2');
    expect(made.status).toBe(0);
    for (const file of ['one.qcow2', 'two.qcow2']) {
      const info = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file], { cwd })) as object;
      expect(info).toMatchObject({ 'cluster-size': 4096, 'backing-filename-format': 'raw' });
      mustRun('qemu-img', ['compare', '-f', 'raw', 'base.raw', file], { cwd });
    }
  });

  it('refuses what cannot be, and makes nothing', async () => {
    const before = fs.readFileSync(path.join(cwd, 'base.qcow2'));
    const refused: [string, string | null, string][] = [
      ['base.raw', null, 'overlay/no-differencing'],
      ['base.qcow2', 'raw', 'overlay/no-differencing'],
      ['base.qcow2', 'qed', 'overlay/no-create'],
      ['base.qcow2', 'foo', 'format/unknown-output'],
      ['nope', null, 'storage/open'],
    ];
    const at = (name: string): string => path.join(cwd, name);
    for (const [base, format, code] of refused) {
      const params = { base: at(base), baseOptions: {}, path: at('x'), format, options: {} };
      await expect(overlay(params, silentJob), code).rejects.toMatchObject({ code });
    }
    const same = {
      base: at('base.qcow2'),
      baseOptions: {},
      path: `${cwd}/sub/../base.qcow2`,
      format: null,
      options: {},
    };
    await expect(overlay(same, silentJob)).rejects.toMatchObject({ code: 'create/same-name' });
    const told = own('base.raw', 'x');
    expect(told.status).toBe(1);
    expect(told.stderr).toMatch(/^platter: base\.raw: The format 'raw' has no differencing; .*-f qcow2/);
    expect(own('-o', 'size=1M', 'base.qcow2', 'x').stderr).toContain("'size' is what the base decides");
    expect(own('base.qcow2').stderr).toContain('Expecting the base image');
    expect(fs.existsSync(path.join(cwd, 'x'))).toBe(false);
    expect(own('--dry-run', 'base.qcow2', 'x').stdout).toMatch(/^Would be done: Formatting 'x', fmt=qcow2 /);
    expect(fs.existsSync(path.join(cwd, 'x'))).toBe(false);
    expect(fs.readFileSync(path.join(cwd, 'base.qcow2')).equals(before)).toBe(true);
  });
});
