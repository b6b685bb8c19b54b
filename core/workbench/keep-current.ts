// Keeping the catalogue current while the program runs: datastores are watched, and what changes is scanned by a job that leaves no trace.
import type { Catalogue } from '../catalogue/catalogue.ts';
import { listDatastores } from '../catalogue/datastores.ts';
import { watchDatastores, type DatastoreWatch, type WatchOptions } from '../catalogue/watch.ts';
import type { JobHost } from './jobs/job-host.ts';

/** Milliseconds between two scans of one datastore: a running machine writes to its disk all the time. */
const betweenScans = 5000;

/** Watches every datastore; `renew` after the list of them has changed. */
export class CatalogueKeeper {
  readonly #catalogue: Catalogue;
  readonly #jobs: JobHost;
  readonly #options: WatchOptions;
  #watch: DatastoreWatch | null = null;
  /** Datastores with a scan under way; true: something has changed since that began. */
  readonly #scanning = new Map<string, boolean>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #closed = false;

  constructor(catalogue: Catalogue, jobs: JobHost, options: WatchOptions = {}) {
    this.#catalogue = catalogue;
    this.#jobs = jobs;
    this.#options = options;
    this.renew();
  }

  /** Watches the datastores that there are now. */
  renew(): void {
    void this.#watch?.close();
    const stores = listDatastores(this.#catalogue);
    // A folder that cannot be watched any more is one whose scan will say so.
    this.#watch = watchDatastores(
      stores,
      (id) => this.scan(id),
      (id) => this.scan(id),
      this.#options,
    );
  }

  /** Scans a datastore now, or once more when the scan that runs is done. */
  scan(id: string): void {
    if (this.#closed) return;
    if (this.#scanning.has(id)) {
      this.#scanning.set(id, true);
      return;
    }
    this.#scanning.set(id, false);
    const job = this.#jobs.start('scan', { datastore: id, everything: false });
    void this.#jobs.whenOver(job).then(({ state }) => {
      const again = this.#scanning.get(id) === true;
      this.#scanning.delete(id);
      if (this.#closed) return;
      if (state === 'done') this.#jobs.forget(job);
      if (again) this.#later(id);
    });
  }

  #later(id: string): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.scan(id);
    }, betweenScans);
    this.#timers.add(timer);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#watch?.close();
  }
}
