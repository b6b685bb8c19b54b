// A base with overlays that the catalogue knows of is not changed by any verb without --force.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

describeWith({ peers: ['qemu-img'] }, 'a base with overlays', () => {
  const root = scratchFolder('dependents');
  const store = path.join(root, 'store');
  const env = { PLATTER_CATALOGUE: path.join(root, 'catalogue.db'), PLATTER_PROGNAME: 'platter' };
  const platter = (args: string[], more: Record<string, string> = {}) =>
    runPlatter(args, { cwd: store, env: { ...env, ...more } });

  beforeAll(() => {
    fs.mkdirSync(store);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'deep.qcow2', '4M'], { cwd: store });
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'deep.qcow2', '-F', 'qcow2', 'base.qcow2'], {
      cwd: store,
    });
    mustRun('qemu-img', ['snapshot', '-c', 'one', 'base.qcow2'], { cwd: store });
    for (const name of ['a.qcow2', 'b.qcow2']) {
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', name], { cwd: store });
    }
    expect(platter(['datastore', 'add', '-q', store])).toMatchObject({ status: 0 });
  });

  it.each([
    ['resize', ['resize', 'base.qcow2', '8M']],
    ['snapshot -a', ['snapshot', '-a', 'one', 'base.qcow2']],
    ['rebase', ['rebase', '-b', '', 'base.qcow2']],
    ['amend', ['amend', '-o', 'lazy_refcounts=on', 'base.qcow2']],
    ['compact', ['compact', 'base.qcow2']],
    ['commit', ['commit', 'a.qcow2']],
  ])('is refused to %s, with the names of those who read through it', (_name, args) => {
    const before = fs.readFileSync(path.join(store, 'base.qcow2'));
    const { status, stderr } = platter(args);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/read through .*base\.qcow2.*--force/) as string,
    });
    expect(fs.readFileSync(path.join(store, 'base.qcow2')).equals(before)).toBe(true);
  });

  it('may be looked at, may get snapshots, and may be changed with --force, or while we stand in for qemu-img', () => {
    expect(platter(['check', 'base.qcow2'])).toMatchObject({ status: 0 });
    expect(platter(['compact', '--estimate', 'base.qcow2'])).toMatchObject({ status: 0 });
    expect(platter(['snapshot', '-c', 'two', 'base.qcow2'])).toMatchObject({ status: 0 });
    expect(platter(['resize', '-q', '--force', 'base.qcow2', '5M'])).toMatchObject({ status: 0 });
    expect(platter(['resize', '-q', 'base.qcow2', '6M'], { PLATTER_PROGNAME: 'qemu-img' })).toMatchObject({
      status: 0,
    });
    expect(platter(['resize', '-q', 'b.qcow2', '6M'])).toMatchObject({ status: 0 });
  });

  it('is changed, with a warning, when the catalogue cannot be asked', () => {
    const broken = path.join(root, 'folder.db');
    fs.mkdirSync(broken);
    const { status, stderr } = platter(['resize', '-q', 'base.qcow2', '7M'], { PLATTER_CATALOGUE: broken });
    expect(status).toBe(0);
    expect(stderr).toContain('the catalogue was not asked');
  });
});
