// Where the catalogue lies: in the platform's folder for a program's data, unless PLATTER_CATALOGUE says otherwise.
import os from 'node:os';
import path from 'node:path';

/** The path of the catalogue for this user: `PLATTER_CATALOGUE` if it is set, else `catalogue.db` in the program's data folder. */
export function cataloguePath(environment: NodeJS.ProcessEnv = process.env): string {
  const { PLATTER_CATALOGUE: chosen } = environment;
  if (chosen !== undefined && chosen !== '') return path.resolve(chosen);
  return path.join(dataFolder(environment), 'catalogue.db');
}

function dataFolder(environment: NodeJS.ProcessEnv): string {
  const home = os.homedir();
  if (process.platform === 'win32') {
    return path.join(environment.LOCALAPPDATA ?? path.join(home, 'AppData', 'Local'), 'Platter');
  }
  if (process.platform === 'darwin') return path.join(home, 'Library', 'Application Support', 'Platter');
  const { XDG_DATA_HOME: data } = environment;
  return path.join(data !== undefined && path.isAbsolute(data) ? data : path.join(home, '.local', 'share'), 'platter');
}
