// A first picture of a disk whose walk is not over: what stands at evenly spread places, coarse first, finer as time allows.
import { guestLayers, type GuestLayer } from './classes.ts';
import { GuestScan, type GuestDisk } from './guest-scan.ts';

/** Places looked at, at most; a power of two. */
const points = 4096;
const unknown = 255;
/** How far a sample looks for the end of a stretch: what extents are sorted by. */
const reach = 64 * 1024 * 1024;

/** Samples of the guest's disk. */
export class Samples {
  readonly #disk: GuestDisk;
  readonly #kinds: Readonly<Record<GuestLayer, Uint8Array>>;
  #stride = points;
  #next = 0;

  constructor(disk: GuestDisk) {
    this.#disk = disk;
    this.#kinds = Object.fromEntries(
      guestLayers.map((layer) => [layer, new Uint8Array(points).fill(unknown)]),
    ) as Record<GuestLayer, Uint8Array>;
  }

  /** Looks at further places from `from` on, until `deadline` (of `performance.now`). */
  advance(from: number, deadline: number): void {
    while (this.#stride >= 1) {
      for (; this.#next < points; this.#next += this.#stride === points ? points : 2 * this.#stride) {
        if (performance.now() > deadline) return;
        if (((this.#next + this.#stride) / points) * this.#disk.node.size > from) this.#look(this.#next, this.#stride);
      }
      this.#stride /= 2;
      this.#next = this.#stride;
    }
  }

  /** The class of what stands nearest before `at` of those looked at; null: nothing was looked at yet. */
  classAt(layer: GuestLayer, at: number): number | null {
    const index = Math.min(points - 1, Math.floor((at / this.#disk.node.size) * points));
    const kind = this.#kinds[layer][index] ?? unknown;
    return kind === unknown ? null : kind;
  }

  #look(point: number, stride: number): void {
    const { size } = this.#disk.node;
    const start = Math.floor((point / points) * size);
    const end = Math.min(size, start + reach);
    if (end <= start) return;
    const range = { start, end, cellBytes: end - start };
    const scan = new GuestScan(this.#disk, range);
    scan.step();
    for (const layer of guestLayers) {
      const { totals } = scan.grid(layer);
      let most = 0;
      for (let kind = 1; kind < totals.length; kind++) if ((totals[kind] ?? 0) > (totals[most] ?? 0)) most = kind;
      this.#kinds[layer].fill(most, point, point + stride);
    }
  }
}
