// What a name of the host leads to, looked at without opening it.
import fs from 'node:fs';
import path from 'node:path';

/** Where a name ends when all links are followed, and whether a regular file stands there. */
export interface LeadsTo {
  readonly path: string;
  readonly regular: boolean;
}

/** Follows the links of `name`; null where nothing can be seen (opening it will say why). */
export function leadsTo(name: string): LeadsTo | null {
  try {
    const real = fs.realpathSync(name);
    return { path: real, regular: fs.statSync(real).isFile() };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    return null;
  }
}

/** True when `name` stands in `folder` or below it, once the links of both are followed. */
export function standsBelow(name: string, folder: string): boolean {
  const inside = leadsTo(name);
  const outside = leadsTo(folder);
  if (inside === null || outside === null) return false;
  const relative = path.relative(outside.path, inside.path);
  return relative !== '' && relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative);
}
