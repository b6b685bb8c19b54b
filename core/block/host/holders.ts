// Who holds locks on a file: what Linux tells in /proc, within a bounded search.
import fs from 'node:fs';

/** A process that holds locks on a file. */
export interface LockHolder {
  readonly pid: number;
  readonly command: string;
}

/** The search gives up after so many descriptors or milliseconds; it serves a message, nothing depends on it. */
const descriptorLimit = 20_000;
const timeLimit = 1000;

/**
 * The processes (this one included, when another descriptor of it is meant) that hold locks on a file, given by path or by our own
 * descriptor. Locks of an open file description name no process, so the descriptors of all processes that we may look into are
 * searched. Empty where nothing is found, and on hosts without /proc. Never throws.
 */
export function lockHolders(file: string | number): LockHolder[] {
  if (process.platform !== 'linux') return [];
  const holders: LockHolder[] = [];
  const deadline = performance.now() + timeLimit;
  let looked = 0;
  try {
    const target = typeof file === 'number' ? fs.fstatSync(file) : fs.statSync(file);
    // The youngest first: who holds an image is rarely older than the daemons of the system.
    const processes = list('/proc').filter((entry) => /^\d+$/.test(entry));
    for (const pid of processes.sort((a, b) => Number(b) - Number(a))) {
      for (const descriptor of list(`/proc/${pid}/fd`)) {
        if (++looked > descriptorLimit || performance.now() > deadline) return holders;
        if (Number(pid) === process.pid && Number(descriptor) === file) continue;
        if (!isFile(`/proc/${pid}/fd/${descriptor}`)) continue;
        if (!locksInode(`/proc/${pid}/fdinfo/${descriptor}`, target.ino)) continue;
        if (!isSame(`/proc/${pid}/fd/${descriptor}`, target)) continue;
        holders.push({ pid: Number(pid), command: read(`/proc/${pid}/comm`).trim() });
        break;
      }
    }
  } catch {
    return holders;
  }
  return holders;
}

/** Sockets, pipes and the like have links that are no paths. */
function isFile(descriptor: string): boolean {
  try {
    return fs.readlinkSync(descriptor).startsWith('/');
  } catch {
    return false;
  }
}

function isSame(path: string, target: fs.Stats): boolean {
  try {
    const stat = fs.statSync(path);
    return stat.ino === target.ino && stat.dev === target.dev;
  } catch {
    return false;
  }
}

/** Lines such as `lock: 1: OFDLCK ADVISORY READ -1 fe:00:2147422 100 100`. The device number there is not always that of stat. */
function locksInode(path: string, inode: number): boolean {
  return new RegExp(`^lock:.*:${inode} \\d+ \\S+$`, 'm').test(read(path));
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
