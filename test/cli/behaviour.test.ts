// What qemu-img has no counterpart for: places of faults, progress for programs, signals, dry runs, the words of level 10.0.
import { spawn, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { platterCommand, runPlatter, type RunOptions } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const folder = scratchFolder('behaviour');
const ownName: RunOptions = { cwd: folder, env: { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' } };
const asQemuImg: RunOptions = { cwd: folder, env: { PLATTER_PROGNAME: 'qemu-img', PLATTER_QEMU_COMPAT: '10.0' } };

beforeAll(() => {
  const made = runPlatter(['create', '-q', '-f', 'qcow2', 'disk.qcow2', '8M'], ownName);
  expect(made).toEqual({ status: 0, stdout: '', stderr: '' });
  fs.writeFileSync(path.join(folder, 'disk.raw'), Buffer.alloc(8 * 1024 * 1024, 7));
});

function startPlatter(args: readonly string[]): ChildProcess & { text: { stdout: string; stderr: string } } {
  const [program, ...first] = platterCommand();
  const child = spawn(program, [...first, ...args], { cwd: folder, env: { ...process.env, NODE_OPTIONS: '' } });
  const text = { stdout: '', stderr: '' };
  child.stdout.on('data', (piece: Buffer) => (text.stdout += piece.toString()));
  child.stderr.on('data', (piece: Buffer) => (text.stderr += piece.toString()));
  return Object.assign(child, { text });
}

function ended(child: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
}

function partials(): string[] {
  return fs.readdirSync(folder).filter((name) => name.includes('.partial-'));
}

describe('faults', () => {
  it('are told with code, file, offset and field, in one line', () => {
    const bytes = fs.readFileSync(path.join(folder, 'disk.qcow2'));
    bytes.writeUInt32BE(99, 20); // cluster_bits
    fs.writeFileSync(path.join(folder, 'bad.qcow2'), bytes);
    const { status, stderr } = runPlatter(['info', 'bad.qcow2'], ownName);
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^platter: Could not open 'bad\.qcow2': .* \[qcow2\/[a-z-]+ at bad\.qcow2\+0x14 cluster_bits\]\n$/,
    );
  });

  it('are told without a place when we stand in for qemu-img', () => {
    const { status, stderr } = runPlatter(['info', 'bad.qcow2'], asQemuImg);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qemu-img: Could not open 'bad\.qcow2': [^[\]]*\n$/);
  });

  it('that are told of layers below name the layer', () => {
    runPlatter(['create', '-q', '-f', 'qcow2', '-u', '-b', 'gone.raw', '-F', 'raw', 'orphan.qcow2', '1M'], ownName);
    const { status, stderr } = runPlatter(['map', 'orphan.qcow2'], ownName);
    expect(status).toBe(1);
    expect(stderr).toBe(
      "platter: Could not open 'orphan.qcow2': Could not open backing file: Could not open 'gone.raw': " +
        'No such file or directory [storage/open at gone.raw]\n',
    );
  });

  it('at level 10.0 of arguments speak as getopt does', () => {
    const said = (...args: string[]): string => runPlatter(args, asQemuImg).stderr;
    const help = "Try 'qemu-img info --help' for more information.\n";
    expect(said('info', '--foo')).toBe(`qemu-img info: unrecognized option '--foo'\n${help}`);
    expect(said('info', '-z')).toBe(`qemu-img info: invalid option -- 'z'\n${help}`);
    expect(said('info', '-f')).toBe(`qemu-img info: option requires an argument -- 'f'\n${help}`);
    expect(said('info', '--format')).toBe(`qemu-img info: option '--format' requires an argument\n${help}`);
    expect(said('info', '--backing-chain=x')).toBe(
      `qemu-img info: option '--backing-chain' doesn't allow an argument\n${help}`,
    );
    expect(said('info', '--o', 'x')).toBe(
      `qemu-img info: option '--o' is ambiguous; possibilities: '--output' '--object'\n${help}`,
    );
    expect(said('create', 'x', '10Q')).toBe("qemu-img: Invalid image size specified: '10Q'.\n");
    expect(said('nosuch')).toBe("qemu-img: Command not found: nosuch\nTry 'qemu-img --help' for more information.\n");
  });
});

describe('at level 10.0', () => {
  it('info tells of the file below the format', () => {
    const { stdout } = runPlatter(['info', 'disk.raw'], asQemuImg);
    const disk = /disk size: .*/.exec(stdout)?.[0];
    expect(stdout).toBe(
      'image: disk.raw\nfile format: raw\nvirtual size: 8 MiB (8388608 bytes)\n' +
        `${disk}\nChild node '/file':\n    filename: disk.raw\n    protocol type: file\n` +
        `    file length: 8 MiB (8388608 bytes)\n    ${disk}\n`,
    );
    const parsed = JSON.parse(runPlatter(['info', '--output=json', 'disk.raw'], asQemuImg).stdout) as {
      children: { name: string; info: Record<string, unknown> }[];
    };
    expect(parsed.children).toMatchObject([
      {
        name: 'file',
        info: {
          children: [],
          'virtual-size': 8388608,
          filename: 'disk.raw',
          format: 'file',
          'format-specific': { type: 'file', data: {} },
          'dirty-flag': false,
        },
      },
    ]);
  });

  it('map says what is compressed', () => {
    const [entry] = JSON.parse(runPlatter(['map', '--output=json', 'disk.raw'], asQemuImg).stdout) as object[];
    expect(entry).toEqual({
      start: 0,
      length: 8388608,
      depth: 0,
      present: true,
      zero: false,
      data: true,
      compressed: false,
      offset: 0,
    });
  });
});

describe('progress', () => {
  it('-p rewrites one line on stdout, from 0 to 100', () => {
    const { status, stdout } = runPlatter(['compare', '-p', 'disk.raw', 'disk.raw'], ownName);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ {4}\(0\.00\/100%\)\r( {4}\(\d+\.\d\d\/100%\)\r)*Images are identical\.\n\n$/);
  });

  for (const args of [
    ['convert', '-O', 'qcow2', 'disk.raw', 'copy.qcow2'],
    ['compare', 'disk.raw', 'disk.raw'],
    ['map', 'disk.raw'],
    ['measure', '-O', 'qcow2', 'disk.raw'],
    ['create', '-f', 'raw', '-o', 'preallocation=full', 'full.raw', '8M'],
    ['dd', 'if=disk.raw', 'of=copy.raw', 'bs=1M'],
  ]) {
    it(`--progress=json of ${args[0]} is a JSON object per line on stderr that ends complete`, () => {
      const { status, stderr } = runPlatter([...args, '--progress=json'], ownName);
      expect(status).toBe(0);
      const lines = stderr.trimEnd().split('\n');
      const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      for (const entry of parsed) {
        expect(Object.keys(entry)).toEqual(['phase', 'done', 'total', 'elapsed', 'rate', 'eta']);
        expect(entry.done).toBeLessThanOrEqual(entry.total as number);
      }
      const last = parsed.at(-1);
      expect(last?.done).toBe(last?.total);
    });
  }

  it('--progress takes json only', () => {
    expect(runPlatter(['info', '--progress=xml', 'disk.raw'], ownName)).toMatchObject({
      status: 1,
      stderr: 'platter: --progress must be used with json as argument.\n',
    });
  });
});

describe('--dry-run', () => {
  it('of create says the line of create and makes nothing', () => {
    const { status, stdout } = runPlatter(['create', '--dry-run', '-f', 'qcow2', 'never.qcow2', '1G'], ownName);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Would be done: Formatting 'never\.qcow2', fmt=qcow2 .*size=1073741824/);
    expect(fs.existsSync(path.join(folder, 'never.qcow2'))).toBe(false);
  });

  it('of dd says what would be copied and copies nothing', () => {
    const { status, stdout } = runPlatter(
      ['dd', '--dry-run', 'if=disk.raw', 'of=never.raw', 'bs=1M', 'skip=2'],
      ownName,
    );
    expect(status).toBe(0);
    expect(stdout).toBe('Would be done: 6291456 bytes from offset 2097152 of disk.raw to never.raw (raw)\n');
    expect(fs.existsSync(path.join(folder, 'never.raw'))).toBe(false);
  });
});

describe('signals', () => {
  it('end a long create without leaving anything', async () => {
    const child = startPlatter(['create', '-q', '-f', 'raw', '-o', 'preallocation=full', 'long.raw', '40G']);
    await until(() => partials().length > 0);
    child.kill('SIGINT');
    expect(await ended(child)).toEqual({ code: 130, signal: null });
    expect(partials()).toEqual([]);
    expect(fs.existsSync(path.join(folder, 'long.raw'))).toBe(false);
    expect(child.text.stderr).toBe('');
  });

  it('end a long convert without leaving anything', async () => {
    fs.truncateSync(path.join(folder, 'disk.raw'), 8 * 1024 * 1024);
    const child = startPlatter(['convert', '-r', '1M', '-S', '0', '-O', 'raw', 'disk.raw', 'slow.raw']);
    await until(() => partials().length > 0);
    child.kill('SIGTERM');
    expect(await ended(child)).toEqual({ code: 143, signal: null });
    expect(partials()).toEqual([]);
    expect(fs.existsSync(path.join(folder, 'slow.raw'))).toBe(false);
  });

  it('SIGUSR1 asks how far it is', async () => {
    const child = startPlatter(['convert', '-r', '2M', '-S', '0', '-O', 'raw', 'disk.raw', 'asked.raw']);
    await until(() => partials().length > 0);
    child.kill('SIGUSR1');
    await until(() => child.text.stderr !== '');
    child.kill('SIGTERM');
    await ended(child);
    expect(child.text.stderr).toMatch(/^ {4}\(\d+\.\d\d\/100%\)\n/);
  });
});

describe('stdout', () => {
  it('whose reader has gone ends the program quietly', async () => {
    const [program, ...first] = platterCommand();
    const line = `${[program, ...first].map((word) => `'${word}'`).join(' ')} --help 2>said | true; cat said`;
    const child = spawn('sh', ['-c', line], { cwd: folder, env: { ...process.env, NODE_OPTIONS: '' } });
    let said = '';
    child.stdout.on('data', (piece: Buffer) => (said += piece.toString()));
    await ended(child);
    expect(said).toBe('');
  });

  it.skipIf(!fs.existsSync('/dev/full'))('that is full is told', () => {
    const [program, ...first] = platterCommand();
    const full = fs.openSync('/dev/full', 'w');
    const child = spawn(program, [...first, 'info', 'disk.raw'], {
      cwd: folder,
      stdio: ['ignore', full, 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    let said = '';
    child.stderr?.on('data', (piece: Buffer) => (said += piece.toString()));
    return ended(child).then(({ code }) => {
      fs.closeSync(full);
      expect(code).toBe(1);
      expect(said).toContain('standard output cannot be written: ENOSPC');
    });
  });
});

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1200; tries++) {
    if (condition()) return;
    await pause(25);
  }
  throw new Error('what was waited for did not come');
}
