// Makes the project's own samples: runs each recipe with qemu-img and qemu-io and records what they say. `node test/samples/rebuild.ts [CASE…]`
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { mustRun, runPeer, runProgram } from '../peers.ts';
import { type Expectation, type SampleCase, unpackSample } from './case.ts';
import { digestOfFile } from './digest.ts';

/** The lines `# key: value` at the top of a recipe. */
export interface RecipeHead {
  /** What the sample is there to show. */
  readonly about: string;
  readonly format: string;
  readonly main: string;
  /** `refuse`: nothing may open it; `refuse-content`: only info may. Whatever qemu-img does. */
  readonly open?: 'refuse' | 'refuse-content' | undefined;
}

export function readHead(recipe: string): RecipeHead {
  const text = fs.readFileSync(recipe, 'utf8');
  const value = (key: string): string | undefined => new RegExp(`^# ${key}: (.*)$`, 'm').exec(text)?.[1];
  const required = (key: string): string => {
    const found = value(key);
    if (found === undefined) throw new Error(`${recipe} has no line '# ${key}: …'`);
    return found;
  };
  const open = value('open');
  if (open !== undefined && open !== 'refuse' && open !== 'refuse-content') throw new Error(`${recipe}: open: ${open}`);
  return { about: required('about'), format: required('format'), main: required('main'), open };
}

/** Runs the recipe in the empty folder `folder`. */
export function follow(recipe: string, folder: string): void {
  const { status, stderr, stdout } = runProgram('bash', ['-eu', recipe], { cwd: folder });
  if (status !== 0) throw new Error(`${recipe}: exit ${status}\n${stdout}${stderr}`);
}

/** What qemu-img says of the sample in `folder`. */
export function askQemu(head: RecipeHead, folder: string): Expectation {
  const { format, main } = head;
  if (head.open !== undefined) return { open: head.open, raw: [] };
  const json = (...args: string[]): Record<string, unknown> =>
    JSON.parse(mustRun('qemu-img', args, { cwd: folder })) as Record<string, unknown>;
  const info = json('info', '--output=json', '-f', format, main);
  delete info['actual-size'];
  const check = runPeer('qemu-img', ['check', '--output=json', '-f', format, main], { cwd: folder });
  const contentOf = (...args: string[]): { size: number; sd64k: string } => {
    mustRun('qemu-img', ['convert', '-O', 'raw', '-f', format, ...args, main, 'content.raw'], { cwd: folder });
    const { size, sd64k } = digestOfFile(path.join(folder, 'content.raw'));
    fs.rmSync(path.join(folder, 'content.raw'));
    return { size, sd64k };
  };
  const snapshots = (info.snapshots ?? []) as { name: string }[];
  return {
    raw: [contentOf()],
    ...(snapshots.length === 0
      ? {}
      : { snapshots: Object.fromEntries(snapshots.map(({ name }) => [name, contentOf('-l', name).sd64k])) }),
    virtual_size: info['virtual-size'] as number,
    info,
    probe: json('info', '--output=json', main).format as string,
    check_rc: check.status ?? -1,
    check: check.stdout === '' ? null : (JSON.parse(check.stdout) as Record<string, unknown>),
    map_rc: 0,
    map: JSON.parse(mustRun('qemu-img', ['map', '--output=json', '-f', format, main], { cwd: folder })) as never,
  };
}

function rebuild(folder: string): void {
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-recipe-'));
  try {
    const recipe = path.join(folder, 'recipe.sh');
    const head = readHead(recipe);
    follow(recipe, scratch);
    for (const name of fs.readdirSync(folder)) if (name !== 'recipe.sh') fs.rmSync(path.join(folder, name));
    const files: SampleCase['files'] = Object.fromEntries(
      fs.readdirSync(scratch).map((name) => {
        const bytes = fs.readFileSync(path.join(scratch, name));
        const gzip = zlib.gzipSync(bytes, { level: 9 });
        // gzip says nothing shorter than a thousandth of what it holds; brotli does.
        const brief = gzip.length > 2048;
        const stored = brief ? `${name}.br` : `${name}.gz`;
        fs.writeFileSync(path.join(folder, stored), brief ? zlib.brotliCompressSync(bytes) : gzip);
        return [name, { stored, size: bytes.length }];
      }),
    );
    const made: SampleCase = {
      id: path.basename(folder),
      format: head.format,
      creator: mustRun('qemu-img', ['--version']).split('\n')[0] ?? '',
      note: head.about,
      main: head.main,
      args: ['-f', head.format],
      files,
      expect: { raw: [] },
    };
    // Asked of what a test will have: holes are where unpacking leaves them.
    for (const name of fs.readdirSync(scratch)) fs.rmSync(path.join(scratch, name));
    unpackSample({ folder, about: made }, scratch);
    const about: SampleCase = { ...made, expect: askQemu(head, scratch) };
    fs.writeFileSync(path.join(folder, 'case.json'), `${JSON.stringify(about, null, 1)}\n`);
  } finally {
    fs.rmSync(scratch, { recursive: true });
  }
}

/** The folders with a recipe, `<suite>/<case>`. */
export function recipeFolders(): string[] {
  const root = import.meta.dirname;
  return fs
    .readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.name === 'recipe.sh')
    .map((entry) => entry.parentPath)
    .sort();
}

if (process.argv[1] !== undefined && fs.realpathSync(process.argv[1]) === import.meta.filename) {
  const only = process.argv.slice(2);
  for (const folder of recipeFolders()) {
    if (only.length > 0 && !only.includes(path.basename(folder))) continue;
    rebuild(folder);
    const bytes = fs.readdirSync(folder).reduce((sum, name) => sum + fs.statSync(path.join(folder, name)).size, 0);
    console.log(`${path.relative(import.meta.dirname, folder)}: ${bytes} bytes`);
  }
}
