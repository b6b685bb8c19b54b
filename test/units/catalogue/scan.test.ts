// A scanned datastore against what qemu-img says of the same files, and against what happens to the files afterwards.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore, findDatastore } from '../../../core/catalogue/datastores.ts';
import { imageRecord, listImages, resolveImage, writeNote, writeTags } from '../../../core/catalogue/images.ts';
import { dependentsOf, dependentsOfFile, findParent, parentEdge } from '../../../core/catalogue/lineage.ts';
import { listProblems } from '../../../core/catalogue/problems.ts';
import { scan, type ScanResult } from '../../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../../core/job.ts';
import { describeWith, mustRun, runPlatter } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'a datastore', () => {
  const root = scratchFolder('catalogue');
  const store = path.join(root, 'store');
  const at = { cwd: store };
  let catalogue: Catalogue;
  let firstScan: ScanResult;
  const rescan = (): Promise<ScanResult> => scan(catalogue, { datastore: 'store' }, silentJob);
  const idOf = (name: string): string => resolveImage(catalogue, path.join(store, name));
  const stateOf = (name: string): string | undefined => parentEdge(catalogue, idOf(name))?.state;

  beforeAll(async () => {
    fs.mkdirSync(path.join(store, 'deep', 'er'), { recursive: true });
    for (const [format, name, size] of [
      ['qcow2', 'base.qcow2', '8M'],
      ['vdi', 'd.vdi', '8M'],
      ['vpc', 'e.vhd', '8M'],
      ['vhdx', 'f.vhdx', '8M'],
      ['vmdk', 'g.vmdk', '8M'],
      ['qcow', 'h.qcow', '8M'],
      ['raw', 'i.raw', '8M'],
    ] as const) {
      mustRun('qemu-img', ['create', '-q', '-f', format, name, size], at);
    }
    mustRun('qemu-io', ['-c', 'write -P 7 0 64k', '-c', 'write -P 9 4M 64k', 'base.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentFlat', 'split.vmdk', '8M'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'mid.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', '../mid.qcow2', '-F', 'qcow2', 'deep/top.qcow2'], at);
    mustRun(
      'qemu-img',
      ['create', '-q', '-f', 'qcow2', '-u', '-b', 'lost.raw', '-F', 'raw', 'deep/er/orphan.qcow2', '8M'],
      at,
    );
    mustRun('qemu-img', ['snapshot', '-c', 'before', 'mid.qcow2'], at);
    fs.copyFileSync(path.join(store, 'd.vdi'), path.join(store, 'd-copy.vdi'));
    fs.writeFileSync(path.join(store, 'notes.txt'), 'no image');
    fs.writeFileSync(path.join(store, 'promise.vmdk'), '');
    fs.renameSync(path.join(store, 'f.vhdx'), path.join(store, 'f.txt'));
    fs.symlinkSync('nowhere', path.join(store, 'dangling.qcow2'));
    fs.symlinkSync('.', path.join(store, 'deep', 'round'));
    fs.writeFileSync(Buffer.from(`${store}/bad\xff.img`, 'latin1'), 'x');
    catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    addDatastore(catalogue, { path: store, name: null });
    firstScan = await rescan();
  });

  it('shows every image as qemu-img does, whatever its name says, and nothing else', () => {
    const images = listImages(catalogue).filter(({ problem }) => problem === null);
    const said = images.map((image) => {
      const info = JSON.parse(mustRun('qemu-img', ['info', '-U', '--output=json', image.file], at)) as Record<
        string,
        unknown
      >;
      return [image.path, info.format, info['virtual-size'], info['backing-filename'] ?? null];
    });
    const found = images.map((image) => [
      image.path,
      image.format,
      image.virtualSize,
      imageRecord(catalogue, image.id).parent?.reference ?? null,
    ]);
    expect(found).toEqual(said);
    expect(images.map((image) => image.path)).toEqual([
      'base.qcow2',
      'd-copy.vdi',
      'd.vdi',
      'deep/er/orphan.qcow2',
      'deep/top.qcow2',
      'e.vhd',
      'f.txt',
      'g.vmdk',
      'h.qcow',
      'i.raw',
      'mid.qcow2',
      'split.vmdk',
    ]);
    expect(firstScan).toMatchObject({ added: images.length + 3, problems: 3 });
  });

  it('tells a snapshot without its disk from a parent that only moved', async () => {
    const folder = path.join(root, 'snapshots');
    fs.mkdirSync(folder);
    const make = (name: string, ...more: string[]): void => {
      mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', ...more, name, ...(more.length === 0 ? ['1M'] : [])], {
        cwd: folder,
      });
    };
    make('disk.vmdk');
    make('disk-000001.vmdk', '-b', 'disk.vmdk', '-F', 'vmdk');
    make('other.vmdk');
    mustRun('qemu-io', ['-c', 'write -P 1 0 64k', 'other.vmdk'], { cwd: folder });
    make('clone.vmdk', '-b', 'other.vmdk', '-F', 'vmdk');
    const own = openCatalogue(path.join(folder, 'own.db'));
    addDatastore(own, { path: folder, name: 'snapshots' });
    const problems = async (): Promise<string[]> => {
      await scan(own, { datastore: 'snapshots' }, silentJob);
      return listProblems(own)
        .filter(({ code }) => code !== 'problem/gone')
        .map(({ file, code, text }) => `${path.basename(file ?? '')} ${code} ${text}`);
    };
    expect(await problems()).toEqual([]);
    fs.rmSync(path.join(folder, 'disk.vmdk'));
    fs.renameSync(path.join(folder, 'other.vmdk'), path.join(folder, 'moved.vmdk'));
    const found = await problems();
    expect(found).toHaveLength(2);
    expect(found[0]).toContain(`clone.vmdk problem/parent-missing`);
    expect(found[0]).toContain(`'${path.join(folder, 'moved.vmdk')}' could be it by its identity`);
    expect(found[1]).toContain('disk-000001.vmdk problem/orphan-snapshot');
    own.close();
  });

  it('says of every image what is wrong deeper in its chain', async () => {
    const folder = path.join(root, 'deep');
    fs.mkdirSync(folder);
    const there = { cwd: folder };
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'a.qcow2', '1M'], there);
    for (const [below, above] of ['ab', 'bc', 'cd']) {
      mustRun(
        'qemu-img',
        ['create', '-q', '-f', 'qcow2', '-b', `${below}.qcow2`, '-F', 'qcow2', `${above}.qcow2`],
        there,
      );
    }
    const deep = openCatalogue(path.join(folder, 'own.db'));
    addDatastore(deep, { path: folder, name: 'deep' });
    const below = async (): Promise<unknown[]> => {
      await scan(deep, { datastore: 'deep' }, silentJob);
      return listImages(deep).map(({ path: name, parentState, brokenBelow }) => [
        name,
        parentState,
        brokenBelow === null ? null : [path.basename(brokenBelow.file), brokenBelow.state],
      ]);
    };
    expect((await below()).map((row) => (row as unknown[])[2])).toEqual([null, null, null, null]);
    fs.renameSync(path.join(folder, 'a.qcow2'), path.join(root, 'a.kept'));
    const missing = await below();
    expect(missing.filter((row) => (row as unknown[])[0] !== 'a.qcow2')).toEqual([
      ['b.qcow2', 'missing', null],
      ['c.qcow2', 'whole', ['b.qcow2', 'missing']],
      ['d.qcow2', 'whole', ['b.qcow2', 'missing']],
    ]);
    fs.renameSync(path.join(root, 'a.kept'), path.join(folder, 'a.qcow2'));
    fs.writeFileSync(path.join(folder, 'b.qcow2'), 'QFI\xfb broken', 'latin1');
    expect((await below()).find((row) => (row as unknown[])[0] === 'd.qcow2')).toEqual([
      'd.qcow2',
      'whole',
      ['b.qcow2', 'unreadable'],
    ]);
    deep.close();
    fs.rmSync(folder, { recursive: true });
  });

  it('counts what the images take as the file system does', () => {
    const files = ['split.vmdk', 'split-f001.vmdk'].map((name) => fs.statSync(path.join(store, name)).blocks * 512);
    const split = imageRecord(catalogue, idOf('split.vmdk'));
    expect(split.allocated).toBe((files[0] ?? 0) + (files[1] ?? 0));
    expect(split.parts.map(({ role }) => role)).toEqual(['extents.0']);
    expect(findDatastore(catalogue, 'store')).toMatchObject({ images: 15, problems: 3 });
  });

  it('knows the chain as qemu-img does', () => {
    const chain = JSON.parse(
      mustRun('qemu-img', ['info', '--backing-chain', '--output=json', 'deep/top.qcow2'], at),
    ) as { filename: string }[];
    const ours: string[] = [];
    for (
      let id: string | null = idOf('deep/top.qcow2');
      id !== null;
      id = parentEdge(catalogue, id)?.parentId ?? null
    ) {
      ours.push(fs.realpathSync(imageRecord(catalogue, id).file));
    }
    expect(ours).toEqual(chain.map(({ filename }) => fs.realpathSync(path.join(store, filename))));
    expect(dependentsOf(catalogue, idOf('base.qcow2'))).toEqual([idOf('mid.qcow2'), idOf('deep/top.qcow2')]);
    expect(dependentsOfFile(catalogue, path.join(store, 'mid.qcow2'))).toEqual([path.join(store, 'deep/top.qcow2')]);
    expect(imageRecord(catalogue, idOf('mid.qcow2')).snapshotList).toMatchObject([{ name: 'before' }]);
  });

  it('names what is wrong', () => {
    const problems = listProblems(catalogue).map(({ code, file }) => [code, path.basename(file ?? '')]);
    expect(problems).toEqual([
      ['image/name-encoding', 'bad\ufffd.img'],
      ['problem/duplicate-identity', 'd-copy.vdi'],
      ['problem/duplicate-identity', 'd.vdi'],
      ['image/dangling-link', 'dangling.qcow2'],
      ['problem/parent-missing', 'orphan.qcow2'],
      ['image/not-as-named', 'promise.vmdk'],
    ]);
  });

  it('looks only at what has changed', async () => {
    expect(await rescan()).toMatchObject({ added: 0, changed: 0, moved: 0, gone: 0 });
    mustRun('qemu-img', ['resize', '-q', 'i.raw', '9M'], at);
    expect(await rescan()).toMatchObject({ added: 0, changed: 1, moved: 0, gone: 0 });
    expect(imageRecord(catalogue, idOf('i.raw')).virtualSize).toBe(9 * 1024 * 1024);
  });

  it('knows a moved image again, and finds it for its children by what it holds', async () => {
    const before = idOf('base.qcow2');
    writeTags(catalogue, before, { add: ['gold'], remove: [] });
    fs.renameSync(path.join(store, 'base.qcow2'), path.join(store, 'deep', 'moved.qcow2'));
    expect(await rescan()).toMatchObject({ added: 0, moved: 1, gone: 0 });
    expect(idOf('deep/moved.qcow2')).toBe(before);
    expect(imageRecord(catalogue, before).tags).toEqual(['gold']);
    expect(stateOf('mid.qcow2')).toBe('missing');
    expect(findParent(catalogue, idOf('mid.qcow2'))).toMatchObject([{ imageId: before, by: 'content' }]);
    fs.renameSync(path.join(store, 'deep', 'moved.qcow2'), path.join(store, 'base.qcow2'));
    await rescan();
    expect(stateOf('mid.qcow2')).toBe('whole');
  });

  it('notices a base that was written under its overlay', async () => {
    mustRun('qemu-io', ['-c', 'write -P 8 0 4k', 'base.qcow2'], at);
    await rescan();
    expect(stateOf('mid.qcow2')).toBe('changed');
    mustRun('qemu-io', ['-c', 'write -P 7 0 4k', 'base.qcow2'], at);
    await rescan();
    expect(stateOf('mid.qcow2')).toBe('touched');
  });

  it('knows differencing disks by their identities', async () => {
    for (const [format, base, child] of [
      ['vpc', 'p.vhd', 'c.vhd'],
      ['vhdx', 'p.vhdx', 'c.vhdx'],
      ['vdi', 'p.vdi', 'c.vdi'],
      ['vmdk', 'p.vmdk', 'c.vmdk'],
    ] as const) {
      runPlatterOrFail(['create', '-q', '-f', format, base, '8M']);
      runPlatterOrFail(['create', '-q', '-f', format, '-b', base, '-F', format, child]);
    }
    await rescan();
    const children = ['c.vhd', 'c.vhdx', 'c.vdi', 'c.vmdk'];
    expect(children.map(stateOf)).toEqual(['whole', 'whole', 'whole', 'whole']);
    fs.mkdirSync(path.join(store, 'away', 'far'), { recursive: true });
    for (const name of ['p.vhd', 'p.vhdx', 'p.vdi', 'p.vmdk']) {
      fs.renameSync(path.join(store, name), path.join(store, 'away', 'far', name));
    }
    await rescan();
    expect(children.map(stateOf)).toEqual(['missing', 'missing', 'missing', 'missing']);
    for (const name of children) {
      const wanted = idOf(`away/far/p${path.extname(name)}`);
      expect(findParent(catalogue, idOf(name))).toMatchObject([{ imageId: wanted, by: 'identity' }]);
    }
    function runPlatterOrFail(args: string[]): void {
      expect(runPlatter(args, at)).toMatchObject({ status: 0 });
    }
  });

  it('remembers an image that is gone while somebody cares', async () => {
    writeNote(catalogue, idOf('h.qcow'), { note: 'from the old machine' });
    const [noted, plain] = [idOf('h.qcow'), idOf('e.vhd')];
    fs.rmSync(path.join(store, 'h.qcow'));
    fs.rmSync(path.join(store, 'e.vhd'));
    expect(await rescan()).toMatchObject({ gone: 2 });
    expect(imageRecord(catalogue, noted)).toMatchObject({ gone: true, note: 'from the old machine' });
    expect(() => imageRecord(catalogue, plain)).toThrow(/no image/);
  });

  it('keeps what was done when a scan is cancelled, and calls nothing gone', async () => {
    const images = listImages(catalogue).length;
    let steps = 0;
    const job = {
      progress: () => {},
      throwIfCancelled() {
        if (++steps > 3) throw new Error('stop');
      },
    };
    await expect(scan(catalogue, { datastore: 'store', everything: true }, job)).rejects.toThrow('stop');
    expect(listImages(catalogue)).toHaveLength(images);
  });

  it('says that a datastore is not there, and keeps what it knows', async () => {
    const images = listImages(catalogue).length;
    fs.renameSync(store, `${store}-off`);
    await expect(rescan()).rejects.toMatchObject({ code: 'datastore/unreachable' });
    expect(listProblems(catalogue).filter(({ code }) => code === 'problem/unreachable')).toHaveLength(1);
    fs.renameSync(`${store}-off`, store);
    expect(listImages(catalogue)).toHaveLength(images);
  });
});
