// `npm start`: builds, then opens the workbench in the browser by `platter serve --open`: there is no desktop shell yet.
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';

const project = path.resolve(import.meta.dirname, '..');

const { status } = spawnSync(process.execPath, [path.join('scripts', 'build.ts')], { cwd: project, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

console.log('The Electron binary is missing: the window opens in the browser, at this address:');
const command = path.join(project, 'dist', 'cli', 'main.js');
const child = spawn(process.execPath, [command, 'serve', '--open', ...process.argv.slice(2)], { stdio: 'inherit' });
// Ctrl+C reaches the child too; it ends by itself, and so do we.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
child.on('exit', (code) => process.exit(code ?? 1));
