// What an image may pull in when strangers made it: what is asked about, what is never opened, and that a list of it opens nothing.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openCatalogue } from '../../../core/catalogue/catalogue.ts';
import { openImage } from '../../../core/formats/open.ts';
import { listReferences, type ReferenceList } from '../../../core/formats/references.ts';
import {
  cautious,
  decide,
  keptPolicy,
  mostDecisions,
  readGate,
  writeGate,
  type KeptGate,
} from '../../../core/workbench/kept-gate.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

describeWith({ peers: ['qemu-img'] }, 'the gate', () => {
  const root = fs.realpathSync(scratchFolder('gate'));
  const [inbox, vault] = [path.join(root, 'inbox'), path.join(root, 'vault')];
  const at = { cwd: inbox };
  const list = (name: string, gate: KeptGate = cautious, once: readonly string[] = []): ReferenceList =>
    listReferences(path.join(inbox, name), { policy: keptPolicy(gate, once) });
  const verdicts = (...args: Parameters<typeof list>): string[] =>
    list(...args).references.map(({ role, path: file, verdict }) => `${role} ${path.relative(root, file)} ${verdict}`);
  const code = (name: string, gate: KeptGate, once: readonly string[] = []): string => {
    try {
      openImage(path.join(inbox, name), { policy: keptPolicy(gate, once) }).node.close();
      return 'open';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };

  beforeAll(() => {
    fs.mkdirSync(inbox);
    fs.mkdirSync(vault);
    const base = path.join(vault, 'base.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', path.join(vault, 'bottom.raw'), '1M'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'bottom.raw', '-F', 'raw', base], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', 'top.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'raw', 'near.raw', '1M'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'near.raw', '-F', 'raw', 'near.qcow2'], at);
    const data = path.join(vault, 'data.raw');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, 'split.qcow2', '1M'], at);
    mustRun('qemu-img', ['rebase', '-u', '-b', base, '-F', 'qcow2', 'split.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', 'flat.vmdk', '1M'], at);
    const descriptor = fs.readFileSync(path.join(inbox, 'flat.vmdk'), 'latin1');
    const line = /RW 2048 FLAT "flat-flat.vmdk" 0/;
    expect(descriptor).toMatch(line);
    const stolen = `RW 1024 FLAT "${vault}/data.raw" 0\nRW 1024 FLAT "../vault/bottom.raw" 0`;
    fs.writeFileSync(path.join(inbox, 'thief.vmdk'), descriptor.replace(line, stolen), 'latin1');
    fs.symlinkSync(path.join(vault, 'bottom.raw'), path.join(inbox, 'link.raw'));
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'link.raw', '-F', 'raw', 'link.qcow2'], at);
    mustRun(
      'qemu-img',
      ['create', '-q', '-u', '-f', 'qcow2', '-b', '/dev/zero', '-F', 'raw', 'device.qcow2', '1M'],
      at,
    );
    mustRun('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', 'nbd://h/x', '-F', 'raw', 'net.qcow2', '1M'], at);
    mustRun('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', 'gone.raw', '-F', 'raw', 'orphan.qcow2', '1M'], at);
  });

  it('asks about a layer below, wherever it lies, and sees nothing underneath until it is allowed', () => {
    expect(verdicts('top.qcow2')).toEqual(['backing vault/base.qcow2 asked']);
    expect(verdicts('top.qcow2', cautious, [path.join(vault, 'base.qcow2')])).toEqual([
      'backing vault/base.qcow2 allowed',
      'backing vault/bottom.raw asked',
    ]);
    expect(verdicts('near.qcow2')).toEqual(['backing inbox/near.raw asked']);
    expect(list('top.qcow2').references[0]).toMatchObject({ from: path.join(inbox, 'top.qcow2'), format: 'qcow2' });
    expect(code('top.qcow2', cautious)).toBe('gate/ask');
    expect(code('top.qcow2', cautious, [path.join(vault, 'base.qcow2'), path.join(vault, 'bottom.raw')])).toBe('open');
  });

  it('names all that one image wants at once', () => {
    expect(verdicts('split.qcow2')).toEqual(['data-file vault/data.raw asked', 'backing vault/base.qcow2 asked']);
    expect(verdicts('thief.vmdk')).toEqual(['extents.0 vault/data.raw asked', 'extents.1 vault/bottom.raw asked']);
    expect(verdicts('flat.vmdk')).toEqual(['extents.0 inbox/flat-flat.vmdk allowed']);
    expect(code('flat.vmdk', cautious)).toBe('open');
  });

  it('takes folders for an answer, and goes by where links lead', () => {
    const beside: KeptGate = { ...cautious, rule: 'folder' };
    expect([code('near.qcow2', beside), code('top.qcow2', beside), code('link.qcow2', beside)]).toEqual([
      'open',
      'gate/ask',
      'gate/ask',
    ]);
    const known: KeptGate = { ...cautious, allowed: [vault] };
    expect([code('top.qcow2', known), code('link.qcow2', known), code('thief.vmdk', known)]).toEqual([
      'open',
      'open',
      'open',
    ]);
    expect(code('near.qcow2', known)).toBe('gate/ask');
  });

  it('asks about devices and files of the image elsewhere under every rule, and opens what is denied under none', () => {
    const open: KeptGate = { ...cautious, rule: 'allow' };
    expect([code('top.qcow2', open), code('device.qcow2', open), code('thief.vmdk', open)]).toEqual([
      'open',
      'gate/ask',
      'gate/ask',
    ]);
    const denied: KeptGate = { ...open, allowed: [vault], denied: [path.join(vault, 'bottom.raw')] };
    expect(code('top.qcow2', denied, [path.join(vault, 'bottom.raw')])).toBe('gate/refused');
    expect(verdicts('top.qcow2', denied).at(-1)).toBe('backing vault/bottom.raw refused');
    expect(code('link.qcow2', denied)).toBe('gate/refused');
  });

  it('says why a list ends early', () => {
    expect(list('net.qcow2')).toMatchObject({ references: [], fault: { code: 'gate/scheme' } });
    expect(list('orphan.qcow2')).toMatchObject({
      references: [{ name: 'gone.raw', verdict: 'allowed' }],
      fault: { code: 'gate/backing' },
    });
    expect(() => list('not-there')).toThrow(expect.objectContaining({ code: 'storage/open' }) as Error);
  });

  it('opens no file that it lists as not allowed', () => {
    const before = fs.statSync(path.join(vault, 'base.qcow2'), { bigint: true });
    fs.utimesSync(path.join(vault, 'base.qcow2'), 1, 1);
    fs.renameSync(path.join(vault, 'base.qcow2'), path.join(vault, 'kept'));
    execFileSync('mkfifo', [path.join(vault, 'base.qcow2')]); // opening it to read would wait for ever
    expect(verdicts('top.qcow2')).toEqual(['backing vault/base.qcow2 asked']);
    expect(list('top.qcow2', { ...cautious, rule: 'allow' }).references[0]).toMatchObject({ verdict: 'asked' });
    fs.rmSync(path.join(vault, 'base.qcow2'));
    fs.renameSync(path.join(vault, 'kept'), path.join(vault, 'base.qcow2'));
    expect(fs.statSync(path.join(vault, 'base.qcow2'), { bigint: true }).ino).toBe(before.ino);
  });

  it('keeps what was decided in the catalogue', () => {
    const file = path.join(root, 'catalogue.db');
    const catalogue = openCatalogue(file);
    expect(readGate(catalogue)).toEqual(cautious);
    decide(catalogue, path.join(inbox, 'link.raw'), 'folder');
    decide(catalogue, path.join(vault, 'data.raw'), 'never');
    catalogue.close();
    const again = openCatalogue(file);
    expect(readGate(again)).toEqual({ rule: 'ask', allowed: [vault], denied: [path.join(vault, 'data.raw')] });
    const many = Array.from({ length: mostDecisions + 1 }, (_, index) => `/there/${index}`);
    expect(() => writeGate(again, { ...cautious, allowed: many })).toThrow(
      expect.objectContaining({ code: 'gate/decisions' }) as Error,
    );
    again.close();
  });
});
