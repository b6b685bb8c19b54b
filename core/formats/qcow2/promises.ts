// Clusters that places not published yet fill in part: they must stay where they are until all of those are published.

interface Promise {
  readonly offset: number;
  places: number;
}

/** Host offsets of such clusters by guest offset of the cluster, and how many places there are in each. */
export class Promises {
  readonly #promises = new Map<number, Promise>();

  /** A place that is not published yet fills part of the guest cluster at `guest`, which lies at `offset`. */
  make(guest: number, offset: number): void {
    const promise = this.#promises.get(guest);
    if (promise === undefined) this.#promises.set(guest, { offset, places: 1 });
    else promise.places++;
  }

  /** Where the guest cluster at `guest` must stay; null: there is no such place. */
  offset(guest: number): number | null {
    return this.#promises.get(guest)?.offset ?? null;
  }

  /** One such place has been published. */
  keep(guest: number): void {
    const promise = this.#promises.get(guest);
    if (promise !== undefined && --promise.places === 0) this.#promises.delete(guest);
  }
}
