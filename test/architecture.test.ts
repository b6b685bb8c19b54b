// The laws of the tree, checked on the source: who imports whom, who may touch the host, names, first lines, error codes.
import fs from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { errorCodes } from '../core/errors/messages.ts';
import { packageOf, peerNames } from './peer-packages.ts';

const project = path.resolve(import.meta.dirname, '..');

/** Folders from the ground up; a file imports from its own layer and from those below it. */
const layers = [
  'core/errors',
  'core/job.ts',
  'core/bytes',
  'core/block',
  'core/formats',
  'core/guest',
  'core/operations',
  'core/profiles',
  'core/catalogue',
  'core/workbench',
  'cli',
  'electron',
];

/** What breaks a law on purpose; docs/decisions/0001 says why for each. */
const exceptions: Record<string, string> = {
  'core/block/node.ts -> core/formats/format-id.ts': 'the names of the formats are a type without code',
  'core/bytes/types.ts': 'the kinds of value of a declared structure: the name that architecture.md gives',
};

interface Import {
  readonly from: string;
  readonly to: string;
}

interface Source {
  readonly name: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

function sourcesUnder(folder: string): Source[] {
  const root = path.join(project, folder);
  if (!fs.existsSync(root)) return [];
  const names = fs
    .readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|svelte)$/.test(entry.name))
    .map((entry) => path.relative(project, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'));
  return names.sort().map((name) => {
    const text = fs.readFileSync(path.join(project, name), 'utf8');
    const imports = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => {
      const to = fileName.startsWith('.') ? path.posix.join(path.posix.dirname(name), fileName) : fileName;
      return { from: name, to };
    });
    return { name, text, imports };
  });
}

const core = sourcesUnder('core');
const cli = sourcesUnder('cli');
const electron = sourcesUnder('electron');
const renderer = sourcesUnder('renderer');
const product = [...core, ...cli, ...electron];
const everything = [
  ...product,
  ...renderer,
  ...sourcesUnder('test'),
  ...sourcesUnder('scripts'),
  ...sourcesUnder('bench'),
];

function within(name: string, folder: string): boolean {
  return name === folder || name.startsWith(`${folder}/`);
}

function layerOf(name: string): number {
  return layers.findIndex((layer) => within(name, layer));
}

function excepted({ from, to }: Import): boolean {
  return `${from} -> ${to}` in exceptions;
}

const internal = (sources: readonly Source[]): Import[] =>
  sources
    .flatMap((source) => source.imports)
    .filter(({ to }) => /^(core|cli|electron|renderer|test|scripts)\//.test(to));

const show = ({ from, to }: Import): string => `${from} -> ${to}`;

/** The code without comments and string contents, so that a word in a sentence is no finding. */
function codeOf(text: string): string {
  const scanner = ts.createScanner(ts.ScriptTarget.Latest, true, ts.LanguageVariant.Standard, text);
  const words: string[] = [];
  for (let token = scanner.scan(); token !== ts.SyntaxKind.EndOfFileToken; token = scanner.scan()) {
    const isText = token === ts.SyntaxKind.StringLiteral || token === ts.SyntaxKind.NoSubstitutionTemplateLiteral;
    words.push(isText ? "''" : scanner.getTokenText());
  }
  return words.join(' ');
}

describe('imports', () => {
  it('point downwards: errors, job, bytes, block, formats, guest, operations, profiles, catalogue, workbench, then cli or electron', () => {
    const upward = internal(product).filter((link) => {
      const [from, to] = [layerOf(link.from), layerOf(link.to)];
      return (from < 0 || to < 0 || to > from) && !excepted(link);
    });
    expect(upward.map(show)).toEqual([]);
  });

  it('never lead from one format to another', () => {
    const formatOf = (name: string): string | null => /^core\/formats\/([^/]+)\//.exec(name)?.[1] ?? null;
    const crossing = internal(core).filter(({ from, to }) => {
      const [a, b] = [formatOf(from), formatOf(to)];
      return a !== null && b !== null && a !== b;
    });
    expect(crossing.map(show)).toEqual([]);
  });

  it('never lead into cli or electron from elsewhere, nor from one of them to the other', () => {
    const entering = internal([...core, ...cli, ...electron, ...renderer]).filter(({ from, to }) =>
      ['cli', 'electron'].some((shell) => within(to, shell) && !within(from, shell)),
    );
    expect(entering.map(show)).toEqual([]);
  });

  it('never lead from the product to tests or scripts', () => {
    const links = internal([...product, ...renderer]).filter(({ to }) => within(to, 'test') || within(to, 'scripts'));
    expect(links.map(show)).toEqual([]);
  });

  it('of the renderer reach the types of the contract only', () => {
    const links = internal(renderer).filter(({ to }) => !within(to, 'renderer') && to !== 'core/workbench/contract.ts');
    expect(links.map(show)).toEqual([]);
    const values = renderer.filter(({ text }) => /import\s+(?!type)[^;]*core\/workbench\/contract\.ts/.test(text));
    expect(values.map(({ name }) => name)).toEqual([]);
  });

  it('never lead from one feature of the window to another, nor from below the features into one', () => {
    const featureOf = (name: string): string | null => /^renderer\/features\/([^/]+)\//.exec(name)?.[1] ?? null;
    const crossing = internal(renderer).filter(({ from, to }) => {
      const entered = featureOf(to);
      const frame = ['renderer/App.svelte', 'renderer/sheets.ts', 'renderer/image-tabs.ts'];
      return entered !== null && entered !== featureOf(from) && !frame.includes(from);
    });
    expect(crossing.map(show)).toEqual([]);
  });

  it('of the transport stand in one file of the window', () => {
    const users = renderer.filter(
      ({ text, imports }) => imports.some(({ to }) => to.startsWith('@orpc/')) || /\bWebSocket\(/.test(text),
    );
    expect(users.map(({ name }) => name)).toEqual(['renderer/bridge.ts']);
  });

  it('of koffi stand in core/block/host only, of a database in one file', () => {
    const users = (module: string): string[] =>
      product.filter(({ imports }) => imports.some(({ to }) => to === module)).map(({ name }) => name);
    expect(users('koffi').filter((name) => !within(name, 'core/block/host'))).toEqual([]);
    expect(users('better-sqlite3').length).toBeLessThanOrEqual(1);
    expect(
      product
        .flatMap(({ imports }) => imports)
        .filter(({ from, to }) => to === 'electron' && !within(from, 'electron')),
    ).toEqual([]);
  });

  it('of the files of the host stand in block, the target of an operation and the shells', () => {
    const allowed = [
      'core/block',
      'core/operations/target.ts',
      'core/operations/target',
      'core/catalogue',
      'core/workbench',
      'cli',
      'electron',
    ];
    const modules = ['node:fs', 'node:fs/promises', 'fs', 'node:child_process', 'node:net', 'node:http'];
    const links = product.flatMap(({ imports }) => imports);
    const found = links.filter(
      ({ from, to }) => modules.includes(to) && !allowed.some((folder) => within(from, folder)),
    );
    expect(found.map(show)).toEqual([]);
  });
});

describe('the engine', () => {
  it('has no console', () => {
    const talking = core.filter(({ text }) =>
      /\bconsole\s*\.|\bprocess\s*\.\s*(stdout|stderr|exit)\b/.test(codeOf(text)),
    );
    expect(talking.map(({ name }) => name)).toEqual([]);
  });

  it('is synchronous below the copy plane', () => {
    const below = core.filter(
      ({ name }) =>
        ['core/errors', 'core/bytes', 'core/block', 'core/formats', 'core/guest'].some((folder) =>
          within(name, folder),
        ) && !within(name, 'core/block/copy'),
    );
    const waiting = below.filter(({ text }) =>
      /\basync\b|\bawait\b|\bnew Promise\b|\bPromise\s*[.<]/.test(codeOf(text)),
    );
    expect(waiting.map(({ name }) => name)).toEqual([]);
  });

  it('uses every error code of its table', () => {
    const users = [...core, ...cli].filter(({ name }) => !/^core\/errors\/messages(\.ts|\/)/.test(name));
    const text = users.map((source) => source.text).join('\n');
    expect(errorCodes.filter((code) => !text.includes(`'${code}'`))).toEqual([]);
  });

  it('has every error code that it throws in its table', () => {
    const thrown = [...core, ...cli].flatMap(({ name, text }) =>
      [...text.matchAll(/new ImageError\(\s*'([^']+)'/g)].map((match) => ({ name, code: match[1] ?? '' })),
    );
    const known: readonly string[] = errorCodes;
    expect(thrown.filter(({ code }) => !known.includes(code))).toEqual([]);
    expect(thrown.length).toBeGreaterThan(0);
  });
});

describe('files', () => {
  it('say their subject in the first line', () => {
    const silent = everything.filter(({ name, text }) => {
      const lines = text.split('\n');
      const first = lines[0]?.startsWith('#!') === true ? lines[1] : lines[0];
      return !(name.endsWith('.svelte') ? /^<!-- \S/ : /^\/\/ \S/).test(first ?? '');
    });
    expect(silent.map(({ name }) => name)).toEqual([]);
  });

  it('are no drawers', () => {
    const drawers = /^(utils?|helpers?|common|misc|types?|shared|stuff|lib)(\.|$)/;
    const found = everything.filter(
      ({ name }) => name.split('/').some((part) => drawers.test(part)) && !(name in exceptions),
    );
    expect(found.map(({ name }) => name)).toEqual([]);
  });

  it('of the peers are the same in .ci/run', () => {
    const script = fs.readFileSync(path.join(project, '.ci', 'run'), 'utf8');
    const wanted = /^wanted='([^']*)'/m.exec(script)?.[1]?.split(/\s+/) ?? [];
    expect(wanted.sort()).toEqual(peerNames.map((name) => `${name}:${packageOf(name)}`).sort());
  });

  it('that are excepted still exist and still need it', () => {
    for (const exception of Object.keys(exceptions)) {
      const [from, to] = exception.split(' -> ');
      const source = core.find(({ name }) => name === from);
      expect(source, exception).toBeDefined();
      if (to !== undefined)
        expect(
          source?.imports.map((link) => link.to),
          exception,
        ).toContain(to);
    }
  });
});
