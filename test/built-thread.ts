// The thread of a job as it is built: a thread that loads the sources takes seconds to start on a busy machine.
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** The built thread where `npm test` has just built it (PLATTER_BUILT=1); else none, so that what is tested is what the sources say. */
export function builtThread(): URL | undefined {
  if (process.env.PLATTER_BUILT !== '1') return undefined;
  return pathToFileURL(path.resolve(import.meta.dirname, '../dist/cli/job-thread.js'));
}
