// A folder for the files of one test, gone when the test file has ended.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';

/** Bytes that a file system in memory must have free before tests lean on it. */
const roomInMemory = 1024 ** 3;

/** Where the system keeps files in memory, if there is plenty of it; else where temporary files go. */
function quickPlace(): string {
  const memory = '/dev/shm';
  try {
    const { bavail, bsize } = fs.statfsSync(memory);
    fs.accessSync(memory, fs.constants.W_OK);
    return bavail * bsize >= roomInMemory ? memory : os.tmpdir();
  } catch {
    return os.tmpdir(); // other systems have none
  }
}

/** A folder for a few small images, of which nothing has to outlive a power cut: on a slow disk most of a test's time would be its flushes. */
export function quickFolder(subject: string): string {
  return scratchFolder(subject, quickPlace());
}

/** A new empty folder. Call it while tests are collected or in a hook; KEEP_SCRATCH=1 leaves the folder and prints its name. */
export function scratchFolder(subject: string, place = os.tmpdir()): string {
  const folder = fs.mkdtempSync(path.join(place, `platter-${subject}-`));
  afterAll(() => {
    if (process.env.KEEP_SCRATCH === '1') console.log(`kept: ${folder}`);
    else fs.rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}
