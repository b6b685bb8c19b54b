// Where the Electron binary is looked for, and that `npm start` without it opens the same window in the browser and fetches nothing.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findElectron } from '../../scripts/electron-binary.ts';
import { itWith } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { missingShell } from './stand-in/program.ts';

const folder = scratchFolder('electron-binary');
const project = path.resolve(import.meta.dirname, '../..');

const present = findElectron(project) === null ? null : 'the Electron binary is here, and `npm start` opens it';

function program(...parts: string[]): string {
  const file = path.join(folder, ...parts);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, '#!/bin/sh\nexit 0\n', { mode: 0o755 });
  return file;
}

describe('the Electron binary', () => {
  it('is looked for where it was put, then in the package, under the name that the package knows', () => {
    const empty = path.join(folder, 'empty');
    expect(findElectron(empty, {})).toBeNull();
    const packaged = program('project', 'node_modules', 'electron', 'dist', 'own-name');
    const pathFile = path.join(folder, 'project', 'node_modules', 'electron', 'path.txt');
    fs.writeFileSync(pathFile, 'own-name\n');
    expect(findElectron(path.join(folder, 'project'), {})).toBe(packaged);
    const elsewhere = program('override', 'own-name');
    const environment = { ELECTRON_OVERRIDE_DIST_PATH: path.join(folder, 'override') };
    expect(findElectron(path.join(folder, 'project'), environment)).toBe(elsewhere);
    fs.chmodSync(elsewhere, 0o644);
    if (process.getuid?.() !== 0) expect(findElectron(path.join(folder, 'project'), environment)).toBe(packaged);
    // A path.txt whose program was removed is no reason to fetch one.
    fs.rmSync(path.dirname(packaged), { recursive: true });
    expect(findElectron(path.join(folder, 'project'), {})).toBeNull();
  });

  itWith(
    { unless: present ?? missingShell() },
    'that is missing is said in one line, and the address stands on the next',
    async () => {
      const child = spawn(process.execPath, [path.join(project, 'scripts', 'start.ts'), '--read-only'], {
        cwd: project,
        env: {
          ...process.env,
          PLATTER_CATALOGUE: path.join(folder, 'catalogue.db'),
          PLATTER_START_BUILT: '1',
          PATH: '',
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let out = '';
      let errors = '';
      child.stderr.on('data', (text: Buffer) => (errors += text.toString()));
      await new Promise<void>((resolve) => {
        child.stdout.on('data', (text: Buffer) => {
          out += text.toString();
          if (/http:\/\/\S+\n/.test(out)) resolve();
        });
        child.once('exit', () => resolve());
      });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
      const lines = out.trim().split('\n');
      expect(lines, errors).toHaveLength(2);
      expect(lines[0]).toContain('The Electron binary is missing');
      expect(lines[1]).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\?token=\S+$/);
      expect(`${out}${errors}`).not.toContain('ownload');
    },
  );
});
