// `npm start`: builds, then opens the workbench: in Electron, or, without its binary, the same window in the browser by `platter serve --open`.
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { findElectron } from './electron-binary.ts';

const project = path.resolve(import.meta.dirname, '..');
const given = process.argv.slice(2);

// PLATTER_START_BUILT=1: what was built last is opened as it is.
if (process.env.PLATTER_START_BUILT !== '1') {
  const build = [path.join('scripts', 'build.ts')];
  const { status } = spawnSync(process.execPath, build, { cwd: project, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

const electron = findElectron(project);
if (electron === null)
  console.log('The Electron binary is missing: the same window opens in the browser, at this address:');
const command = path.join(project, 'dist', 'cli', 'main.js');
const child =
  electron === null
    ? spawn(process.execPath, [command, 'serve', '--open', ...given], { stdio: 'inherit' })
    : spawn(electron, [project, ...given], { stdio: 'inherit' });
// Ctrl+C reaches the child too; it ends by itself, and so do we.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  console.error(`${child.spawnfile}: ${error.message}`);
  process.exit(1);
});
child.on('exit', (code) => process.exit(code ?? 1));
