// The cluster map as characters: a block for each run of clusters, and a legend with the bytes of each class.
import path from 'node:path';
import type { BlockNode } from '../core/block/node.ts';
import type { FormatDriver } from '../core/formats/driver.ts';
import type { Job } from '../core/job.ts';
import type { MapLayer } from '../core/workbench/map/classes.ts';
import { ImageMap, isDiskView, snapshotView } from '../core/workbench/map/image-map.ts';
import { levelFor, type Tile } from '../core/workbench/map/tile.ts';
import { CommandError, outLine } from './print.ts';
import { humanSize } from './size.ts';

export interface PictureOptions {
  /** `guest`, or the role of a file. */
  readonly view: string;
  /** The disk as it was in this snapshot (id or name); null: as it is. */
  readonly snapshot: string | null;
  readonly layer: MapLayer;
  /** Characters in a row. */
  readonly width: number;
  readonly colour: boolean;
}

/** Rows of the picture at most. */
const mostRows = 24;

interface Look {
  readonly glyph: string;
  /** SGR parameters. */
  readonly colour: string;
  readonly words: string;
}

const looks: Readonly<Record<string, Look>> = {
  data: { glyph: '█', colour: '34', words: 'data' },
  packed: { glyph: '▓', colour: '35', words: 'compressed' },
  below: { glyph: '▒', colour: '36', words: 'in a layer below' },
  zero: { glyph: '0', colour: '90', words: 'zero, and says so' },
  reserved: { glyph: '░', colour: '94', words: 'set aside, never written' },
  unallocated: { glyph: '·', colour: '90', words: 'not allocated' },
  none: { glyph: '·', colour: '90', words: 'nothing stored' },
  unreadable: { glyph: '!', colour: '31;1', words: 'not readable' },
  scattered: { glyph: '░', colour: '31', words: 'in pieces below 256 KiB' },
  short: { glyph: '▒', colour: '33', words: 'in pieces of 256 KiB to 4 MiB' },
  medium: { glyph: '▓', colour: '36', words: 'in pieces of 4 to 64 MiB' },
  long: { glyph: '█', colour: '32', words: 'in pieces of 64 MiB or more' },
  own: { glyph: '█', colour: '34', words: 'of the disk alone' },
  shared: { glyph: '▒', colour: '35', words: 'shared with a snapshot' },
  'own-snapshot': { glyph: '█', colour: '34', words: 'of this snapshot alone' },
  'shared-snapshot': { glyph: '▒', colour: '35', words: 'shared with other states' },
  'not-disk': { glyph: '·', colour: '90', words: 'not of this disk' },
  'count-0': { glyph: '·', colour: '90', words: 'not referred to' },
  'count-1': { glyph: '1', colour: '34', words: 'once' },
  'count-2': { glyph: '2', colour: '35', words: 'twice' },
  'count-3': { glyph: '3', colour: '36', words: '3 times' },
  'count-4': { glyph: '4', colour: '32', words: '4 to 7 times' },
  'count-8': { glyph: '8', colour: '33', words: '8 to 15 times' },
  'count-16': { glyph: '+', colour: '31', words: '16 times or more' },
  header: { glyph: '◆', colour: '1', words: 'headers' },
  tables: { glyph: '▤', colour: '33', words: 'mapping tables' },
  refcounts: { glyph: '▥', colour: '32', words: 'refcounts' },
  bitmaps: { glyph: '▦', colour: '36', words: 'bitmaps' },
  snapshots: { glyph: '▧', colour: '35', words: 'snapshot tables' },
  log: { glyph: '▨', colour: '33', words: 'log' },
  'snapshot-data': { glyph: '▒', colour: '36', words: 'data of snapshots only' },
  free: { glyph: '·', colour: '90', words: 'free' },
  lost: { glyph: 'x', colour: '31', words: 'lost: nothing refers to it' },
};
const depthColours = ['34', '36', '35', '33', '32', '31', '94', '96'];
/** Classes of which nothing is stored: they show only where there is nothing else. */
const empty: readonly string[] = ['unallocated', 'none', 'free', 'not-disk', 'count-0'];

function lookOf(name: string, layers: readonly string[]): Look {
  const [, kind, digits] = /^(depth|part)-(\d+)$/.exec(name) ?? [];
  const index = Number(digits);
  const glyph = index.toString(16);
  if (kind === 'part') {
    const words = `at ${Math.round(index * 6.25)} to ${Math.round((index + 1) * 6.25)} % of the file`;
    return {
      glyph,
      colour: `38;5;${[57, 63, 69, 75, 80, 79, 78, 77, 113, 149, 185, 184, 220, 221, 227, 229][index] ?? 57}`,
      words,
    };
  }
  if (kind === 'depth') {
    const below = layers[index];
    const words =
      index === 0 ? 'this image' : `${index} below${below === undefined ? '' : `: ${path.basename(below)}`}`;
    return { glyph, colour: depthColours[index % depthColours.length] ?? '34', words };
  }
  return looks[name] ?? { glyph: '?', colour: '0', words: name };
}

/** Prints the picture. Throws `CommandError` for a layer that the view has not, `request/cancelled`. */
export function printPicture(
  { node, driver, depth }: { node: BlockNode; driver: FormatDriver; depth: number },
  { view: asked, snapshot, layer, width, colour }: PictureOptions,
  job: Job,
): void {
  const map = new ImageMap(node, driver, depth);
  const view = snapshot === null ? asked : `${snapshotView}${snapshot}`;
  const isDisk = isDiskView(view);
  if (!isDisk && !node.files.some(({ role }) => role === view)) {
    const known = node.files.map(({ role }) => `'${role}'`).join(', ');
    throw new CommandError(`The image has no file '${view}'; it has ${known}`);
  }
  const size = map.sizeOf(view);
  const unit = map.unitOf(view);
  const level = levelFor(size, unit, width * mostRows);
  const cells = Math.ceil(size / (unit * 2 ** level));
  const tile = wholeTile(map, { view, layer, level, cells, size }, job);
  const shown = tile.classes.map((name) => ({ name, look: lookOf(name, map.layers) }));
  const paint = (text: string, code: string): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  outLine(
    `${!isDisk ? `File '${view}'` : snapshot === null ? 'Guest disk' : `Snapshot ${snapshot}`}: ${humanSize(size)}, ${humanSize(unit * 2 ** level)} a character`,
  );
  const digits = Math.max(8, (size - 1).toString(16).length);
  for (let row = 0; row * width < cells; row++) {
    const offset = (row * width * unit * 2 ** level).toString(16).padStart(digits, '0');
    let line = '';
    for (let cell = row * width; cell < Math.min(cells, (row + 1) * width); cell++) {
      const { look } = shown[mostOf(tile, cell, cells)] ?? { look: lookOf('none', []) };
      line += paint(look.glyph, look.colour);
    }
    outLine(`${paint(offset, '90')} ${line}`);
  }
  outLine('');
  shown.forEach(({ look }, kind) => {
    const bytes = tile.totals[kind] ?? 0;
    if (bytes === 0) return;
    const percent = `${((100 * bytes) / size).toFixed(1)} %`;
    outLine(
      `${paint(look.glyph, look.colour)} ${look.words.padEnd(32)} ${humanSize(bytes).padStart(10)} ${percent.padStart(8)}`,
    );
  });
  if (tile.fault !== null) outLine(`First fault: ${tile.fault.message}`);
}

function wholeTile(
  map: ImageMap,
  { view, layer, level, cells, size }: { view: string; layer: MapLayer; level: number; cells: number; size: number },
  job: Job,
): Tile {
  const ask = { level, first: 0, cells };
  // At the level of the walk over all of it, so that the totals are counted too.
  const top = { level: 52, first: 0, cells: 1 };
  for (;;) {
    job.throwIfCancelled();
    const whole = map.tile(view, layer, top);
    job.progress({ phase: 'map', done: whole.surveyed, total: size });
    if (!whole.refined) continue;
    const tile = map.tile(view, layer, ask);
    if (tile.refined) return { ...tile, totals: whole.totals, fault: whole.fault };
  }
}

/** The class that a character stands for: what there is most of, where anything is stored of that. */
function mostOf({ classes, shares }: Tile, cell: number, cells: number): number {
  let most = 0;
  let weight = -1;
  classes.forEach((name, kind) => {
    const part = shares[kind * cells + cell] ?? 0;
    const weighed = empty.includes(name) ? part / 256 : part;
    if (part > 0 && weighed > weight) {
      weight = weighed;
      most = kind;
    }
  });
  return most;
}
