// Where the Electron binary is, if it is anywhere: looked for, never fetched. (Requiring the package `electron` would fetch it.)
import fs from 'node:fs';
import path from 'node:path';

const usual: Partial<Record<NodeJS.Platform, string>> = {
  darwin: 'Electron.app/Contents/MacOS/Electron',
  win32: 'electron.exe',
};

/** The path of the program; null: there is none in ELECTRON_OVERRIDE_DIST_PATH, nor in the package. */
export function findElectron(project: string, environment: NodeJS.ProcessEnv = process.env): string | null {
  const folder = path.join(project, 'node_modules', 'electron');
  const named = readName(path.join(folder, 'path.txt')) ?? usual[process.platform] ?? 'electron';
  const override = environment.ELECTRON_OVERRIDE_DIST_PATH ?? '';
  const places = [...(override === '' ? [] : [override]), path.join(folder, 'dist')];
  const found = places.map((place) => path.join(place, named)).find(isProgram);
  return found ?? null;
}

function readName(file: string): string | null {
  try {
    const name = fs.readFileSync(file, 'utf8').trim();
    return name === '' ? null : name;
  } catch {
    return null; // no binary was ever put there
  }
}

function isProgram(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}
