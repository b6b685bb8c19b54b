// The verbs that change images in place, as the fault suite runs them: one row each. `in-place.test.ts` says what is expected of all.
import type { FormatId } from '../../core/formats/format-id.ts';

/** A step of the preparation, in the folder of the row. */
export type Step = readonly ['qemu-img' | 'qemu-io' | 'platter' | 'damage' | 'fill', ...string[]];

export interface VerbRow {
  readonly name: string;
  /** The images whose content must be the old or the new one. */
  readonly images: readonly { readonly file: string; readonly format: FormatId }[];
  readonly prepare: readonly Step[];
  /** The command under test; files are in the current folder. */
  readonly argv: readonly string[];
  /** Files that must not change at all. */
  readonly untouched?: readonly string[];
  /** Its first look at an image that is not in order: `qemu-img check` is asked afterwards only. */
  readonly startsDamaged?: boolean;
  /** Why qemu-img is not asked; absent: it is, where it knows the format. */
  readonly notForQemu?: string;
  /** Why qemu-img need not read, or approve, what a crash leaves before the next opening by us; absent: it must. */
  readonly onlyAfterRollBack?: string;
  /** Why the corruptions that qemu-img counts before the next opening by us do not matter; the content does all the same. */
  readonly uncounted?: string;
  /** The image that `undo` is called with; default `image`. Null: the verb cannot be taken back once it has finished. */
  readonly undo?: string | null;
  /** Steps tried in the short mode, of the failing and of the killed kind; default 2 and 1. */
  readonly few?: readonly [number, number];
}

const image = 'image';

function one(format: FormatId, options: string, size: string, ...writes: string[]): Step[] {
  const create: Step = [
    'qemu-img',
    'create',
    '-q',
    '-f',
    format,
    ...(options === '' ? [] : ['-o', options]),
    image,
    size,
  ];
  return writes.length === 0 ? [create] : [create, io(format, image, ...writes)];
}

function io(format: FormatId, file: string, ...commands: string[]): Step {
  return ['qemu-io', '-f', format, ...commands.flatMap((command) => ['-c', command]), file];
}

function row(
  name: string,
  format: FormatId,
  prepare: readonly Step[],
  argv: readonly string[],
  more: Partial<VerbRow> = {},
): VerbRow {
  return { name: `${format}: ${name}`, images: [{ file: image, format }], prepare, argv, ...more };
}

/** A repair of a damage of `damages.ts`. */
function repair(what: 'leaks' | 'all', format: FormatId, prepare: readonly Step[], how: string): VerbRow {
  return row(
    `check -r ${what}, ${how}`,
    format,
    [...prepare, ['damage', how]],
    ['check', '-q', '-r', what, '-f', format, image],
    { startsDamaged: true },
  );
}

const someData = ['write -q -P 1 0 300k', 'write -q -P 2 700k 100k', 'write -q -P 3 1900k 148k'];
const qcow2 = (options = 'cluster_size=4k'): Step[] => one('qcow2', options, '2M', ...someData);
const snapshots: Step[] = [
  ...qcow2(),
  ['qemu-img', 'snapshot', '-c', 'one', image],
  io('qcow2', image, 'write -q -P 7 100k 400k', 'write -q -z 1900k 50k'),
  ['qemu-img', 'snapshot', '-c', 'two', image],
  io('qcow2', image, 'write -q -P 8 0 60k'),
];

/** With rooms of a deleted snapshot, leaked clusters and written zeroes to give back. */
const sparse: Step[] = [
  ...snapshots,
  io('qcow2', image, 'write -q -P 9 1100k 160k', 'write -q -P 0 1100k 80k', 'write -q -P 6 600k 40k'),
  ['qemu-img', 'snapshot', '-d', 'one', image],
];

const base = (format: FormatId = 'qcow2'): Step[] => [
  ['qemu-img', 'create', '-q', '-f', format, 'base', '2M'],
  io(format, 'base', ...someData),
];
const other: Step[] = [
  ['qemu-img', 'create', '-q', '-f', 'qcow2', 'other', '2M'],
  io('qcow2', 'other', 'write -q -P 1 0 200k', 'write -q -P 9 800k 300k'),
];
const overlay = (format: FormatId = 'qcow2', below: FormatId = 'qcow2', options = 'cluster_size=4k'): Step[] => [
  [
    'platter',
    'create',
    '-q',
    '-f',
    format,
    ...(options === '' ? [] : ['-o', options]),
    '-b',
    'base',
    '-F',
    below,
    image,
  ],
  ['fill', image],
];

/** Another image of the same size, with other content from 300 KiB on. */
const alike = (format: FormatId, of: string, name: string): Step[] => [
  ['platter', 'convert', '-f', format, '-O', format, of, name],
  io(format, name, 'write -q -P 9 800k 300k', 'write -q -P 5 1900k 20k'),
];

const bitmaps: Step[] = [
  ...qcow2(),
  ['qemu-img', 'bitmap', '--add', '-g', '4k', image, 'one'],
  ['qemu-img', 'bitmap', '--add', '-g', '4k', image, 'two'],
  io('qcow2', image, 'write -q -P 4 400k 90k'),
];

/** Overlays are filled by us: qemu-io cannot write to every one of them. */
export const fillings: readonly { readonly start: number; readonly length: number }[] = [
  { start: 50 * 1024, length: 100 * 1024 },
  { start: 1500 * 1024, length: 64 * 1024 },
  { start: 1990 * 1024, length: 58 * 1024 },
];

const vdi = { uncounted: 'the header counts blocks that the map has moved already, or not yet' };

export const verbRows: readonly VerbRow[] = [
  row('resize, larger', 'qcow2', qcow2(), ['resize', '-q', image, '900M']),
  row('resize, larger, preallocated', 'qcow2', qcow2(), ['resize', '-q', '--preallocation=metadata', image, '6M']),
  row('resize, smaller', 'qcow2', qcow2(), ['resize', '-q', '--shrink', image, '600k']),
  row('resize, larger', 'raw', one('raw', '', '2M', ...someData), ['resize', '-q', '-f', 'raw', image, '5M']),
  row('resize, smaller', 'raw', one('raw', '', '2M', ...someData), [
    'resize',
    '-q',
    '-f',
    'raw',
    '--shrink',
    image,
    '777216',
  ]),
  row('resize, larger', 'vpc', one('vpc', 'force_size=on', '5M', ...someData), ['resize', '-q', image, '3G']),
  row('resize, larger, fixed', 'vpc', one('vpc', 'subformat=fixed,force_size=on', '2M', ...someData), [
    'resize',
    '-q',
    image,
    '4M',
  ]),
  row('resize, smaller, fixed', 'vpc', one('vpc', 'subformat=fixed,force_size=on', '2M', ...someData), [
    'resize',
    '-q',
    '--shrink',
    image,
    '1M',
  ]),
  row('resize, larger', 'vhdx', one('vhdx', '', '2M', ...someData), ['resize', '-q', image, '40G']),
  row('resize, smaller', 'vhdx', one('vhdx', '', '80M', ...someData), ['resize', '-q', '--shrink', image, '1M']),
  row('resize, larger', 'vmdk', one('vmdk', '', '2M', ...someData), ['resize', '-q', image, '300M']),
  row('resize, larger, flat', 'vmdk', one('vmdk', 'subformat=monolithicFlat', '2M', ...someData), [
    'resize',
    '-q',
    image,
    '5M',
  ]),
  row('resize, larger, further extents', 'vmdk', one('vmdk', 'subformat=twoGbMaxExtentSparse', '2M', ...someData), [
    'resize',
    '-q',
    image,
    '5G',
  ]),
  row('resize, larger', 'vdi', one('vdi', '', '2M', ...someData), ['resize', '-q', image, '9G'], vdi),
  row('resize, smaller', 'vdi', one('vdi', '', '5M', ...someData), ['resize', '-q', '--shrink', image, '1M'], vdi),
  row('resize, larger', 'qcow', one('qcow', '', '2M', ...someData), ['resize', '-q', image, '5M']),

  row('snapshot -c', 'qcow2', snapshots, ['snapshot', '-q', '-c', 'three', image]),
  row('snapshot -a', 'qcow2', snapshots, ['snapshot', '-q', '-a', 'one', image]),
  row('snapshot -d', 'qcow2', snapshots, ['snapshot', '-q', '-d', 'one', image]),

  row('amend to compat 0.10', 'qcow2', qcow2(), ['amend', '-q', '-o', 'compat=0.10', image]),
  row('amend to compat 1.1', 'qcow2', qcow2('compat=0.10,cluster_size=4k'), ['amend', '-q', '-o', 'compat=1.1', image]),
  row('amend to 64 refcount bits', 'qcow2', snapshots, ['amend', '-q', '-o', 'refcount_bits=64', image]),
  row('amend to lazy refcounts', 'qcow2', qcow2(), ['amend', '-q', '-o', 'lazy_refcounts=on', image]),

  row('bitmap --add', 'qcow2', qcow2(), ['bitmap', '--add', image, 'b']),
  row('bitmap --remove', 'qcow2', bitmaps, ['bitmap', '--remove', image, 'one']),
  row('bitmap --clear', 'qcow2', bitmaps, ['bitmap', '--clear', image, 'one']),
  row('bitmap --merge', 'qcow2', bitmaps, ['bitmap', '--merge', 'one', image, 'two']),

  row('compact', 'qcow2', sparse, ['compact', '-q', image], { undo: null }),
  row('compact', 'vdi', one('vdi', '', '6M', ...someData, 'write -q -z 0 1M'), ['compact', '-q', image], {
    ...vdi,
    undo: null,
  }),
  row('compact', 'vpc', one('vpc', 'force_size=on', '9M', ...someData, 'write -q -z 0 2M'), ['compact', '-q', image], {
    undo: null,
  }),
  row(
    'compact',
    'vhdx',
    one('vhdx', 'block_size=1M', '9M', ...someData, 'write -q -P 0 0 1M'),
    ['compact', '-q', image],
    {
      undo: null,
    },
  ),

  row(
    'rebase to another base',
    'qcow2',
    [...base(), ...other, ...overlay()],
    ['rebase', '-q', '-b', 'other', '-F', 'qcow2', image],
    {
      untouched: ['base', 'other'],
    },
  ),
  row('rebase to none', 'qcow2', [...base(), ...overlay()], ['rebase', '-q', '-b', '', image], { untouched: ['base'] }),
  row('rebase to none', 'vmdk', [...base('vmdk'), ...overlay('vmdk', 'vmdk', '')], ['rebase', '-q', '-b', '', image], {
    untouched: ['base'],
  }),
  row('rebase to none', 'vhdx', [...base('vhdx'), ...overlay('vhdx', 'vhdx', '')], ['rebase', '-q', '-b', '', image], {
    untouched: ['base'],
    notForQemu: 'qemu-img cannot open differencing VHDX',
  }),

  {
    name: 'qcow2: commit',
    images: [{ file: image, format: 'qcow2' }],
    prepare: [...base(), ...overlay()],
    argv: ['commit', '-q', image],
  },
  {
    name: 'qcow2 over raw: commit -d',
    images: [{ file: image, format: 'qcow2' }],
    prepare: [...base('raw'), ...overlay('qcow2', 'raw')],
    argv: ['commit', '-q', '-d', image],
    undo: 'base',
  },
  {
    name: 'vmdk: commit',
    images: [{ file: image, format: 'vmdk' }],
    prepare: [...base('vmdk'), ...overlay('vmdk', 'vmdk', '')],
    argv: ['commit', '-q', image],
    onlyAfterRollBack: 'between the new CID of the base and the link that names it, the chain does not open',
  },

  row('commit', 'qcow', [...base('qcow'), ...overlay('qcow', 'qcow', '')], ['commit', '-q', image]),
  row(
    'rebase to another base',
    'vpc',
    [...base('vpc'), ...alike('vpc', 'base', 'other'), ...overlay('vpc', 'vpc', '')],
    ['rebase', '-q', '-b', 'other', image],
    { untouched: ['base', 'other'], notForQemu: 'qemu-img cannot open differencing VHDs' },
  ),
  row('commit', 'vpc', [...base('vpc'), ...overlay('vpc', 'vpc', '')], ['commit', '-q', image], {
    notForQemu: 'qemu-img cannot open differencing VHDs',
  }),
  row('commit', 'vhdx', [...base('vhdx'), ...overlay('vhdx', 'vhdx', '')], ['commit', '-q', image], {
    notForQemu: 'qemu-img cannot open differencing VHDX',
  }),
  row(
    'commit',
    'vdi',
    [
      ['qemu-img', 'create', '-q', '-f', 'vdi', 'base.vdi', '2M'],
      io('vdi', 'base.vdi', ...someData),
      ['platter', 'create', '-q', '-f', 'vdi', '-b', 'base.vdi', '-F', 'vdi', image],
      ['fill', image],
    ],
    ['commit', '-q', image],
    { notForQemu: 'qemu-img cannot open differencing VDIs' },
  ),

  repair('leaks', 'qcow2', qcow2(), 'qcow2-leak'),
  repair('all', 'qcow2', qcow2(), 'qcow2-refcounts'),
  repair('all', 'vdi', one('vdi', '', '6M', ...someData, 'write -q -P 4 5M 64k'), 'vdi'),
  repair('all', 'vpc', one('vpc', 'force_size=on', '6M', ...someData, 'write -q -P 4 5M 64k'), 'vpc'),
  repair('all', 'vpc', one('vpc', 'subformat=fixed,force_size=on', '2M', ...someData), 'vpc-fixed'),
  repair('all', 'vhdx', one('vhdx', '', '2M', ...someData), 'vhdx'),
  repair('leaks', 'vmdk', one('vmdk', '', '2M', ...someData), 'vmdk-behind'),
  repair('all', 'vmdk', one('vmdk', '', '2M', ...someData), 'vmdk'),
];

/** The rows in three parts of about one length. */
export const chainRows = verbRows.filter(({ prepare }) => prepare.some(([what]) => what === 'fill'));
export const qcow2Rows = verbRows.filter((one) => !chainRows.includes(one) && one.name.startsWith('qcow2'));
export const otherRows = verbRows.filter((one) => !chainRows.includes(one) && !one.name.startsWith('qcow2'));
