// `npm run build`: bundles the command into dist/cli and warms its compile cache, so that it starts quickly; the window into dist/renderer.
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
const external = ['koffi', 'better-sqlite3', /^node:/];

async function bundle(): Promise<void> {
  const input = {
    main: path.join(project, 'cli', 'main.ts'),
    'create-thread': path.join(project, 'cli', 'create-thread.ts'),
    'job-thread': path.join(project, 'core', 'workbench', 'jobs', 'job-thread.ts'),
    'image-thread': path.join(project, 'core', 'workbench', 'images', 'image-thread.ts'),
    'copy-lane': path.join(project, 'core', 'block', 'copy', 'lane.ts'),
  };
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
  // Built beside and swapped in, so that a command started meanwhile finds one whole build or the other.
  const fresh = fs.mkdtempSync(path.join(project, 'dist', 'new-'));
  try {
    await build.write({
      dir: fresh,
      format: 'esm',
      entryFileNames: '[name].js',
      chunkFileNames: '[name]-[hash].js',
      minify: { compress: true, mangle: false, codegen: true },
    });
    fs.chmodSync(fresh, 0o755);
    fs.rmSync(out, { recursive: true, force: true });
    fs.renameSync(fresh, out);
  } finally {
    await build.close();
    fs.rmSync(fresh, { recursive: true, force: true });
  }
}

/** The window: built beside and swapped in, as the command is. */
async function bundleWindow(): Promise<void> {
  const folder = path.join(project, 'dist', 'renderer');
  const fresh = fs.mkdtempSync(path.join(project, 'dist', 'new-'));
  try {
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
    fs.chmodSync(fresh, 0o755);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(fresh, folder);
  } finally {
    fs.rmSync(fresh, { recursive: true, force: true });
  }
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
await bundle();
await bundleWindow();
warm();
