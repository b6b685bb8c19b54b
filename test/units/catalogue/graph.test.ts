// The graph of the lineage, on chains that qemu-img made: who is in it, in which state each edge is, and what stays out of it.
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../../core/catalogue/catalogue.ts';
import { addDatastore } from '../../../core/catalogue/datastores.ts';
import { imageGraph, type ImageGraph } from '../../../core/catalogue/graph.ts';
import { resolveImage } from '../../../core/catalogue/images.ts';
import { scan } from '../../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../../core/job.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { processorTime } from '../../processor-time.ts';
import { scratchFolder } from '../../scratch.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'the graph of the lineage', () => {
  const root = scratchFolder('graph');
  let number = 0;
  let folder: string;
  let catalogue: Catalogue;
  const closing: Catalogue[] = [];
  afterAll(() => closing.forEach((each) => each.close()));
  const id = (name: string): string => resolveImage(catalogue, name);
  const graphOf = (name: string, limit = 100): ImageGraph => imageGraph(catalogue, { id: id(name), limit });
  const scanAll = async (): Promise<void> => {
    for (const datastore of ['one', 'two']) await scan(catalogue, { datastore, everything: true }, silentJob);
  };
  const create = (name: string, below: string | null, format = 'qcow2'): void => {
    const base = below === null ? [] : ['-b', below, '-F', below.endsWith('.vmdk') ? 'vmdk' : 'qcow2'];
    mustRun('qemu-img', ['create', '-q', '-f', format, ...base, name, ...(below === null ? ['4M'] : [])], {
      cwd: path.join(folder, 'one'),
    });
  };
  /** `child>parent state`, by the names of the files. */
  const edges = ({ nodes, edges: list }: ImageGraph): string[] => {
    const name = new Map(nodes.map((node) => [node.id, path.basename(node.file)]));
    return list.map(({ child, parent, state }) => `${name.get(child)}>${name.get(parent)} ${state}`).sort();
  };

  /** Names of columns with other terms in the place of some. */
  const replaced = (names: string, terms: Readonly<Record<string, string>>): string =>
    names
      .split(', ')
      .map((name) => terms[name] ?? name)
      .join(', ');

  beforeEach(() => {
    folder = path.join(root, String(++number));
    fs.mkdirSync(path.join(folder, 'one', 'sub'), { recursive: true });
    fs.mkdirSync(path.join(folder, 'two'));
    catalogue = openCatalogue(path.join(folder, 'catalogue.db'));
    closing.push(catalogue);
    addDatastore(catalogue, { path: path.join(folder, 'one'), name: 'one' });
    addDatastore(catalogue, { path: path.join(folder, 'two'), name: 'two' });
  });

  it('holds every relative, over datastores and formats, with sizes, snapshots and counts', async () => {
    create('base.vmdk', null, 'vmdk');
    create('mid.qcow2', 'base.vmdk');
    create('sub/a.qcow2', '../mid.qcow2');
    create('../two/b.qcow2', '../one/mid.qcow2');
    create('stranger.qcow2', null);
    for (let i = 0; i < 11; i++) {
      mustRun('qemu-img', ['snapshot', '-c', `s${i}`, 'mid.qcow2'], { cwd: path.join(folder, 'one') });
    }
    await scanAll();
    const graph = graphOf('mid.qcow2');
    expect(edges(graph)).toEqual(['a.qcow2>mid.qcow2 whole', 'b.qcow2>mid.qcow2 whole', 'mid.qcow2>base.vmdk whole']);
    expect(graph.total).toBe(4);
    expect(
      graphOf('sub/a.qcow2')
        .nodes.map((node) => node.id)
        .sort(),
    ).toEqual(graph.nodes.map((node) => node.id).sort());
    const mid = graph.nodes.find((node) => node.id === id('mid.qcow2'));
    const told = JSON.parse(
      mustRun('qemu-img', ['info', '--output=json', path.join(folder, 'one', 'mid.qcow2')]),
    ) as Record<string, number | string>;
    expect(mid).toMatchObject({
      ...{ kind: 'image', format: 'qcow2', datastore: 'one', health: 'ok', children: 2, above: 2 },
      ...{ virtualSize: told['virtual-size'], allocated: told['actual-size'] },
    });
    expect(mid?.snapshots.count).toBe(11);
    expect(mid?.snapshots.first).toHaveLength(8);
    expect(mid?.snapshots.first[0]?.name).toBe('s0');
    expect(graph.nodes.find((node) => node.format === 'vmdk')).toMatchObject({ children: 1, above: 3 });
    expect(graphOf('stranger.qcow2')).toMatchObject({ nodes: [{ children: 0 }], edges: [], total: 1 });
    expect(imageGraph(catalogue, { id: null, limit: 100 }).total).toBe(4);
  });

  it('shows a parent that is not there once, and what it was if it was known', async () => {
    create('base.qcow2', null);
    create('a.qcow2', 'base.qcow2');
    create('sub/b.qcow2', '../base.qcow2');
    fs.renameSync(path.join(folder, 'one', 'base.qcow2'), path.join(folder, 'base.qcow2'));
    await scanAll();
    let graph = graphOf('a.qcow2');
    expect(edges(graph)).toEqual(['a.qcow2>base.qcow2 missing', 'b.qcow2>base.qcow2 missing']);
    expect(graph.nodes.filter(({ kind }) => kind === 'missing')).toMatchObject([
      { file: path.join(folder, 'one', 'base.qcow2'), format: 'qcow2', children: 2, health: 'gone' },
    ]);
    fs.renameSync(path.join(folder, 'base.qcow2'), path.join(folder, 'one', 'base.qcow2'));
    await scanAll();
    fs.rmSync(path.join(folder, 'one', 'base.qcow2'));
    await scanAll();
    graph = graphOf('a.qcow2');
    expect(edges(graph)).toEqual(['a.qcow2>base.qcow2 missing', 'b.qcow2>base.qcow2 missing']);
    expect(graph.nodes.find(({ children }) => children === 2)).toMatchObject({ kind: 'image', health: 'gone' });
  });

  it('tells a changed parent with what was expected, one outside of all datastores, and a loop', async () => {
    create('base.vmdk', null, 'vmdk');
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', 'top.vmdk'], {
      cwd: path.join(folder, 'one'),
    });
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -P 1 0 64k', 'base.vmdk'], { cwd: path.join(folder, 'one') });
    create('../outside.qcow2', null);
    create('over.qcow2', '../outside.qcow2');
    create('x.qcow2', null);
    create('y.qcow2', 'x.qcow2');
    mustRun('qemu-img', ['rebase', '-u', '-b', 'y.qcow2', '-F', 'qcow2', 'x.qcow2'], { cwd: path.join(folder, 'one') });
    await scanAll();
    const [edge] = graphOf('top.vmdk').edges;
    expect(edge?.state).toBe('changed');
    expect(edge?.expected[0]?.id).not.toBe(edge?.found?.id);
    const over = graphOf('over.qcow2');
    expect(edges(over)).toEqual(['over.qcow2>outside.qcow2 outside']);
    expect(over.nodes.find(({ kind }) => kind === 'outside')?.file).toBe(path.join(folder, 'outside.qcow2'));
    expect(edges(graphOf('x.qcow2'))).toEqual(['x.qcow2>y.qcow2 loop', 'y.qcow2>x.qcow2 loop']);
  });

  it('keeps to its limit: the chain of the image first, then what stands on it', async () => {
    create('base.qcow2', null);
    create('mid.qcow2', 'base.qcow2');
    create('top.qcow2', 'mid.qcow2');
    for (const name of ['a', 'b', 'c']) create(`${name}.qcow2`, 'base.qcow2');
    await scanAll();
    const graph = graphOf('mid.qcow2', 3);
    expect(graph.nodes.map(({ file }) => path.basename(file)).sort()).toEqual(['base.qcow2', 'mid.qcow2', 'top.qcow2']);
    expect(graph.total).toBe(6);
    expect(graph.nodes.find(({ file }) => file.endsWith('base.qcow2'))).toMatchObject({ children: 4, above: 5 });
    const one = imageGraph(catalogue, { id: id('mid.qcow2'), limit: 100, within: [] });
    expect(one).toMatchObject({ edges: [] });
  });

  it('is quick on a library of 5,000 and does not open anything', async () => {
    create('base.qcow2', null);
    create('top.qcow2', 'base.qcow2');
    await scanAll();
    const { database } = catalogue;
    const columns = (table: string): string =>
      database
        .all<{ name: string }>(`select name from pragma_table_info('${table}')`)
        .map(({ name }) => name)
        .join(', ');
    const [images, links] = [columns('image'), columns('lineage')];
    const numbers = `with recursive number (n) as (select 0 union all select n + 1 from number where n < 4999)`;
    const own = { id: "'n' || n", path: "'n' || n", inode: "'n' || n" };
    const parent = `case n when 0 then '${id('base.qcow2')}' else 'n' || ((n - 1) / 3) end`;
    const like = { like: id('top.qcow2') };
    database.transaction(() => {
      database.run(
        `insert into image (${images}) ${numbers} select ${replaced(images, own)} from number, image where id = :like`,
        like,
      );
      database.run(
        `insert into lineage (${links}) ${numbers} select ${replaced(links, { child_id: "'n' || n", parent_id: parent })}
         from number, lineage where child_id = :like`,
        like,
      );
    });
    fs.rmSync(path.join(folder, 'one'), { recursive: true });
    const before = processorTime();
    const graph = imageGraph(catalogue, { id: 'n4000', limit: 2000 });
    // 60 ms on an idle machine.
    expect(processorTime() - before).toBeLessThan(1500);
    expect(graph).toMatchObject({ total: 5002 });
    expect(graph.nodes).toHaveLength(2000);
    expect(graph.nodes.find((node) => node.kind === 'image' && node.file.endsWith('base.qcow2'))?.above).toBe(5001);
  });
});
