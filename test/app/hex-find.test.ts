// What is looked for in the hex view: patterns with wildcards and without case, both directions, lists, a TiB; packed units of every kind.
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { useBench } from './bench.ts';
import { missingWindow } from './window.ts';

const MiB = 1024 * 1024;
const eventually: typeof expect.poll = (read) => expect.poll(read, { timeout: 8000, interval: 30 });

describeWith({ peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() }, 'looking for bytes', () => {
  const folder = scratchFolder('hex-find');
  const disks = path.join(folder, 'disks');
  const at = { cwd: disks };
  const needles = [0x1200, 0x1f0000, 0x3fff80];
  let page: Page;

  function makeImages(): void {
    const content = Buffer.alloc(4 * MiB);
    for (let sector = 0; sector < content.length / 512; sector++)
      content.fill(`sector ${sector} `, sector * 512, sector * 512 + 512);
    for (const place of needles) content.write('NeeDLe', place);
    content.write('wíde', 0x2000, 'utf16le');
    // Times as their own definitions have them: 2026-11-21 12:00:00 as FILETIME, and as seconds since 2000 in a VHD.
    content.writeBigUInt64LE(
      116_444_736_000_000_000n + BigInt(Date.UTC(2026, 10, 21, 12) / 1000) * 10_000_000n,
      0x3000,
    );
    content.writeUInt32BE((Date.UTC(2026, 10, 21, 12) - Date.UTC(2000, 0, 1)) / 1000, 0x3010);
    content.set([0xe5, 0x8e, 0x26], 0x3020); // LEB128 of 624485, the example of its definition
    fs.writeFileSync(path.join(disks, 'plain.raw'), content);
    const convert = (format: string, name: string, ...options: string[]): void =>
      void mustRun('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, 'plain.raw', name], at);
    convert('qcow2', 'disk.qcow2');
    convert('qcow2', 'zstd.qcow2', '-c', '-o', 'compression_type=zstd');
    // qemu-img itself does not get through with this one; that what we write is the disk, it says.
    expect(runPlatter(['convert', '-f', 'raw', '-O', 'qcow', '-c', 'plain.raw', 'packed.qcow'], at).status).toBe(0);
    mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow', 'plain.raw', 'packed.qcow'], at);
    convert('vmdk', 'stream.vmdk', '-o', 'subformat=streamOptimized');
    for (const name of ['huge', 'other']) {
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', `${name}.qcow2`, '1T'], at);
      mustRun('qemu-io', ['-c', 'write -P 65 1M 64k', '-c', 'write -P 65 1023G 64k', `${name}.qcow2`], at);
    }
    mustRun('qemu-io', ['-c', 'write -P 66 300G 512', '-c', 'write -P 67 1023G 1k', 'huge.qcow2'], at);
  }
  const bench = useBench(folder, {
    stores: ['disks'],
    prepare: makeImages,
    context: { viewport: { width: 1440, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] },
    begin: (shown) => shown.getByRole('link', { name: 'huge.qcow2', exact: true }).waitFor(),
  });
  beforeAll(() => {
    ({ page } = bench());
  });

  async function open(name: string, query = ''): Promise<void> {
    await page.evaluate("location.hash = '#/library'");
    const link = page.getByRole('link', { name, exact: true });
    await link.waitFor();
    const address = ((await link.getAttribute('href')) ?? '').replace(/\/[a-z]+$/, '/hex') + query;
    await page.evaluate(`location.hash = ${JSON.stringify(address)}`);
    await page.getByRole('grid').first().waitFor();
  }
  const pattern = () => page.getByRole('textbox', { name: 'Pattern' });
  const cursorAt = (offset: number) =>
    eventually(() => page.url()).toMatch(new RegExp(`at=0x${offset.toString(16)}(&|$)`));
  async function look(kind: string, text: string): Promise<void> {
    await page.getByRole('combobox', { name: 'What is searched for' }).selectOption(kind);
    await pattern().fill(text);
  }

  it('goes from place to place in both directions, and says when it has come round', async () => {
    await open('disk.qcow2', '?view=guest&at=0x0');
    await page.keyboard.press('Control+f');
    await look('utf-8', 'needle');
    await pattern().press('Enter');
    await page.getByText('Not found').waitFor();
    await page.getByRole('checkbox', { name: 'Ignore case' }).check();
    await pattern().press('Enter');
    await cursorAt(0x1200);
    await eventually(() => page.locator('.marks .found').count()).toBe(2); // digits and text
    expect(await page.getByTestId('in-sight').innerText()).toBe('1 in sight');
    await page.getByRole('grid').focus();
    await page.keyboard.press('F3');
    await cursorAt(0x1f0000);
    await page.keyboard.press('Shift+F3');
    await cursorAt(0x1200);
    await page.keyboard.press('Shift+F3');
    await cursorAt(0x3fff80);
    await page.getByText('Found from the end back').waitFor();
    await page.keyboard.press('F3');
    await cursorAt(0x1200);
    await page.getByText('Found from the start on').waitFor();
  });

  it('knows wildcards and other encodings, lists all places, and keeps what was searched for', async () => {
    await open('disk.qcow2', '?view=guest&at=0x0');
    await page.keyboard.press('Control+f');
    expect(await pattern().inputValue()).toBe('needle');
    await look('bytes', '4E 65 ?? 4? 4?');
    await page.getByRole('search').getByRole('button', { name: 'List all' }).click();
    const places = page.getByRole('region', { name: 'Places found' });
    await places.getByText('Found 3 times.').waitFor();
    expect(await places.getByRole('button').allInnerTexts()).toEqual(needles.map((one) => `0x${one.toString(16)}`));
    await places.getByRole('button').nth(1).click();
    await cursorAt(0x1f0000);
    await look('utf-16', 'WÍDE');
    await page.getByRole('checkbox', { name: 'Ignore case' }).check();
    await pattern().press('Enter');
    await cursorAt(0x2000);
    await look('bytes', '4');
    await pattern().press('Enter');
    await page.getByText('two digits each').waitFor();
    await page.getByRole('combobox', { name: 'Searched for before' }).selectOption({ label: '4E 65 ?? 4? 4? (Bytes)' });
    expect(await pattern().inputValue()).toBe('4E 65 ?? 4? 4?');
    await pattern().press('Escape');
    await eventually(() => page.locator('.marks .found').count()).toBe(0);
  });

  it('searches and compares a TiB that is mostly empty in a moment', async () => {
    await open('huge.qcow2', '?view=guest&at=0x0');
    await page.keyboard.press('Control+f');
    await look('bytes', '42 42 42 42');
    const began = Date.now();
    await pattern().press('Shift+Enter');
    await cursorAt(300 * 1024 * MiB + 508);
    await look('bytes', '42 44');
    await pattern().press('Enter');
    await page.getByText('Not found').waitFor();
    await page.getByRole('toolbar', { name: 'Hex view' }).getByRole('button', { name: 'Compare' }).click();
    await page.getByRole('combobox', { name: 'Compare with …' }).selectOption({ label: 'other.qcow2' });
    await eventually(() => page.getByRole('grid').count()).toBe(2);
    await page.getByRole('group', { name: 'Compare' }).getByRole('button', { name: 'List all' }).click();
    const places = page.getByRole('region', { name: 'Differences' });
    await places.getByText('2 differences, 1.5 KiB in all.').waitFor();
    expect(await places.getByRole('button').allInnerTexts()).toEqual(['0x4b00000000', '0xffc0000000']);
    await places.getByRole('button').nth(1).click();
    await cursorAt(0xffc0000000);
    await page.getByRole('button', { name: 'Previous difference' }).click();
    await cursorAt(0x4b00000000);
    await page.getByRole('button', { name: 'Previous difference' }).click();
    await page.getByText('No difference before this').waitFor();
    await page.getByRole('button', { name: 'Next difference' }).click();
    await cursorAt(0xffc0000000);
    console.log(`hex: searches and comparisons over 1 TiB in ${Date.now() - began} ms`);
    expect(Date.now() - began).toBeLessThan(30_000);
  });

  it.each([
    ['zstd.qcow2', 'L2[0][0]', 65536],
    ['packed.qcow', 'L2[0][0]', 4096],
    ['stream.vmdk', null, 65536],
  ] as const)(
    '%s: a packed unit opens beside its bytes, from the file and from the disk',
    async (name, entry, size) => {
      const unpacked = page.locator('[data-unpacked]');
      const check = async (): Promise<void> => {
        await page.getByRole('button', { name: 'Unpack' }).click();
        await eventually(() => unpacked.getAttribute('data-unpacked')).toBe(`${size}`);
        const text = await page.getByRole('region', { name: 'Compressed unit' }).locator('pre').innerText();
        expect(text.split('\n')[0]).toContain('73 65 63 74 6f 72 20 30  sector 0');
      };
      if (entry !== null) {
        await open(name);
        await page.getByRole('textbox', { name: 'Go to' }).fill(entry);
        await page.keyboard.press('Enter');
        await eventually(() => page.locator('[data-field="path"]').innerText()).toBe(entry);
        await check();
      }
      await open(name, '?view=guest&at=0x10');
      await check();
    },
  );

  it('reads the bytes at the cursor as numbers and times, each of which is copied', async () => {
    const reading = (name: string) => page.getByText(name, { exact: true }).locator('xpath=following-sibling::dd[1]');
    await open('disk.qcow2', '?view=guest&at=0x3000');
    await eventually(() => reading('FILETIME').innerText()).toContain('2026-11-21 12:00:00');
    await page.evaluate("location.hash = location.hash.replace('0x3000', '0x3010')");
    await eventually(() => reading('VHD time').innerText()).toContain('2026-11-21 12:00:00');
    await page.evaluate("location.hash = location.hash.replace('0x3010', '0x3020')");
    await eventually(() => reading('ULEB128').innerText()).toContain('624485');
    expect(await reading('u24 LE').innerText()).toContain(`${0x26_8e_e5}`);
    await reading('u24 LE').getByRole('button').click();
    await eventually(() => page.evaluate('navigator.clipboard.readText()')).toBe(`${0x26_8e_e5}`);
  });
});
