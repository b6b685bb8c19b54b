// The system's own dialogs for files and folders.
import { dialog, type BrowserWindow } from 'electron';
import fs from 'node:fs';
import path from 'node:path';

interface Asked {
  readonly title: string;
  /** A path to begin at, absolute or not usable. */
  readonly start: string | null;
}

/** A file that is there. */
export function pickFile(window: BrowserWindow, { title, start }: Asked): Promise<string | null> {
  return pickOne(window, title, start, 'openFile');
}

export function pickFolder(window: BrowserWindow, { title, start }: Asked): Promise<string | null> {
  return pickOne(window, title, start, 'openDirectory');
}

/** The name of a file to be made; whether an existing one may be replaced is asked where it would happen. */
export async function pickTarget(window: BrowserWindow, { title, start }: Asked): Promise<string | null> {
  const properties = ['createDirectory' as const, 'showHiddenFiles' as const];
  const { canceled, filePath } = await dialog.showSaveDialog(window, { title, ...beginAt(start), properties });
  return canceled || filePath === '' ? null : filePath;
}

async function pickOne(
  window: BrowserWindow,
  title: string,
  start: string | null,
  kind: 'openFile' | 'openDirectory',
): Promise<string | null> {
  const properties =
    kind === 'openFile'
      ? [kind, 'showHiddenFiles' as const]
      : [kind, 'createDirectory' as const, 'showHiddenFiles' as const];
  const { canceled, filePaths } = await dialog.showOpenDialog(window, { title, ...beginAt(start), properties });
  return canceled ? null : (filePaths[0] ?? null);
}

/** The system begins where it was last unless the folder of the path is there. */
function beginAt(start: string | null): { defaultPath?: string } {
  if (start === null || !path.isAbsolute(start)) return {};
  return fs.existsSync(start) || fs.existsSync(path.dirname(start)) ? { defaultPath: start } : {};
}
