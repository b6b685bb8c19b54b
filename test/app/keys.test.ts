// Sheets on encrypted images: a merge that needs a passphrase.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'passphrases in sheets', () => {
  const folder = quickFolder('keys');
  let bench: SheetBench;
  let images: Images;

  beforeAll(async () => {
    images = new Images(path.join(folder, 'disks'));
    bench = await SheetBench.open(folder, ['disks']);
  });
  afterAll(() => bench.close());
  afterEach(async () => {
    await bench.dismiss();
    expect(bench.faults.splice(0)).toEqual([]);
  });

  const secret = (passphrase: string): string[] => ['--object', `secret,id=s,data=${passphrase}`];

  function make(name: string, below: string | null): void {
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    const under = below === null ? [] : ['-b', images.at(below), '-F', 'qcow2'];
    const args = ['create', '-q', ...secret('first'), '-f', 'qcow2', '-o', options, ...under, images.at(name), '4M'];
    // qemu-img measures how fast it is, which fails now and then.
    const run = () => spawnSync('qemu-img', args, { encoding: 'utf8' });
    let child = run();
    for (let tries = 0; tries < 30 && child.stderr.includes('accurate CPU usage'); tries++) child = run();
    expect(child.stderr).toBe('');
  }

  it('merge an encrypted image into its encrypted parent; what stood on it stands there', async () => {
    make('base.qcow2', null);
    make('middle.qcow2', 'base.qcow2');
    make('top.qcow2', 'middle.qcow2');
    // The passphrase of a layer below is named for qemu-io in the description of that layer.
    const chain = (names: readonly string[]): string =>
      names.reduce<string>((text, name, depth) => {
        const at = 'backing.'.repeat(depth);
        return `${text}${depth > 0 ? ',' : ''}${at}driver=qcow2,${at}encrypt.key-secret=s,${at}file.filename=${images.at(name)}`;
      }, '');
    const qemu = (command: string, names: readonly string[]): void => {
      execFileSync('qemu-io', [...secret('first'), '--image-opts', '-c', command, chain(names)]);
    };
    const raw = (to: string, names: readonly string[]): string => {
      images.qemuImg('convert', ...secret('first'), '--image-opts', chain(names), '-O', 'raw', images.at(to));
      return images.at(to);
    };
    qemu('write -P 1 0 2M', ['base.qcow2']);
    qemu('write -P 2 1M 512k', ['middle.qcow2', 'base.qcow2']);
    qemu('write -P 3 3M 64k', ['top.qcow2', 'middle.qcow2', 'base.qcow2']);
    const middle = raw('middle.raw', ['middle.qcow2', 'base.qcow2']);
    const top = raw('top.raw', ['top.qcow2', 'middle.qcow2', 'base.qcow2']);
    await bench.scan();
    const sheet = await bench.openSheet(images.at('middle.qcow2'), 'merge');
    await sheet.getByTestId('preview').waitFor();
    await sheet.getByLabel('Passphrase').fill('wrong');
    await sheet.locator('footer button[type=submit]:not(:disabled)').click();
    await sheet.getByText('Invalid password').waitFor();
    expect(fs.existsSync(images.at('middle.qcow2'))).toBe(true);
    await sheet.getByLabel('Passphrase').fill('first');
    expect(await bench.command()).toBe(`platter image merge -p ${images.at('middle.qcow2')}`);
    await bench.finish('Merge');
    expect(fs.existsSync(images.at('middle.qcow2'))).toBe(false);
    expect(images.info('top.qcow2')['full-backing-filename']).toBe(images.at('base.qcow2'));
    const same = (kept: string, names: readonly string[]): string =>
      images.qemuImg('compare', ...secret('first'), '--image-opts', `driver=raw,file.filename=${kept}`, chain(names));
    expect(same(middle, ['base.qcow2'])).toContain('identical');
    expect(same(top, ['top.qcow2', 'base.qcow2'])).toContain('identical');

    // One that is not encrypted itself, over one that is.
    images.qemuImg(
      'create',
      '-q',
      '-f',
      'qcow2',
      '-b',
      images.at('base.qcow2'),
      '-F',
      'qcow2',
      images.at('plain.qcow2'),
      '4M',
    );
    const overBase = `driver=qcow2,file.filename=${images.at('plain.qcow2')},backing.driver=qcow2,backing.encrypt.key-secret=s,backing.file.filename=${images.at('base.qcow2')}`;
    execFileSync('qemu-io', [...secret('first'), '--image-opts', '-c', 'write -P 4 2M 64k', overBase]);
    images.qemuImg('convert', ...secret('first'), '--image-opts', overBase, '-O', 'raw', images.at('plain.raw'));
    fs.rmSync(images.at('top.qcow2'));
    await bench.scan();
    const plain = await bench.openSheet(images.at('plain.qcow2'), 'merge');
    await plain.getByLabel('Passphrase').fill('first');
    await bench.finish('Merge');
    expect(fs.existsSync(images.at('plain.qcow2'))).toBe(false);
    expect(same(images.at('plain.raw'), ['base.qcow2'])).toContain('identical');
  });
});
