// Where a new file is proposed: in the folder that was set for new files, else where its source lies.
import { baseName, join } from '../text/paths.ts';
import { settings } from './settings.svelte.ts';

/** The folder that was set for new files; empty: none. */
export function targetFolder(): string {
  return settings.targetFolder.trim();
}

/** `path` in the folder for new files, if there is one. */
export function inTargetFolder(path: string): string {
  const folder = targetFolder();
  return folder === '' || path === '' ? path : join(folder, baseName(path));
}
