// Locks on images as qemu takes them: one byte for each permission held, one for each permission denied to others.

/**
 * What we do with a file and what others may do meanwhile, in qemu's terms.
 *
 * - `read`: we read; nobody may write or resize (a source: convert, check, map, a backing file).
 * - `write`: we read, write and resize; nobody else may write or resize, nor read as above.
 * - `write-shared`: we read, write and resize beside other writers that bear it (what qemu takes for a raw image in qemu-io).
 * - `shared-any`: we read beside everybody (`-U`).
 * - `none`: no lock at all.
 */
export type LockMode = 'read' | 'write' | 'write-shared' | 'shared-any' | 'none';

/** The four permissions that have lock bytes; the value is the distance from the two bases. Their names are qemu's. */
const permissionNames = ['consistent read', 'write', 'write unchanged', 'resize'] as const;
export type PermissionName = (typeof permissionNames)[number];

const consistentRead = 0;
const write = 1;
const resize = 3;

/** First lock byte of the permissions held, first lock byte of the permissions not shared. */
const heldBase = 100;
const deniedBase = 200;

interface Permissions {
  readonly held: readonly number[];
  readonly denied: readonly number[];
}

/** Measured on qemu-img and qemu-io 7.2 with strace and /proc/PID/fdinfo. */
const permissionsOf: Readonly<Record<LockMode, Permissions>> = {
  read: { held: [consistentRead], denied: [write, resize] },
  write: { held: [consistentRead, write, resize], denied: [write, resize] },
  'write-shared': { held: [consistentRead, write, resize], denied: [] },
  'shared-any': { held: [consistentRead], denied: [] },
  none: { held: [], denied: [] },
};

/** Why a lock was not had. `exclusive`: others do not let us have the permission; otherwise they have it and we will not share it. */
export interface LockConflict {
  readonly permission: PermissionName;
  readonly exclusive: boolean;
}

/** Byte locks of one open file, whichever call provides them. */
export interface ByteLocks {
  /** Takes a shared lock on one byte, at once or not at all. */
  take(byte: number): boolean;
  /** True when nobody else holds a lock on the byte. */
  isFree(byte: number): boolean;
  release(byte: number): void;
}

/**
 * Takes the bytes of `mode`, then looks whether somebody denies what we hold or holds what we deny: two programs that do this at
 * once may both give up, but never both go on. What was taken is given back on a conflict.
 */
export function lockBytes(locks: ByteLocks, mode: LockMode): LockConflict | null {
  const { held, denied } = permissionsOf[mode];
  const conflict = take(locks, held, denied);
  if (conflict !== null) for (const byte of bytesOf(held, denied)) locks.release(byte);
  return conflict;
}

function take(locks: ByteLocks, held: readonly number[], denied: readonly number[]): LockConflict | null {
  for (const bit of held) if (!locks.take(heldBase + bit)) return conflictAt(bit, true);
  for (const bit of denied) if (!locks.take(deniedBase + bit)) return conflictAt(bit, false);
  for (const bit of held) if (!locks.isFree(deniedBase + bit)) return conflictAt(bit, true);
  for (const bit of denied) if (!locks.isFree(heldBase + bit)) return conflictAt(bit, false);
  return null;
}

function bytesOf(held: readonly number[], denied: readonly number[]): number[] {
  return [...held.map((bit) => heldBase + bit), ...denied.map((bit) => deniedBase + bit)];
}

function conflictAt(bit: number, exclusive: boolean): LockConflict {
  return { permission: permissionNames[bit] ?? 'write', exclusive };
}
