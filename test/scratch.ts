// A folder for the files of one test, gone when the test file has ended.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';

/** A new empty folder. Call it while tests are collected or in a hook; KEEP_SCRATCH=1 leaves the folder and prints its name. */
export function scratchFolder(subject: string): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `platter-${subject}-`));
  afterAll(() => {
    if (process.env.KEEP_SCRATCH === '1') console.log(`kept: ${folder}`);
    else fs.rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}
