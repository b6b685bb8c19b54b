// `npm run build`: bundles the command into dist/cli and warms its compile cache, so that it starts quickly; the window into dist/renderer;
// the desktop shell into dist/electron. With names (`cli`, `renderer`, `electron`): only those.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { rolldown } from 'rolldown';
import { build as buildPages } from 'vite';

const project = path.resolve(import.meta.dirname, '..');
const out = path.join(project, 'dist', 'cli');
const cache = path.join(project, 'dist', '.cache');

/** Native modules stay what they are. */
const external = ['koffi', 'better-sqlite3', 'electron', /^node:/];

/** What the program starts as threads, beside the file that starts them. */
const threads = {
  'job-thread': path.join(project, 'core', 'workbench', 'jobs', 'job-thread.ts'),
  'image-thread': path.join(project, 'core', 'workbench', 'images', 'image-thread.ts'),
  'copy-lane': path.join(project, 'core', 'block', 'copy', 'lane.ts'),
};

/** Built beside and swapped in, so that a command started meanwhile finds one whole build or the other. */
async function replacing(folder: string, make: (fresh: string) => Promise<void>): Promise<void> {
  const fresh = fs.mkdtempSync(path.join(project, 'dist', 'new-'));
  try {
    await make(fresh);
    fs.chmodSync(fresh, 0o755);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(fresh, folder);
  } finally {
    fs.rmSync(fresh, { recursive: true, force: true });
  }
}

async function bundle(input: Record<string, string>, dir: string, format: 'esm' | 'cjs' = 'esm'): Promise<void> {
  const build = await rolldown({
    input,
    external,
    platform: 'node',
    treeshake: true,
    checks: { bundlerTimings: false },
    onLog(level, log, handler) {
      if (level === 'warn') throw new Error(`the bundler warns: ${log.message}`);
      handler(level, log);
    },
  });
  try {
    await build.write({
      dir,
      format,
      entryFileNames: format === 'cjs' ? '[name].cjs' : '[name].js',
      chunkFileNames: '[name]-[hash].js',
      minify: { compress: true, mangle: false, codegen: true },
    });
  } finally {
    await build.close();
  }
}

function bundleCommand(): Promise<void> {
  const input = {
    main: path.join(project, 'cli', 'main.ts'),
    'create-thread': path.join(project, 'cli', 'create-thread.ts'),
    ...threads,
  };
  return replacing(out, (fresh) => bundle(input, fresh));
}

/** The desktop shell: its main process with the threads, and the script of the sandboxed window, which cannot be a module. */
function bundleShell(): Promise<void> {
  return replacing(path.join(project, 'dist', 'electron'), async (fresh) => {
    await bundle({ main: path.join(project, 'electron', 'main.ts'), ...threads }, fresh);
    await bundle({ preload: path.join(project, 'electron', 'preload.ts') }, fresh, 'cjs');
  });
}

/** The window. */
function bundleWindow(): Promise<void> {
  return replacing(path.join(project, 'dist', 'renderer'), async (fresh) => {
    await buildPages({
      root: path.join(project, 'renderer'),
      configFile: false,
      base: './',
      logLevel: 'warn',
      plugins: [svelte({ configFile: path.join(project, 'svelte.config.js') })],
      build: {
        outDir: fresh,
        emptyOutDir: true,
        target: 'chrome123',
        // Fonts and pictures are files: the policy of the pages allows no others.
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        rolldownOptions: {
          // A slow machine is no fault of the build.
          checks: { bundlerTimings: false },
          onwarn(warning) {
            throw new Error(`the bundler warns: ${warning.message}`);
          },
        },
      },
    });
  });
}

/** Runs what people run, so that its code is compiled already when they do. */
function warm(): void {
  fs.rmSync(cache, { recursive: true, force: true });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-build-'));
  const image = path.join(folder, 'image.qcow2');
  const copy = path.join(folder, 'copy.raw');
  const runs = [
    ['create', '-q', '-f', 'qcow2', image, '1M'],
    ['info', image],
    ['map', image],
    ['check', image],
    ['measure', '-O', 'qcow2', image],
    ['convert', '-O', 'raw', image, copy],
    ['compare', image, copy],
    ['--help'],
    ['create', '--help'],
  ];
  try {
    for (const args of runs) {
      const { status, stderr } = spawnSync(process.execPath, [path.join(out, 'main.js'), ...args], {
        encoding: 'utf8',
      });
      if (status !== 0) console.log(`warming '${args.join(' ')}' ended with ${status}: ${stderr.trim()}`);
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

fs.mkdirSync(path.join(project, 'dist'), { recursive: true });
const parts = process.argv.slice(2);
const wanted = (part: string): boolean => parts.length === 0 || parts.includes(part);
if (wanted('cli')) await bundleCommand();
if (wanted('renderer')) await bundleWindow();
if (wanted('electron')) await bundleShell();
if (wanted('cli')) warm();
