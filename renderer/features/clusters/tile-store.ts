// The cells that were fetched of one view: kept within bounds, fetched as they are wanted, superseded requests taken back.
import type { MapLayer, MapTile, SaidFault } from '../../../core/workbench/contract.ts';
import { client, faultOf, type Fault } from '../../bridge.ts';

/** Cells of one request. */
export const tileCells = 16_384;
const tilesKept = 40;
const flyingAtOnce = 2;

export interface Tile {
  readonly classes: readonly string[];
  readonly shares: Uint8Array;
  readonly refined: boolean;
}

/** What the whole view adds up to, as far as it was looked through. */
export interface Totals {
  readonly layer: MapLayer;
  readonly classes: readonly string[];
  readonly bytes: readonly number[];
  readonly surveyed: number;
  readonly fault: SaidFault | null;
}

export interface Wanted {
  readonly layer: MapLayer;
  readonly level: number;
  readonly index: number;
}

/** Where cells come from: `cells` cells of `level` from number `first` on. */
export type AskTile = (
  asked: { readonly layer: MapLayer; readonly level: number; readonly first: number; readonly cells: number },
  signal: AbortSignal,
) => Promise<MapTile>;

/** The cells of a view of an open image. */
export function askSession(session: string, view: string): AskTile {
  return (asked, signal) => client.sessions.map({ session, view, ...asked }, { signal });
}

const keyOf = ({ layer, level, index }: Wanted): string => `${layer} ${level} ${index}`;

export class TileStore {
  totals: Totals | null = null;
  fault: Fault | null = null;
  readonly #ask: AskTile;
  readonly #changed: () => void;
  readonly #tiles = new Map<string, Tile>();
  readonly #flying = new Map<string, AbortController>();
  #wanted: readonly Wanted[] = [];
  #closed = false;

  constructor(ask: AskTile, changed: () => void) {
    this.#ask = ask;
    this.#changed = changed;
  }

  /** The cells, if they were fetched. */
  tile(wanted: Wanted): Tile | null {
    return this.#tiles.get(keyOf(wanted)) ?? null;
  }

  /** All that is wanted now, most urgent first; what is under way and not wanted any more is taken back. */
  want(wanted: readonly Wanted[]): void {
    this.#wanted = wanted;
    const keys = new Set(wanted.map(keyOf));
    for (const [key, controller] of this.#flying) {
      if (keys.has(key)) continue;
      this.#flying.delete(key);
      controller.abort();
    }
    this.#fetchNext();
  }

  /** Everything that is wanted is there and exact. */
  get settled(): boolean {
    return this.fault !== null || this.#wanted.every((one) => this.tile(one)?.refined === true);
  }

  close(): void {
    this.#closed = true;
    this.want([]);
  }

  #fetchNext(): void {
    if (this.#closed || this.fault !== null) return;
    for (const wanted of this.#wanted) {
      if (this.#flying.size >= flyingAtOnce) return;
      const key = keyOf(wanted);
      if (this.#flying.has(key) || this.#tiles.get(key)?.refined === true) continue;
      void this.#fetch(key, wanted);
    }
  }

  async #fetch(key: string, { layer, level, index }: Wanted): Promise<void> {
    const controller = new AbortController();
    this.#flying.set(key, controller);
    try {
      const asked = { layer, level, first: index * tileCells, cells: tileCells };
      const answer = await this.#ask(asked, controller.signal);
      const shares = new Uint8Array(await answer.shares.arrayBuffer());
      if (controller.signal.aborted) return;
      this.#keep(key, { classes: answer.classes, shares, refined: answer.refined });
      this.#sum(layer, answer);
    } catch (error) {
      if (controller.signal.aborted || this.#closed) return;
      this.fault = faultOf(error);
    } finally {
      if (this.#flying.get(key) === controller) this.#flying.delete(key);
    }
    this.#fetchNext();
    this.#changed();
  }

  #keep(key: string, tile: Tile): void {
    this.#tiles.delete(key);
    this.#tiles.set(key, tile);
    const wanted = new Set(this.#wanted.map(keyOf));
    for (const oldest of this.#tiles.keys()) {
      if (this.#tiles.size <= tilesKept) break;
      if (!wanted.has(oldest)) this.#tiles.delete(oldest);
    }
  }

  #sum(layer: MapLayer, { classes, totals, surveyed, fault }: MapTile): void {
    const known = this.totals;
    if (known !== null && known.layer === layer && known.surveyed >= surveyed && surveyed > 0 && known.fault === fault)
      return;
    this.totals = { layer, classes, bytes: totals, surveyed, fault: fault ?? known?.fault ?? null };
  }
}
