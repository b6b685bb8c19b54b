// Chains whose layers are encrypted with a passphrase each, LUKS and AES: verbs of the command line, judged by qemu-img and qemu-io.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

/** On a busy machine qemu-img cannot always time the derivation of a LUKS key. */
function create(args: readonly string[]): void {
  for (let attempt = 1; ; attempt++) {
    const made = runQemuImg(args);
    if (made.status === 0) return;
    if (attempt === 30 || !made.stderr.includes('accurate CPU usage')) throw new Error(made.stderr);
  }
}

const passphrases = { base: 'of the base', other: 'of the other', middle: 'of the middle', top: 'of the top' };
type Layer = keyof typeof passphrases;
const defined = Object.entries(passphrases).flatMap(([id, data]) => ['--object', `secret,id=${id},data=${data}`]);

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'encrypted chains', () => {
  const folder = scratchFolder('encrypted-chains');
  const catalogue = path.join(folder, 'catalogue.db');

  /** A folder with `base`, `middle` over it and `top` over that, and `other`, a base with another disk. */
  class Chain {
    readonly folder: string;
    readonly format: 'aes' | 'luks';

    constructor(name: string, format: 'aes' | 'luks') {
      this.folder = path.join(folder, `${name}-${format}`);
      this.format = format;
      fs.mkdirSync(this.folder);
      this.make('base', null);
      this.make('other', null);
      this.make('middle', 'base');
      this.make('top', 'middle');
      this.io(['base'], 'write -q -P 1 0 2M');
      this.io(['other'], 'write -q -P 1 0 1M', 'write -q -P 9 1M 1M', 'write -q -P 8 3M 64k');
      this.io(['middle', 'base'], 'write -q -P 2 1M 512k');
      this.io(['top', 'middle', 'base'], 'write -q -P 3 2M 64k');
    }

    at(layer: string): string {
      return path.join(this.folder, `${layer}.qcow2`);
    }

    /** LUKS takes qemu-img long: of each layer there is one that is copied. */
    make(layer: Layer, below: Layer | null): void {
      const { format } = this;
      const empty = path.join(folder, `${layer}-${format}.empty`);
      if (!fs.existsSync(empty)) {
        const time = format === 'luks' ? ',encrypt.iter-time=10' : '';
        const options = `encrypt.format=${format},encrypt.key-secret=${layer}${time}`;
        create(['create', '-q', '-f', 'qcow2', ...defined, '-o', options, empty, '4M']);
      }
      fs.copyFileSync(empty, this.at(layer));
      if (below === null) return;
      const under = ['-u', '-b', this.at(below), '-F', 'qcow2'];
      mustRun('qemu-img', ['rebase', ...defined, '--image-opts', ...under, this.described([layer])]);
    }

    /** For qemu-io and qemu-img, which want to be told of each layer how it is opened. */
    described(layers: readonly Layer[]): string {
      return layers
        .map((layer, depth) => {
          const at = 'backing.'.repeat(depth);
          return `${at}driver=qcow2,${at}encrypt.key-secret=${layer},${at}file.filename=${this.at(layer)}`;
        })
        .join(',');
    }

    io(layers: readonly Layer[], ...commands: string[]): string {
      const orders = commands.flatMap((command) => ['-c', command]);
      return mustRun('qemu-io', [...defined, '--image-opts', this.described(layers), ...orders]);
    }

    /** What a guest sees through these layers, as qemu-img reads it. */
    content(layers: readonly Layer[]): Buffer {
      const raw = path.join(this.folder, 'content.raw');
      mustRun('qemu-img', ['convert', ...defined, '--image-opts', this.described(layers), '-O', 'raw', raw]);
      return fs.readFileSync(raw);
    }

    /** What an image records about the layer below, as qemu-img reads it. */
    below(layer: Layer): unknown {
      const told = JSON.parse(mustRun('qemu-img', ['info', '--output=json', this.at(layer)])) as Record<
        string,
        unknown
      >;
      return told['full-backing-filename'];
    }

    /** `--object` that names the file which a passphrase is for. */
    secrets(layers: readonly Layer[]): string[] {
      return layers.flatMap((layer) => [
        '--object',
        `secret,id=${layer},image=${this.at(layer)},data=${passphrases[layer]}`,
      ]);
    }
  }

  function platter(...args: string[]): string {
    const done = runPlatter(args, { env: { PLATTER_PROGNAME: 'platter', PLATTER_CATALOGUE: catalogue } });
    expect(done, `${args.join(' ')}: ${done.stderr}`).toMatchObject({ status: 0 });
    return done.stdout;
  }

  const all = ['top', 'middle', 'base'] as const;

  it.each(['luks', 'aes'] as const)('%s: rebase onto another encrypted base', (format) => {
    const chain = new Chain('rebase', format);
    const before = chain.content(['middle', 'base']);
    const secrets = chain.secrets(['middle', 'base', 'other']);
    platter('rebase', '-q', ...secrets, '-b', chain.at('other'), '-F', 'qcow2', chain.at('middle'));
    expect(chain.below('middle')).toBe(chain.at('other'));
    expect(chain.content(['middle', 'other']).equals(before)).toBe(true);
    // And back, which a secret for any image cannot do with three passphrases.
    const refused = runPlatter(
      ['rebase', '--object', 'secret,id=a,image=*,data=of the middle', '-b', '', chain.at('middle')],
      { env: { PLATTER_PROGNAME: 'platter' } },
    );
    // AES has nothing that a wrong passphrase could be told by.
    if (format === 'luks') expect(refused.stderr).toContain('Invalid password');
  });

  it.each(['luks', 'aes'] as const)('%s: flatten, commit and compare by descriptions, as qemu-img', (format) => {
    const chain = new Chain('described', format);
    const before = chain.content(all);
    const settings = (first: string): string =>
      `driver=qcow2,encrypt.key-secret=${first},file.filename=${chain.at(first)}`;
    const layered = `${settings('top')},backing.encrypt.key-secret=middle,backing.backing.encrypt.key-secret=base`;
    const kept = path.join(chain.folder, 'kept.raw');
    fs.writeFileSync(kept, before);
    const ask = ['compare', ...defined, '--image-opts', layered, `driver=raw,file.filename=${kept}`];
    expect(platter(...ask)).toBe(mustRun('qemu-img', ask));
    const list = ['map', '--output=json', ...defined, '--image-opts', layered];
    expect(JSON.parse(platter(...list))).toEqual(JSON.parse(mustRun('qemu-img', list)));
    platter('commit', '-q', ...defined, '--image-opts', layered);
    expect(chain.content(['middle', 'base']).equals(before)).toBe(true);
    expect(chain.content(all).equals(before)).toBe(true);
    platter('rebase', '-q', ...defined, '--image-opts', layered, '-b', '');
    expect(chain.below('top')).toBeUndefined();
    expect(chain.content(['top']).equals(before)).toBe(true);
  });

  it('luks: convert and digest with passphrases named by file, through another name of it too', () => {
    const chain = new Chain('named', 'luks');
    const before = chain.content(all);
    const link = path.join(chain.folder, 'linked.qcow2');
    fs.symlinkSync(chain.at('base'), link);
    const secrets = [
      ...chain.secrets(['top', 'middle']),
      '--object',
      `secret,id=base,image=${link},data=${passphrases.base}`,
    ];
    const raw = path.join(chain.folder, 'made.raw');
    platter('convert', '-q', ...secrets, '-O', 'raw', chain.at('top'), raw);
    expect(fs.readFileSync(raw).equals(before)).toBe(true);
    // A name in the description comes first.
    const wrong = ['--object', `secret,id=top,image=${chain.at('top')},data=wrong`, ...defined.slice(0, 6)];
    const described = `driver=qcow2,encrypt.key-secret=right,file.filename=${chain.at('top')}`;
    const right = ['--object', `secret,id=right,data=${passphrases.top}`, ...chain.secrets(['middle', 'base'])];
    platter('digest', ...wrong, ...right, '--image-opts', described);
  });

  it('luks: a move, a relink and an unsafe rebase need no passphrase; a migration copies what is encrypted as it is', () => {
    const chain = new Chain('moved', 'luks');
    const before = chain.content(all);
    platter('datastore', 'add', chain.folder, 'here');
    platter('datastore', 'scan', 'here');
    platter('image', 'move', chain.at('base'), 'sub/moved.qcow2');
    const moved = path.join(chain.folder, 'sub/moved.qcow2');
    expect(chain.below('middle')).toBe(moved);
    fs.renameSync(moved, chain.at('base'));
    platter('datastore', 'scan', 'here');
    // What an encrypted image holds cannot speak for it.
    platter('image', 'relink', '--force', chain.at('middle'), chain.at('base'));
    expect(chain.below('middle')).toBe(chain.at('base'));
    platter('rebase', '-u', '-q', '--force', '-b', chain.at('other'), '-F', 'qcow2', chain.at('middle'));
    expect(chain.below('middle')).toBe(chain.at('other'));
    platter('rebase', '-u', '-q', '--force', '-b', chain.at('base'), '-F', 'qcow2', chain.at('middle'));
    expect(chain.content(all).equals(before)).toBe(true);

    platter('datastore', 'scan', 'here');
    const there = path.join(folder, 'there');
    fs.mkdirSync(there);
    platter('datastore', 'add', there, 'there');
    const kept = fs.readFileSync(chain.at('base'));
    platter('image', 'migrate', chain.at('middle'), 'there', '--chain');
    expect(fs.existsSync(chain.at('middle'))).toBe(false);
    expect(fs.readFileSync(path.join(there, 'base.qcow2')).equals(kept)).toBe(true);
    expect(chain.below('top')).toBe(path.join(there, 'middle.qcow2'));
    const refused = runPlatter(['image', 'migrate', chain.at('top'), 'there', '-f', 'vmdk'], {
      env: { PLATTER_PROGNAME: 'platter', PLATTER_CATALOGUE: catalogue },
    });
    expect(refused.stderr).toContain('is encrypted, and a copy in another format');
    for (const name of ['base', 'middle']) fs.renameSync(path.join(there, `${name}.qcow2`), chain.at(name));
    expect(chain.content(all).equals(before)).toBe(true);
  });

  it('luks: merge with a passphrase each, and none for what stands on it; the catalogue and what is said hold none', () => {
    const chain = new Chain('merge', 'luks');
    const before = [chain.content(['middle', 'base']), chain.content(all)];
    platter('datastore', 'add', chain.folder, 'merging');
    platter('datastore', 'scan', 'merging');
    const environment = { PLATTER_PROGNAME: 'platter', PLATTER_CATALOGUE: catalogue };
    const merge = (...secrets: string[]) =>
      runPlatter(['image', 'merge', ...secrets, chain.at('middle')], { env: environment });
    expect(merge().stderr).toContain('encrypt.key-secret');
    const one = merge('--object', `secret,id=a,image=*,data=${passphrases.middle}`);
    expect(one.stderr).toContain('Invalid password');
    expect(merge(...chain.secrets(['middle', 'base']))).toMatchObject({ status: 0 });
    expect(fs.existsSync(chain.at('middle'))).toBe(false);
    expect(chain.below('top')).toBe(chain.at('base'));
    expect(chain.content(['base']).equals(before[0] ?? Buffer.alloc(0))).toBe(true);
    expect(chain.content(['top', 'base']).equals(before[1] ?? Buffer.alloc(0))).toBe(true);
    const left = fs.readdirSync(folder).filter((name) => name.startsWith('catalogue.db'));
    const kept = [one.stderr, ...left.map((name) => fs.readFileSync(path.join(folder, name), 'latin1'))];
    expect(left).toContain('catalogue.db');
    for (const text of kept) for (const secret of Object.values(passphrases)) expect(text).not.toContain(secret);
  });

  it('secrets for an image are ours: as qemu-img it is no parameter', () => {
    const args = ['info', '--object', 'secret,id=a,image=x,data=b', 'x'];
    expect(runPlatter(args).stderr).toContain("Parameter 'image' is unexpected");
    expect(runQemuImg(args).stderr).toContain("Parameter 'image' is unexpected");
  });
});
