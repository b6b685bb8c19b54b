// The cells of a view as far as they were fetched: those of the degree that is seen, or of the picture of the whole until they come.
import { untrack } from 'svelte';
import type { MapLayer } from '../../../core/workbench/contract.ts';
import { cellsOf, type Viewport } from './geometry.ts';
import type { Extent, MapView } from './map-view.svelte.ts';
import type { CellSource } from './paint.ts';
import { tileCells, TileStore, type AskTile, type Tile, type Wanted } from './tile-store.ts';

export type SourceOf = (cell: number) => CellSource | null;

export class MapCells {
  /** Goes up when cells have come or colours have changed. */
  version = $state(0);
  #store: TileStore | null = null;
  /** What was shown before the image was opened anew: stays until there is something newer. */
  #before: TileStore | null = null;
  #view = '';
  readonly #changed: (store: TileStore) => void;

  constructor(changed: (store: TileStore) => void) {
    this.#changed = changed;
  }

  /** Everything that is wanted is there and exact. */
  get settled(): boolean {
    return this.#store?.settled === true;
  }

  /** From now on these cells, of this view. */
  use(ask: AskTile, view: string): void {
    const next = new TileStore(ask, () => {
      if (this.#store !== next) return;
      if (next.settled) this.#before = null;
      this.#changed(next);
      this.version += 1;
    });
    untrack(() => {
      // Of another view it would be another disk.
      this.#before = this.#view === view ? (this.#store ?? this.#before) : null;
      this.#view = view;
      this.#store?.close();
      this.#store = next;
      this.version += 1;
    });
  }

  close(): void {
    this.#store?.close();
  }

  /** What is seen is fetched first, then the picture of the whole. */
  want(layer: MapLayer, { first, rows, columns, cells, step }: Viewport, whole: number, { size, unit }: Extent): void {
    const top = wantedFrom(layer, whole, 0, cellsOf(size, unit, whole) - 1);
    const last = Math.min(cells, first + rows * columns) - 1;
    this.#store?.want(step.level === whole ? top : [...wantedFrom(layer, step.level, first, last), ...top]);
  }

  tile(wanted: Wanted): Tile | null {
    return this.#store?.tile(wanted) ?? this.#before?.tile(wanted) ?? null;
  }

  /** The cells of `layer` at `level`. */
  sources(layer: MapLayer, level: number, { whole }: Pick<MapView, 'whole'>): SourceOf {
    let index = -1;
    let tile: Tile | null = null;
    const coarser = 2 ** (whole - level);
    let coarseIndex = -1;
    let coarse: Tile | null = null;
    return (cell) => {
      const wanted = Math.floor(cell / tileCells);
      if (wanted !== index) {
        index = wanted;
        tile = this.tile({ layer, level, index });
      }
      if (tile !== null) return { shares: tile.shares, stride: tileCells, cell: cell % tileCells };
      const above = Math.floor(cell / coarser);
      if (Math.floor(above / tileCells) !== coarseIndex) {
        coarseIndex = Math.floor(above / tileCells);
        coarse = this.tile({ layer, level: whole, index: coarseIndex });
      }
      return coarse === null ? null : { shares: coarse.shares, stride: tileCells, cell: above % tileCells };
    };
  }
}

function wantedFrom(layer: MapLayer, level: number, first: number, last: number): Wanted[] {
  const wanted: Wanted[] = [];
  for (let index = Math.floor(first / tileCells); index <= Math.floor(last / tileCells); index++) {
    wanted.push({ layer, level, index });
  }
  return wanted;
}
