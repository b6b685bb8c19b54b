// Sheets as they are met: by keyboard alone, with any name, in both languages and themes; the command that they show, run in a shell.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { imageSheets } from '../../renderer/state/sheet-kinds.ts';
import { describeWith, itWith } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';
import { graveFaults } from './grave-faults.ts';
import { Images, runCommand, runLine, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

/** Why no small file system can be made here; null: it can. */
function noMounts(): string | null {
  if (process.getuid?.() !== 0) return 'a small file system is mounted by root only';
  const place = fs.mkdtempSync('/tmp/platter-mount-');
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', place], { stdio: 'ignore' });
    execFileSync('umount', [place]);
    return null;
  } catch {
    return 'mounting is not allowed here';
  } finally {
    fs.rmdirSync(place);
  }
}

describeWith(
  { peers: ['chromium', 'qemu-img', 'qemu-io'], unless: missingWindow() },
  'the sheets, as they are met',
  () => {
    const folder = quickFolder('sheets-shown');
    const images = new Images(path.join(folder, 'disks'));
    const long = process.env.PLATTER_LONG === '1';
    const patient = { timeout: 30_000 };
    let bench: SheetBench;

    beforeAll(async () => {
      images.make('base.qcow2', null, '-P 1 0 4M');
      images.make('middle.qcow2', 'base.qcow2', '-P 2 1M 1M');
      images.make('top.qcow2', 'middle.qcow2', '-P 3 2M 1M');
      images.make('changed.qcow2', null, '-P 4 0 1M');
      bench = await SheetBench.open(folder, ['disks']);
      // Taking back is offered only where there is something to take back.
      runCommand(folder, ['resize', images.at('changed.qcow2'), '+1M']);
      await bench.scan();
    });
    afterAll(() => bench.close());
    afterEach(async () => {
      await bench.dismiss();
      expect(bench.faults.splice(0)).toEqual([]);
    });

    it('convert by the keyboard alone', async () => {
      const { page } = bench;
      await bench.goTo('#/library');
      await page.getByRole('heading', { level: 1 }).waitFor();
      await page.keyboard.press('c');
      const { sheet } = bench;
      await sheet.waitFor();
      /** Goes on by Tab until the field with this label has the focus. */
      const reach = async (label: string, role: 'textbox' | 'combobox' | 'checkbox'): Promise<void> => {
        const wanted = sheet.getByRole(role, { name: label, exact: true });
        for (let step = 0; step < 40; step += 1) {
          if ((await wanted.and(page.locator(':focus')).count()) === 1) return;
          await page.keyboard.press('Tab');
        }
        throw new Error(`${label} is not reached by the keyboard`);
      };
      await reach('Source', 'textbox');
      await page.keyboard.type(images.at('middle.qcow2'));
      await reach('Format', 'combobox');
      await page.keyboard.type('VDI');
      await reach('Replace a file that is there', 'checkbox');
      await page.keyboard.press('Space');
      await page.keyboard.press('Enter');
      await sheet.waitFor({ state: 'hidden' });
      await page.getByText('Done: Convert').last().waitFor();
      images.qemuImg('compare', '-F', 'vdi', images.at('middle.qcow2'), images.at('middle.vdi'));
    });

    it('show a command that does the same: commit, rebase, amend, convert', async () => {
      const twins = ['by-sheet', 'by-command'].map((name) => new Images(images.at(name)));
      for (const twin of twins) {
        for (const name of ['base.qcow2', 'middle.qcow2', 'top.qcow2']) {
          fs.copyFileSync(images.at(name), twin.at(name));
        }
      }
      await bench.scan();
      const [one, two] = twins as [Images, Images];
      const steps: readonly (readonly [string, string, string, () => Promise<void>])[] = [
        ['top.qcow2', 'commit', 'Commit', async () => {}],
        [
          'top.qcow2',
          'rebase',
          'Rebase',
          async () => {
            await bench.sheet.getByLabel('New image below').fill(one.at('base.qcow2'));
            await expect.poll(() => bench.command(), patient).toContain('-F qcow2');
          },
        ],
        [
          'middle.qcow2',
          'amend',
          'Amend',
          async () => {
            await bench.sheet.getByLabel('Compatibility level').fill('0.10');
          },
        ],
        [
          'top.qcow2',
          'convert',
          'Convert',
          async () => {
            await bench.sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('vmdk');
            await bench.sheet.getByLabel('Kind of file').selectOption('streamOptimized');
          },
        ],
      ];
      for (const [name, verb, title, fill] of steps) {
        await bench.openSheet(one.at(name), verb);
        await bench.sheet.locator('footer button[type=submit]').waitFor();
        await fill();
        await expect
          .poll(() => bench.sheet.locator('footer button[type=submit]:not(:disabled)').count(), patient)
          .toBe(1);
        const command = await bench.command();
        await bench.finish(title);
        runLine(folder, command.replaceAll(one.folder, two.folder));
      }
      for (const name of ['base.qcow2', 'middle.qcow2', 'top.qcow2', 'top.vmdk']) {
        const [left, right] = [one.info(name), two.info(name)];
        const facts = ['format', 'virtual-size', 'backing-filename', 'format-specific'].map((fact) => [
          left[fact],
          right[fact],
        ]);
        if (name !== 'top.vmdk') for (const [mine, theirs] of facts) expect(theirs).toEqual(mine);
        images.qemuImg('compare', one.at(name), two.at(name));
      }
    });

    it('take any name as text and as a file, also in the command', async () => {
      const names = [
        '<img src=x onerror=alert(1)>.qcow2',
        `it's "quoted" $HOME \`id\`.qcow2`,
        'two\nlines.qcow2',
        'emoji 💾 磁盘.qcow2',
        '\u202egnp.exe\u202c right to left.qcow2',
        '-o starts,like=an,,option.qcow2',
      ];
      for (const name of names) fs.copyFileSync(images.at('base.qcow2'), images.at(name));
      await bench.scan();
      for (const [index, name] of names.entries()) {
        const sheet = await bench.openSheet(images.at(name), 'convert');
        expect(await sheet.locator('img').count()).toBe(0);
        await sheet.getByRole('combobox', { name: 'Format', exact: true }).selectOption('raw');
        // A field of one line cannot hold a line break: the name of the new image has none.
        const target = images.at(name.replace(/\n/g, ' ').replace('.qcow2', '.out'));
        await sheet.getByLabel('Target', { exact: true }).fill(target);
        const command = await bench.command();
        if (index % 2 === 0) {
          await bench.finish('Convert');
        } else {
          runLine(folder, command);
          await bench.dismiss();
        }
        expect(images.qemuImg('compare', '-f', 'qcow2', '-F', 'raw', images.at(name), target)).toContain('identical');
      }
    });

    it('show no passphrase in the command', async () => {
      await bench.goTo('#/library');
      await bench.page.getByRole('heading', { level: 1 }).waitFor();
      await bench.page.keyboard.press('n');
      const { sheet } = bench;
      await sheet.getByLabel('Target', { exact: true }).fill(images.at('locked.qcow2'));
      await sheet.getByLabel('Virtual size', { exact: true }).fill('4M');
      await sheet.locator('summary').first().click();
      await sheet.getByLabel('Encryption format').fill('luks');
      await sheet.getByLabel('Passphrase').first().fill('open sesame');
      await sheet.getByLabel('Time spent on the key (ms)').fill('10');
      const command = await bench.command();
      expect(command).not.toContain('sesame');
      expect(command).toContain('--object secret,id=target,file=PASSPHRASE-FILE');
      await bench.finish('Create');
      expect(images.info('locked.qcow2')).toMatchObject({ encrypted: true });
      fs.writeFileSync(path.join(folder, 'passphrase'), 'open sesame');
      runLine(
        folder,
        command.replace('PASSPHRASE-FILE', path.join(folder, 'passphrase')).replace('locked.qcow2', 'locked-2.qcow2'),
      );
      images.qemuImg(
        'compare',
        '--object',
        `secret,id=s,file=${path.join(folder, 'passphrase')}`,
        '--image-opts',
        ...['locked.qcow2', 'locked-2.qcow2'].map(
          (name) => `driver=qcow2,encrypt.key-secret=s,file.filename=${images.at(name)}`,
        ),
      );
    });

    itWith({ unless: noMounts() }, 'ask before a target that will not fit, and survive when it does not', async () => {
      const small = path.join(folder, 'small');
      fs.mkdirSync(small);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
      try {
        const sheet = await bench.openSheet(images.at('top.qcow2'), 'convert');
        await sheet.getByLabel('Target', { exact: true }).fill(path.join(small, 'out.vhdx'));
        await sheet.getByText('It will probably not fit').waitFor();
        expect(await sheet.locator('footer button[type=submit]').isDisabled()).toBe(true);
        await sheet.getByLabel('It will probably not fit').check();
        await sheet.locator('footer button[type=submit]').click();
        await bench.page.getByRole('alert').first().waitFor();
        expect(fs.readdirSync(small)).toEqual([]);
      } finally {
        execFileSync('umount', [small]);
      }
    });

    // Sentences of the other language are longer or shorter, and the elements the same: a third of the sheets is enough each time.
    const kinds = [...imageSheets, 'convert', 'compare'];
    const random = new SeededRandom(chosenSeed('sheets-shown'));
    const third = random.below(3);
    const inChinese = long ? kinds : kinds.filter((_, index) => index % 3 === third);

    it.each([
      ['en', kinds],
      ['zh-CN', inChinese],
    ] as const)(
      'have no serious fault of accessibility, in both themes, in %s: %s',
      { timeout: 240_000 },
      async (language, shown) => {
        await bench.page.evaluate(
          `localStorage.setItem('platter-settings', JSON.stringify({ language: ${JSON.stringify(language)} })); location.reload()`,
        );
        await bench.page.locator(`html[lang=${language}]`).waitFor();
        bench.language = language;
        for (const kind of shown) {
          await bench.openSheet(images.at(kind === 'undo' ? 'changed.qcow2' : 'top.qcow2'), kind);
          for (const colorScheme of ['light', 'dark'] as const) {
            await bench.page.emulateMedia({ colorScheme });
            // What depends on the theme is its colours alone.
            const rules = colorScheme === 'light' ? [] : ['color-contrast'];
            const grave = await graveFaults(bench.page, { within: 'dialog', rules });
            expect(grave, `${kind} ${language} ${colorScheme}`).toEqual([]);
          }
          await bench.dismiss();
        }
      },
    );
  },
);
