// platter chain: layers, sizes and states against `qemu-img info --backing-chain`, with and without a catalogue; the layer of a sector.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

interface Layer {
  readonly filename: string;
  readonly format: string;
  readonly 'virtual-size': number;
  readonly 'actual-size': number;
}

interface Chain {
  readonly image: string;
  readonly nodes: readonly {
    readonly id: string;
    readonly file: string;
    readonly format: string;
    readonly virtualSize: number;
    readonly allocated: number;
    readonly kind: string;
  }[];
  readonly edges: readonly { readonly child: string; readonly parent: string; readonly state: string }[];
  readonly total: number;
  readonly sector?: {
    readonly node: string | null;
    readonly layer: string;
    readonly depth: number;
    readonly kind: string;
    readonly offset: number;
  };
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'platter chain', () => {
  const root = scratchFolder('chain');
  let number = 0;
  let folder: string;
  const platter = (...args: string[]) =>
    runPlatter(args, { cwd: folder, env: { PLATTER_CATALOGUE: path.join(folder, 'catalogue.db') } });
  const chainOf = (...args: string[]): Chain => JSON.parse(platter('chain', '--output=json', ...args).stdout) as Chain;
  const run = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
  const create = (name: string, format: string, below: string | null, belowFormat = 'qcow2'): void => {
    const base = below === null ? [] : ['-b', below, '-F', belowFormat];
    run('create', '-q', '-f', format, ...base, name, ...(below === null ? ['8M'] : []));
  };
  /** The layers from the image down, as the edges lead. */
  const down = (chain: Chain): Layer[] => {
    const layers: Layer[] = [];
    for (let at: string | undefined = chain.image; at !== undefined;) {
      const here = chain.nodes.find((node) => node.id === at);
      if (here === undefined) throw new Error(`no node ${at}`);
      layers.push({
        ...{ filename: path.resolve(folder, here.file), format: here.format },
        ...{ 'virtual-size': here.virtualSize, 'actual-size': here.allocated },
      });
      at = chain.edges.find(({ child }) => child === here.id)?.parent;
    }
    return layers;
  };
  const told = (name: string): Layer[] =>
    (JSON.parse(run('info', '--backing-chain', '--output=json', name)) as Layer[]).map((layer) => ({
      ...{ filename: path.resolve(folder, layer.filename), format: layer.format },
      ...{ 'virtual-size': layer['virtual-size'], 'actual-size': layer['actual-size'] },
    }));

  beforeEach(() => {
    folder = path.join(root, String(++number));
    fs.mkdirSync(path.join(folder, 'sub'), { recursive: true });
    fs.writeFileSync(path.join(folder, 'base.raw'), Buffer.alloc(8 * 1024 * 1024, 1));
    create('one.qcow2', 'qcow2', 'base.raw', 'raw');
    create('two.qcow2', 'qcow2', 'one.qcow2');
    create('sub/three.qcow2', 'qcow2', '../two.qcow2');
    create('top.qcow2', 'qcow2', 'sub/three.qcow2');
    mustRun('qemu-io', ['-c', 'write -P 2 1M 64k', 'two.qcow2'], { cwd: folder });
    run('snapshot', '-c', 'before', 'one.qcow2');
  });

  it('shows the layers that qemu-img shows, without a catalogue and with one', () => {
    const expected = told('top.qcow2');
    expect(expected).toHaveLength(5);
    expect(down(chainOf('top.qcow2'))).toEqual(expected);
    expect(platter('datastore', 'add', '.', 'here').status).toBe(0);
    expect(platter('datastore', 'scan').status).toBe(0);
    const known = chainOf('top.qcow2');
    expect(known.image).not.toBe('top.qcow2');
    expect(down(known)).toEqual(expected);
    expect(down(chainOf('two.qcow2'))).toEqual(told('two.qcow2'));
    // Overlays are in it too, and what was changed behind the catalogue's back is read again.
    expect(chainOf('one.qcow2').total).toBe(5);
    run('rebase', '-u', '-b', 'one.qcow2', '-F', 'qcow2', 'top.qcow2');
    expect(down(chainOf('top.qcow2'))).toEqual(told('top.qcow2'));
  });

  it('draws it', () => {
    const { status, stdout } = platter('chain', 'top.qcow2');
    expect(status).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/base\.raw {2}\[raw, 8 MiB, 8 MiB on disk\]$/);
    expect(lines[1]).toMatch(/^└─ .*one\.qcow2 {2}\[qcow2, 8 MiB, .* on disk\]$/);
    expect(lines[2]).toBe('   │  ◦ snapshot 1 before');
    expect(lines[3]).toMatch(/^ {3}└─ .*two\.qcow2/);
    expect(lines.at(-1)).toMatch(/└─ ● top\.qcow2/);
  });

  it('says which layer supplies a sector, and where it is stored', () => {
    const chain = chainOf('--sector', '2048', 'top.qcow2');
    expect(chain.sector).toMatchObject({ depth: 2, kind: 'data' });
    expect(path.resolve(folder, chain.sector?.node ?? '')).toBe(path.join(folder, 'two.qcow2'));
    const bytes = fs.readFileSync(path.join(folder, 'two.qcow2'));
    expect(bytes[chain.sector?.offset ?? 0]).toBe(2);
    expect(chainOf('--sector=0x100', 'top.qcow2').sector).toMatchObject({ depth: 4, offset: 131072 });
    const text = platter('chain', '--sector', '2048', 'top.qcow2').stdout;
    expect(text).toMatch(/two\.qcow2 .*◀ supplies the sector/);
    expect(text).toMatch(/^sector 2048 \(byte 1048576\): .*two\.qcow2 \(2 below\): data at \d+ of /m);
    expect(platter('chain', '--sector', '16384', 'top.qcow2')).toMatchObject({ status: 1 });
    expect(platter('chain', '--sector', '16384', 'top.qcow2').stderr).toContain('its last one is 16383');
    expect(platter('chain', '--sector', 'x', 'top.qcow2').stderr).toContain("'x' is no number of a sector");
  });

  it('reads a sector of an image that another program has open for writing with -U only', async () => {
    create('empty.qcow2', 'qcow2', null);
    expect(chainOf('--sector', '0', 'empty.qcow2').sector).toMatchObject({ kind: 'unallocated', node: null });
    const holder = spawn('qemu-io', ['-c', 'sleep 30000', 'empty.qcow2'], { cwd: folder, stdio: 'ignore' });
    try {
      await expect.poll(() => platter('chain', '--sector', '0', 'empty.qcow2').status).toBe(1);
      expect(platter('chain', '-U', '--sector', '0', 'empty.qcow2').status).toBe(0);
    } finally {
      holder.kill();
    }
  });

  it('shows what is broken, and ends with 2', () => {
    fs.renameSync(path.join(folder, 'one.qcow2'), path.join(folder, 'moved.qcow2'));
    let shown = platter('chain', 'top.qcow2');
    expect(shown.status).toBe(2);
    expect(shown.stdout).toMatch(/one\.qcow2 {2}\[qcow2\] {2}✕ not there/);
    expect(shown.stdout).toMatch(/two\.qcow2 .*✕ parent 'one\.qcow2' not there/);
    run('create', '-q', '-f', 'vmdk', 'a.vmdk', '4M');
    run('create', '-q', '-f', 'vmdk', '-b', 'a.vmdk', '-F', 'vmdk', 'b.vmdk');
    expect(platter('chain', 'b.vmdk').status).toBe(0);
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -P 1 0 64k', 'a.vmdk'], { cwd: folder });
    shown = platter('chain', 'b.vmdk');
    expect(shown.status).toBe(2);
    // QEMU leaves leading zeroes out.
    const cid = (name: string): string =>
      /CID=([0-9a-f]+)/.exec(fs.readFileSync(path.join(folder, name), 'latin1'))?.[1]?.padStart(8, '0') ?? '';
    const wanted =
      /parentCID=([0-9a-f]+)/.exec(fs.readFileSync(path.join(folder, 'b.vmdk'), 'latin1'))?.[1]?.padStart(8, '0') ?? '';
    expect(shown.stdout).toContain(`(expected ${wanted}, found ${cid('a.vmdk')})`);
    run('rebase', '-u', '-b', 'top.qcow2', '-F', 'qcow2', 'two.qcow2');
    shown = platter('chain', 'top.qcow2');
    expect(shown).toMatchObject({ status: 2 });
    expect(shown.stdout).toContain('comes back to itself');
    expect(platter('chain', 'nothing.qcow2')).toMatchObject({ status: 1, stdout: '' });
  });
});
