// Hex, Map and Chain of an image that is not encrypted, over one that is: what cannot be read says so, and its passphrase is asked for.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'passphrases in tabs', () => {
  const folder = quickFolder('keys-tabs');
  let bench: SheetBench;
  let images: Images;

  beforeAll(async () => {
    images = new Images(path.join(folder, 'disks'));
    bench = await SheetBench.open(folder, ['disks']);
    bench.page.setDefaultTimeout(40_000);
    const [base, top] = [images.at('base.qcow2'), images.at('top.qcow2')];
    const secret = ['--object', 'secret,id=s,data=of the base'];
    const key = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    images.qemuImg('create', '-q', ...secret, '-f', 'qcow2', '-o', key, base, '4M');
    images.qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '4M');
    const below = `driver=qcow2,encrypt.key-secret=s,file.filename=${base}`;
    const whole = `driver=qcow2,file.filename=${top},backing.driver=qcow2,backing.encrypt.key-secret=s,backing.file.filename=${base}`;
    execFileSync('qemu-io', [...secret, '--image-opts', '-c', 'write -P 0x41 1M 64k', below]);
    execFileSync('qemu-io', [...secret, '--image-opts', '-c', 'write -P 0x42 2M 64k', whole]);
    await bench.scan();
    // To its page by a sheet that is closed again: the bench knows the way.
    await bench.openSheet(top, 'digest');
    await bench.dismiss();
  }, 120_000);
  afterAll(() => bench.close());
  afterEach(() => expect(bench.faults.splice(0)).toEqual([]));

  const unlock = async (): Promise<void> => {
    const { page } = bench;
    await page.getByLabel('Passphrase of base.qcow2').fill('of the base');
    await page.getByRole('button', { name: 'Unlock' }).click();
  };
  const tab = async (name: string, query: string): Promise<void> => {
    const home = await bench.page.evaluate<string>('location.hash');
    await bench.goTo(home.replace(/\/[a-z]+(\?.*)?$/, `/${name}${query}`));
  };

  it('the bytes of the disk', { timeout: 120_000 }, async () => {
    await tab('hex', '?view=guest&at=0x100000');
    await bench.page.getByTestId('reduced').waitFor();
    await unlock();
    await bench.page.getByTestId('reduced').waitFor({ state: 'detached' });
    await bench.page.getByText('AAAAAAAAAAAAAAAA').first().waitFor();
  });

  it('the map', { timeout: 120_000 }, async () => {
    await tab('map', '');
    await bench.page.getByTestId('reduced').waitFor();
    await unlock();
    await bench.page.getByTestId('reduced').waitFor({ state: 'detached' });
  });

  it('which layer a sector is from', { timeout: 120_000 }, async () => {
    await tab('chain', '');
    await bench.page.getByLabel('Sector or place on the disk').fill('1M');
    await bench.page.getByLabel('Sector or place on the disk').press('Enter');
    await unlock();
    await bench.page.getByTestId('supplier').getByText('base.qcow2').first().waitFor();
    expect(await bench.page.getByRole('button', { name: 'Unlock' }).count()).toBe(0);
  });
});
