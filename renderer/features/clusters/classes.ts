// How the classes of the map are shown: name, colour, letter and pattern of each, and which stand for nothing stored.
import { messageOf, t, type MessageKey } from '../../text/message.svelte.ts';
import { baseName } from '../../text/paths.ts';

/** Patterns that tell classes apart without their colour. */
export type Pattern = 'plain' | 'rising' | 'falling' | 'dots' | 'lines' | 'hollow' | 'cross';

export interface ClassLook {
  readonly label: string;
  /** A colour of the style sheet, or how far along the ramp (0 to 1) it is. */
  readonly colour: string | number;
  readonly letter: string;
  readonly pattern: Pattern;
  /** Nothing is stored: drawn as ground. */
  readonly empty: boolean;
}

interface Row {
  readonly text: MessageKey;
  readonly colour: string | number;
  readonly letter: string;
  readonly pattern: Pattern;
  readonly empty?: boolean;
}

const rows: Readonly<Record<string, Row>> = {
  data: { text: 'map.class.data', colour: '--map-data', letter: 'D', pattern: 'plain' },
  packed: { text: 'map.class.packed', colour: '--map-packed', letter: 'C', pattern: 'dots' },
  below: { text: 'map.class.below', colour: '--map-below', letter: 'B', pattern: 'rising' },
  zero: { text: 'map.class.zero', colour: '--map-zero', letter: '0', pattern: 'hollow' },
  zeroes: { text: 'map.class.zeroes', colour: '--map-zero', letter: '0', pattern: 'hollow' },
  pending: { text: 'map.class.pending', colour: '--map-empty', letter: '·', pattern: 'plain', empty: true },
  reserved: { text: 'map.class.reserved', colour: '--map-reserved', letter: 'R', pattern: 'lines' },
  unallocated: { text: 'map.class.unallocated', colour: '--map-empty', letter: '·', pattern: 'plain', empty: true },
  unreadable: { text: 'map.class.unreadable', colour: '--map-bad', letter: '!', pattern: 'cross' },
  unknown: { text: 'map.class.unknown', colour: '--map-empty', letter: '?', pattern: 'plain', empty: true },
  none: { text: 'map.class.none', colour: '--map-empty', letter: '·', pattern: 'plain', empty: true },
  scattered: { text: 'map.class.scattered', colour: '--map-bad', letter: 'S', pattern: 'cross' },
  short: { text: 'map.class.short', colour: '--map-warn', letter: 'K', pattern: 'falling' },
  medium: { text: 'map.class.medium', colour: '--map-below', letter: 'M', pattern: 'rising' },
  long: { text: 'map.class.long', colour: '--map-good', letter: 'L', pattern: 'plain' },
  own: { text: 'map.class.own', colour: '--map-data', letter: 'O', pattern: 'plain' },
  shared: { text: 'map.class.shared', colour: '--map-snapshot', letter: 'S', pattern: 'falling' },
  'own-snapshot': { text: 'map.class.own-snapshot', colour: '--map-data', letter: 'O', pattern: 'plain' },
  'shared-snapshot': { text: 'map.class.shared-snapshot', colour: '--map-snapshot', letter: 'S', pattern: 'falling' },
  header: { text: 'map.class.header', colour: '--map-header', letter: 'H', pattern: 'plain' },
  tables: { text: 'map.class.tables', colour: '--map-tables', letter: 'T', pattern: 'lines' },
  refcounts: { text: 'map.class.refcounts', colour: '--map-refcounts', letter: 'r', pattern: 'falling' },
  bitmaps: { text: 'map.class.bitmaps', colour: '--map-bitmaps', letter: 'b', pattern: 'dots' },
  snapshots: { text: 'map.class.snapshots', colour: '--map-snapshot', letter: 's', pattern: 'rising' },
  'count-0': { text: 'map.class.count-0', colour: '--map-empty', letter: '0', pattern: 'plain', empty: true },
  'count-1': { text: 'map.class.count-1', colour: '--map-data', letter: '1', pattern: 'plain' },
  'count-2': { text: 'map.class.count-2', colour: 0, letter: '2', pattern: 'falling' },
  'count-3': { text: 'map.class.count-3', colour: 0.25, letter: '3', pattern: 'rising' },
  'count-4': { text: 'map.class.count-4', colour: 0.5, letter: '4', pattern: 'dots' },
  'count-8': { text: 'map.class.count-8', colour: 0.75, letter: '8', pattern: 'lines' },
  'count-16': { text: 'map.class.count-16', colour: 1, letter: '+', pattern: 'cross' },
  'not-disk': { text: 'map.class.not-disk', colour: '--map-empty', letter: '·', pattern: 'plain', empty: true },
  log: { text: 'map.class.log', colour: '--map-warn', letter: 'L', pattern: 'lines' },
  'snapshot-data': { text: 'map.class.snapshot-data', colour: '--map-below', letter: 'S', pattern: 'rising' },
  free: { text: 'map.class.free', colour: '--map-empty', letter: '·', pattern: 'plain', empty: true },
  lost: { text: 'map.class.lost', colour: '--map-bad', letter: 'X', pattern: 'falling' },
};

/** Colours of the layers of a chain, the image itself first. */
const depthColours = ['--map-data', '--map-below', '--map-packed', '--map-snapshot', '--map-warn', '--map-refcounts'];
const depthPatterns: readonly Pattern[] = ['plain', 'rising', 'dots', 'falling', 'lines', 'hollow'];

/** How a class of the engine is shown; `layers`: the files of the chain, the image itself first. */
export function lookOf(name: string, layers: readonly string[] = []): ClassLook {
  const [, kind, digits] = /^(depth|part)-(\d+)$/.exec(name) ?? [];
  const index = Number(digits);
  if (kind === 'depth') {
    return {
      label: depthText(index, layers[index]),
      colour: depthColours[index % depthColours.length] ?? '--map-data',
      letter: String(index),
      pattern: depthPatterns[index % depthPatterns.length] ?? 'plain',
      empty: false,
    };
  }
  if (kind === 'part') {
    return {
      label: t('map.class.part', { from: percent(index), to: percent(index + 1) }),
      colour: index / 15,
      letter: index.toString(16).toUpperCase(),
      pattern: 'plain',
      empty: false,
    };
  }
  const row = rows[name];
  if (row === undefined) {
    return {
      label: messageOf(`map.class.${name}`) ?? name,
      colour: '--map-bad',
      letter: '?',
      pattern: 'cross',
      empty: false,
    };
  }
  return {
    label: t(row.text),
    colour: row.colour,
    letter: row.letter,
    pattern: row.pattern,
    empty: row.empty === true,
  };
}

function depthText(index: number, layer: string | undefined): string {
  if (index === 0) return t('map.class.depth-0');
  return layer === undefined
    ? t('map.class.depth', { depth: index })
    : t('map.layer-below', { depth: index, name: baseName(layer) });
}

function percent(part: number): string {
  return `${Math.round((part / 16) * 100)}`;
}
