// Sheets on encrypted chains: one passphrase for all layers, one for each, and a layer that only the refusal names.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, runLine, SheetBench } from './sheet-bench.ts';
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

  function make(name: string, below: string | null, passphrase = 'first'): void {
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    const under = below === null ? [] : ['-b', images.at(below), '-F', 'qcow2'];
    // Over an encrypted base qemu-img cannot open that; it need not.
    const unsafe = below === null ? [] : ['-u'];
    images.qemuImg(
      'create',
      '-q',
      ...unsafe,
      ...secret(passphrase),
      '-f',
      'qcow2',
      '-o',
      options,
      ...under,
      images.at(name),
      '4M',
    );
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
    expect(await bench.command()).toBe(
      `platter image merge -p ${images.at('middle.qcow2')} --object 'secret,id=key,image=*,file=PASSPHRASE-FILE'`,
    );
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

  it(
    'a passphrase for each layer: commit, and the line that is shown does the same',
    { timeout: 120_000 },
    async () => {
      make('low.qcow2', null, 'of the low');
      make('high.qcow2', 'low.qcow2', 'of the high');
      const [low, high] = [images.at('low.qcow2'), images.at('high.qcow2')];
      const both = ['--object', 'secret,id=a,data=of the high', '--object', 'secret,id=b,data=of the low'];
      const chain = `driver=qcow2,encrypt.key-secret=a,file.filename=${high},backing.driver=qcow2,backing.encrypt.key-secret=b,backing.file.filename=${low}`;
      const alone = `driver=qcow2,encrypt.key-secret=b,file.filename=${low}`;
      const kept = images.at('each.raw');
      execFileSync('qemu-io', [...both, '--image-opts', '-c', 'write -P 5 1M 512k', chain]);
      images.qemuImg('convert', ...both, '--image-opts', chain, '-O', 'raw', kept);
      const isBelow = (): boolean => {
        const args = ['compare', ...both, '--image-opts', `driver=raw,file.filename=${kept}`, alone];
        return spawnSync('qemu-img', args).status === 0;
      };
      const before = [fs.readFileSync(low), fs.readFileSync(high)] as const;
      await bench.scan();
      const sheet = await bench.openSheet(high, 'commit');
      await sheet.getByLabel('The same for all: high.qcow2, low.qcow2').uncheck();
      await sheet.getByLabel('Passphrase of high.qcow2').fill('of the high');
      await sheet.locator('footer button[type=submit]:not(:disabled)').click();
      await sheet.getByText("Parameter 'encrypt.key-secret' is required").waitFor();
      await sheet.getByLabel('Passphrase of low.qcow2').fill('of the low');
      const line = await bench.command();
      expect(line).not.toContain('of the');
      expect(isBelow()).toBe(false);
      await bench.finish('Commit');
      expect(isBelow()).toBe(true);
      fs.writeFileSync(low, before[0]);
      fs.writeFileSync(high, before[1]);
      const places = ['of the high', 'of the low'].map((text, index) => {
        const file = path.join(folder, `key ${index + 1}.txt`);
        fs.writeFileSync(file, text);
        return file;
      });
      runLine(
        folder,
        line.replace(/PASSPHRASE-FILE-(\d)/g, (_, index) => `'${places[Number(index) - 1] ?? ''}'`),
      );
      expect(isBelow()).toBe(true);
    },
  );

  it('compare with an encrypted image that no datastore holds: the refusal brings the field', async () => {
    const outside = path.join(folder, 'outside.qcow2');
    make('inside.qcow2', null);
    fs.renameSync(images.at('inside.qcow2'), outside);
    images.qemuImg('create', '-q', '-f', 'raw', images.at('zero.raw'), '4M');
    await bench.scan();
    const sheet = await bench.openSheet(images.at('zero.raw'), 'compare');
    await sheet.getByLabel('Second', { exact: false }).fill(outside);
    await sheet.locator('footer button[type=submit]:not(:disabled)').click();
    await sheet.getByText("Parameter 'encrypt.key-secret' is required").waitFor();
    await sheet.getByLabel('Passphrase of outside.qcow2').fill('first');
    await sheet.locator('footer button[type=submit]:not(:disabled)').click();
    await sheet.getByTestId('verdict').getByText('✓').waitFor();
  });
});
