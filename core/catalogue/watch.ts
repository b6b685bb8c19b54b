// Watching datastores: changes on local disks are heard of, shares are looked at again and again; either way a scan is asked for.
import { watch as chokidar, type FSWatcher } from 'chokidar';
import type { Datastore } from './datastores.ts';

export interface WatchOptions {
  /** Milliseconds without a further change before a scan is asked for: who copies a disk writes for a while. */
  readonly settle?: number;
  /** Milliseconds between two looks at a share, whose changes by other machines no system tells. */
  readonly poll?: number;
}

/** A watch over datastores. */
export interface DatastoreWatch {
  /** Resolves when every folder is being watched. */
  readonly ready: Promise<void>;
  close(): Promise<void>;
}

/** Files that come and go without meaning anything: ours, and those of editors. */
const passing = /(^|[\\/])\.[^\\/]*$|~$|\.tmp$|\.lock$/;

/**
 * Calls `changed` with the id of a datastore some time after something in it was written, made or removed. A folder that is not there is
 * watched as soon as it is. Errors of the watching itself go to `failed` with the datastore's id; the others go on.
 */
export function watchDatastores(
  stores: readonly Pick<Datastore, 'id' | 'path' | 'device'>[],
  changed: (id: string) => void,
  failed: (id: string, error: unknown) => void,
  { settle = 1000, poll = 10_000 }: WatchOptions = {},
): DatastoreWatch {
  const timers = new Map<string, NodeJS.Timeout>();
  const watchers = stores.map(({ id, path, device }): FSWatcher => {
    const remote = device !== null && ['nas', 'distributed'].includes(device.resource);
    const watcher = chokidar(path, {
      ignored: (name) => passing.test(name.slice(path.length)),
      ignoreInitial: true,
      followSymlinks: false,
      usePolling: remote,
      interval: poll,
      binaryInterval: poll,
      ignorePermissionErrors: true,
    });
    watcher.on('all', () => {
      clearTimeout(timers.get(id));
      timers.set(
        id,
        setTimeout(() => {
          timers.delete(id);
          changed(id);
        }, settle),
      );
    });
    watcher.on('error', (error) => failed(id, error));
    return watcher;
  });
  return {
    ready: Promise.all(watchers.map((watcher) => new Promise<void>((resolve) => watcher.once('ready', resolve)))).then(
      () => {},
    ),
    async close() {
      for (const timer of timers.values()) clearTimeout(timer);
      await Promise.all(watchers.map((watcher) => watcher.close()));
    },
  };
}
