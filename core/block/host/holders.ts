// Who holds locks on a file: what Linux tells in /proc, within a bounded search.
import fs from 'node:fs';

/** A process that holds locks on a file. */
export interface LockHolder {
  readonly pid: number;
  readonly command: string;
}

/** The search gives up after so many milliseconds: it serves a message, nothing depends on it. */
const timeLimit = 500;

/**
 * The processes (this one included, when another descriptor of it is meant) that hold locks on a file, given by path or by our own
 * descriptor. Locks of an open file description name no process, so the descriptors of all processes that we may look into are
 * searched: first those opened under the same path, then, where there is none, under any. Empty where nothing is found in time,
 * and on hosts without /proc. Never throws.
 */
export function lockHolders(file: string | number): LockHolder[] {
  if (process.platform !== 'linux') return [];
  const deadline = performance.now() + timeLimit;
  try {
    const target = typeof file === 'number' ? fs.fstatSync(file) : fs.statSync(file);
    const name = typeof file === 'number' ? linkOf(`/proc/self/fd/${file}`) : fs.realpathSync(file);
    const own = typeof file === 'number' ? `${process.pid}/fd/${file}` : null;
    const search = (wanted: (link: string) => boolean): LockHolder[] => {
      const holders: LockHolder[] = [];
      for (const pid of processes()) {
        const held = list(`/proc/${pid}/fd`).some((descriptor) => {
          if (performance.now() > deadline || `${pid}/fd/${descriptor}` === own) return false;
          if (!wanted(linkOf(`/proc/${pid}/fd/${descriptor}`))) return false;
          return (
            locksInode(`/proc/${pid}/fdinfo/${descriptor}`, target.ino) &&
            isSame(`/proc/${pid}/fd/${descriptor}`, target)
          );
        });
        if (held) holders.push({ pid, command: read(`/proc/${pid}/comm`).trim() });
      }
      return holders;
    };
    const sameName = search((link) => link === name);
    return sameName.length > 0 ? sameName : search((link) => link.startsWith('/') && link !== name);
  } catch {
    return [];
  }
}

/** The youngest first: who holds an image is rarely older than the daemons of the system. */
function processes(): number[] {
  return list('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .sort((a, b) => b - a);
}

/** Lines such as `lock: 1: OFDLCK ADVISORY READ -1 fe:00:2147422 100 100`. The device number there is not always that of stat. */
function locksInode(path: string, inode: number): boolean {
  return new RegExp(`^lock:.*:${inode} \\d+ \\S+$`, 'm').test(read(path));
}

function isSame(path: string, target: fs.Stats): boolean {
  try {
    const stat = fs.statSync(path);
    return stat.ino === target.ino && stat.dev === target.dev;
  } catch {
    return false;
  }
}

/** What a descriptor is open on: a path, or a word such as `pipe:[123]`; empty where it is gone or not ours to see. */
function linkOf(path: string): string {
  try {
    return fs.readlinkSync(path);
  } catch {
    return '';
  }
}

function list(path: string): string[] {
  try {
    return fs.readdirSync(path);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
