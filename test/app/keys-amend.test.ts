// Passphrases of an encrypted image by the sheet: added, changed, taken away, never the last unasked; none is kept anywhere.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun } from '../peers.ts';
import { quickFolder } from '../scratch.ts';
import { Images, runLine, SheetBench } from './sheet-bench.ts';
import { missingWindow } from './window.ts';

const present = 'A passphrase that opens it now';

describeWith(
  { peers: ['chromium', 'qemu-img', 'qemu-io', 'cryptsetup'], unless: missingWindow() },
  'passphrases in sheets',
  () => {
    const folder = quickFolder('keys');
    let bench: SheetBench;
    let images: Images;

    beforeAll(async () => {
      images = new Images(path.join(folder, 'disks'));
      bench = await SheetBench.open(folder, ['disks']);
      // A new key slot takes seconds of work to open, by intent; on a busy machine it is many.
      bench.page.setDefaultTimeout(60_000);
    });
    afterAll(() => bench.close());
    afterEach(async () => {
      await bench.dismiss();
      expect(bench.faults.splice(0)).toEqual([]);
    });

    const secret = (passphrase: string): string[] => ['--object', `secret,id=s,data=${passphrase}`];
    const named = (name: string, format: string): string =>
      format === 'luks'
        ? `driver=luks,key-secret=s,file.filename=${images.at(name)}`
        : `driver=qcow2,encrypt.key-secret=s,file.filename=${images.at(name)}`;

    function make(name: string, format: string): void {
      const key =
        format === 'luks'
          ? 'key-secret=s,iter-time=10'
          : 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
      images.qemuImg('create', '-q', ...secret('first'), '-f', format, '-o', key, images.at(name), '4M');
    }

    /** The line that the sheet shows, with files in place of their names. */
    function runShown(line: string, passphrases: Readonly<Record<string, string>>): void {
      let ready = line;
      for (const [name, text] of Object.entries(passphrases)) {
        const file = path.join(folder, `${name}.txt`);
        fs.writeFileSync(file, text);
        ready = ready.replaceAll(`file=${name}`, `file=${file}`);
      }
      expect(ready).not.toContain('file=PASS');
      runLine(folder, ready);
    }

    /** Whether qemu-io can read the pattern that stands at the begin, with this passphrase. */
    function opens(name: string, format: string, passphrase: string): boolean {
      const args = [...secret(passphrase), '--image-opts', '-c', 'read -P 7 0 64k', named(name, format)];
      const { status, stdout, stderr } = spawnSync('qemu-io', args, { encoding: 'utf8' });
      if (status === 0) {
        expect(stdout).toContain('read 65536/65536');
        return true;
      }
      expect(stderr).toContain('Invalid password');
      return false;
    }

    /** Key slots in use, as qemu-img sees them. */
    function slots(name: string): number[] {
      const told = images.info(name)['format-specific'] as { data: { encrypt: { slots: { active: boolean }[] } } };
      return told.data.encrypt.slots.flatMap(({ active }, slot) => (active ? [slot] : []));
    }

    function write(name: string, format: string, command: string): void {
      execFileSync('qemu-io', [...secret('first'), '--image-opts', '-c', command, named(name, format)]);
    }

    it('take one away from a LUKS image by its slot, as cryptsetup sees it', { timeout: 120_000 }, async () => {
      const file = images.at('disk.luks');
      make('disk.luks', 'luks');
      write('disk.luks', 'luks', 'write -P 7 0 64k');
      const more = [...secret('first'), '--object', 'secret,id=n,data=second'];
      const quick = 'state=active,new-secret=n,iter-time=10';
      images.qemuImg('amend', ...more, '-o', quick, '--image-opts', `driver=luks,key-secret=s,file.filename=${file}`);
      const dump = (): string => mustRun('cryptsetup', ['luksDump', file]);
      expect(dump()).toMatch(/Key Slot 0: ENABLED[^]*Key Slot 1: ENABLED/);
      await bench.scan();
      const sheet = await bench.openSheet(file, 'amend');
      await sheet.getByText('Key slots in use: 2 of 8').waitFor();
      await sheet.getByLabel('Passphrases').selectOption({ label: 'Take a passphrase away' });
      await sheet.getByLabel(present).fill('second');
      await sheet.getByLabel('What goes').selectOption({ label: 'Key slot 0' });
      expect(await bench.command()).toContain('-o state=inactive,keyslot=0');
      await bench.finish('Amend');
      expect(dump()).toMatch(/Key Slot 0: DISABLED[^]*Key Slot 1: ENABLED/);
      expect(opens('disk.luks', 'luks', 'second')).toBe(true);
    });

    it(
      'change one: the new one opens it, the old one does not; the last goes only with consent',
      { timeout: 180_000 },
      async () => {
        const name = 'disk.qcow2';
        const file = images.at(name);
        make(name, 'qcow2');
        write(name, 'qcow2', 'write -P 7 0 64k');
        await bench.scan();
        let sheet = await bench.openSheet(file, 'amend');
        await sheet.getByText('Key slots in use: 1 of 8').waitFor();
        await sheet.getByLabel('Passphrases').selectOption({ label: 'Change a passphrase' });
        const does = sheet.locator('footer button[type=submit]');
        await sheet.getByLabel('The passphrase that is to be changed').fill('first');
        const fresh = async (text: string, again = text): Promise<void> => {
          await sheet.getByLabel('New passphrase', { exact: true }).fill(text);
          await sheet.getByLabel('New passphrase again').fill(again);
        };
        await fresh('second', 'secund');
        await sheet.getByText('The two are not the same').waitFor();
        await fresh('first');
        await sheet.getByText('It is the same as the old one').waitFor();
        expect(await does.isDisabled()).toBe(true);
        await fresh('second');
        await sheet.getByText('There is no way back').waitFor();
        const line = await bench.command();
        const before = fs.readFileSync(file);
        await bench.finish('Amend');
        expect(slots(name)).toEqual([1]);
        expect(opens(name, 'qcow2', 'second')).toBe(true);
        fs.writeFileSync(file, before);
        runShown(line, { 'NEW-PASSPHRASE-FILE': 'second', 'PASSPHRASE-FILE': 'first' });
        expect(slots(name)).toEqual([1]);

        sheet = await bench.openSheet(file, 'amend');
        await sheet.getByLabel('Passphrases').selectOption({ label: 'Take a passphrase away' });
        await sheet.getByText('nothing could open the image any more').waitFor();
        await sheet.getByLabel(present).fill('second');
        await sheet.getByLabel('Passphrase to take away').fill('second');
        expect(await does.isDisabled()).toBe(true);
        await sheet.getByLabel('Take it away all the same').check();
        expect(await bench.command()).toContain('--force');
        await bench.finish('Amend');
        expect(slots(name)).toEqual([]);
      },
    );

    it(
      'a wrong passphrase changes nothing, and none is kept: not in the catalogue, not in the journal of jobs, not in texts',
      { timeout: 120_000 },
      async () => {
        const texts = ['xq-first-41', 'xq-second-42', 'xq-wrong-43'];
        const key = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
        const file = images.at('kept.qcow2');
        images.qemuImg('create', '-q', ...secret(texts[0] ?? ''), '-f', 'qcow2', '-o', key, file, '4M');
        await bench.scan();
        const before = fs.readFileSync(file);
        const sheet = await bench.openSheet(file, 'amend');
        await sheet.getByLabel('Passphrases').selectOption({ label: 'Add a passphrase' });
        await sheet.getByLabel(present).fill(texts[2] ?? '');
        for (const label of ['New passphrase', 'New passphrase again']) {
          await sheet.getByLabel(label, { exact: true }).fill(texts[1] ?? '');
        }
        await sheet.locator('footer button[type=submit]').click();
        await sheet.getByText('Invalid password').waitFor();
        expect(fs.readFileSync(file).equals(before)).toBe(true);
        const said = (await bench.page.locator('body').textContent()) ?? '';
        await sheet.getByLabel(present).fill(texts[0] ?? '');
        await bench.finish('Amend');
        await bench.goTo('#/jobs');
        const told = (await bench.page.locator('body').textContent()) ?? '';
        // The catalogue with its log of writes, and whatever else the program has put into its folder.
        const names = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' });
        const kept = names.map((name) => path.join(folder, name)).filter((name) => fs.statSync(name).isFile());
        expect(kept.some((name) => name.endsWith('catalogue.db'))).toBe(true);
        const all = [said, told, ...kept.map((name) => fs.readFileSync(name, 'latin1'))];
        expect(all.join(' ')).toContain('amend');
        for (const text of all) for (const one of texts) expect(text.includes(one)).toBe(false);
      },
    );
  },
);
