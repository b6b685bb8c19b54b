// The generated images on which we and qemu-img must agree: options × contents × sizes × chains.
import { SeededRandom, seedOf } from '../seeded-random.ts';

/** One image to make with qemu-img: its options, its layer below, and what qemu-io does to it. */
export interface LayerPlan {
  readonly file: string;
  readonly format: 'raw' | 'qcow2';
  /** Arguments of `qemu-img create` between `-f FORMAT` and the name. */
  readonly create: readonly string[];
  /** Bytes; null: the size of the layer below. */
  readonly size: number | null;
  /** Arguments after `qemu-io -f FORMAT`, as `-c` commands; they run one after the other. */
  readonly writes: readonly string[];
}

/** A further step on the files: a program and its arguments. `status`: what it may end with besides 0. */
export type Step = readonly ['qemu-img' | 'qemu-io', ...string[]];

export interface OraclePlan {
  readonly name: string;
  readonly family: string;
  /** From the bottom to the top; the last one is the image that is looked at. */
  readonly layers: readonly LayerPlan[];
  /** After all layers are made. */
  readonly steps: readonly Step[];
  /** What the top image is converted to, besides raw. */
  readonly convert: readonly string[];
  /** The damage makes some verbs fail on purpose: only these are compared. */
  readonly only?: readonly ('info' | 'check' | 'map' | 'convert')[];
}

const KiB = 1024;
const MiB = 1024 * KiB;

/** Targets of convert, used in turn. */
const targets: readonly (readonly string[])[] = [
  [],
  ['-c'],
  ['-o', 'cluster_size=4k'],
  ['-o', 'compat=0.10'],
  ['-o', 'preallocation=metadata'],
  ['-S', '0'],
  ['-o', 'extended_l2=on'],
  ['-c', '-o', 'compression_type=zstd'],
  ['-o', 'lazy_refcounts=on'],
  ['-o', 'cluster_size=2M'],
  ['-o', 'refcount_bits=1'],
  ['-S', '64k', '-o', 'cluster_size=512'],
  ['-W', '-m', '4'],
  ['-o', 'data_file=DATA'],
];

/** Some writes of several kinds; each has another byte, so that a wrong cluster shows. */
function someWrites(
  random: SeededRandom,
  size: number,
  cluster: number,
  kinds: readonly string[],
  count: number,
): string[] {
  const writes: string[] = [];
  const packed = new Set<number>();
  for (let i = 0; i < count && size > 0; i++) {
    const kind = random.pick(kinds);
    let offset = random.below(size);
    let length = 1 + random.below(Math.min(3 * cluster, 256 * KiB));
    const aligned = kind === 'discard' || random.oneIn(2);
    if (aligned) {
      offset -= offset % cluster;
      length = Math.max(cluster, length - (length % cluster));
    }
    length = Math.min(length, size - offset);
    if (kind === 'write' || kind === 'write -c') {
      if (kind === 'write -c') {
        // qemu-io refuses to pack a cluster that is stored already.
        offset -= offset % cluster;
        if (packed.has(offset)) continue;
        packed.add(offset);
        length = Math.min(cluster, size - offset);
      }
      writes.push(`${kind} -q -P ${1 + random.below(255)} ${offset} ${length}`);
    } else writes.push(`${kind} -q ${offset} ${length}`);
  }
  return writes;
}

const plain = ['write', 'write', 'write'];
const withZeroes = ['write', 'write', 'write -z', 'write -zu', 'discard'];

function clusterOf(options: string): number {
  const match = /cluster_size=(\d+)(k|M)?/.exec(options);
  if (match === null) return 64 * KiB;
  return Number(match[1]) * (match[2] === 'M' ? MiB : match[2] === 'k' ? KiB : 1);
}

class Collection {
  readonly plans: OraclePlan[] = [];

  /** The case gets its random numbers from its name. */
  add(
    family: string,
    name: string,
    build: (random: SeededRandom) => Partial<OraclePlan> & { layers: LayerPlan[] },
  ): void {
    const full = `${family}: ${name}`;
    const convert = targets[this.plans.length % targets.length] ?? [];
    this.plans.push({ name: full, family, steps: [], convert, ...build(new SeededRandom(seedOf(full))) });
  }
}

function qcow2Layer(file: string, options: string, size: number | null, writes: string[], below?: string[]): LayerPlan {
  const create = [...(options === '' ? [] : ['-o', options]), ...(below ?? [])];
  return { file, format: 'qcow2', create, size, writes };
}

function rawLayer(file: string, options: string, size: number, writes: string[]): LayerPlan {
  return { file, format: 'raw', create: options === '' ? [] : ['-o', options], size, writes };
}

const over = (file: string, format: string): string[] => ['-b', file, '-F', format];

/** All cases, always the same ones. */
export function oraclePlans(): OraclePlan[] {
  const all = new Collection();
  rawCases(all);
  qcow2OptionCases(all);
  qcow2ContentCases(all);
  chainCases(all);
  damageCases(all);
  return all.plans;
}

function rawCases(all: Collection): void {
  for (const size of [0, 1, 511, 512, 1000, 65_537, MiB, 3 * MiB + 513, 64 * MiB]) {
    all.add('raw', `${size} bytes, some data`, (random) => ({
      layers: [rawLayer('disk.raw', '', size, someWrites(random, size, 4096, ['write'], size > 4096 ? 6 : 1))],
    }));
  }
  for (const how of ['falloc', 'full', 'off']) {
    all.add('raw', `preallocation=${how}`, (random) => ({
      layers: [rawLayer('disk.raw', `preallocation=${how}`, MiB + 512, someWrites(random, MiB, 4096, ['write'], 3))],
    }));
  }
  all.add('raw', 'discarded in the middle', () => ({
    layers: [rawLayer('disk.raw', '', MiB, ['write -q -P 7 0 1M', 'discard -q 256k 128k', 'write -q -z 512k 64k'])],
  }));
}

function qcow2OptionCases(all: Collection): void {
  const single = (options: string, size: number, writes: (random: SeededRandom) => string[]): void =>
    all.add('qcow2', `${options === '' ? 'defaults' : options}, ${size} bytes`, (random) => ({
      layers: [qcow2Layer('disk.qcow2', options, size, writes(random))],
    }));
  for (const cluster of ['512', '1k', '4k', '64k', '256k', '2M']) {
    const bytes = clusterOf(`cluster_size=${cluster}`);
    for (const [compat, kinds] of [
      ['0.10', plain],
      ['1.1', withZeroes],
    ] as const) {
      for (const size of [Math.min(64 * bytes, 20 * MiB), 5 * bytes + 1536]) {
        single(`cluster_size=${cluster},compat=${compat}`, size, (random) =>
          someWrites(random, size, bytes, kinds, 14),
        );
      }
    }
  }
  for (const how of ['metadata', 'falloc', 'full']) {
    for (const cluster of ['4k', '64k']) {
      for (const size of [MiB, 3 * MiB + 1024]) {
        single(`preallocation=${how},cluster_size=${cluster}`, size, (random) =>
          someWrites(random, size, clusterOf(`cluster_size=${cluster}`), withZeroes, 5),
        );
      }
    }
  }
  for (const bits of [1, 2, 4, 8, 32, 64]) {
    for (const cluster of ['512', '64k']) {
      const bytes = clusterOf(`cluster_size=${cluster}`);
      single(`refcount_bits=${bits},cluster_size=${cluster}`, 40 * bytes, (random) =>
        someWrites(random, 40 * bytes, bytes, withZeroes, 10),
      );
    }
  }
  for (const cluster of ['16k', '32k', '64k', '2M']) {
    for (const size of [40 * clusterOf(`cluster_size=${cluster}`), 700 * KiB + 512]) {
      const sub = clusterOf(`cluster_size=${cluster}`) / 32;
      single(`extended_l2=on,cluster_size=${cluster}`, size, (random) => someWrites(random, size, sub, withZeroes, 24));
    }
  }
  single('extended_l2=on,preallocation=metadata', 2 * MiB, (random) =>
    someWrites(random, 2 * MiB, 2048, withZeroes, 6),
  );
  single('lazy_refcounts=on', MiB, (random) => someWrites(random, MiB, 65_536, withZeroes, 6));
  single('', 0, () => []);
  single('', 512, () => ['write -q -P 1 0 512']);
  single('', 1000, () => ['write -q -P 1 0 1000']);
  all.add('qcow2', 'defaults, 40 GiB and a sector', () => ({
    layers: [
      qcow2Layer('disk.qcow2', '', 40 * 1024 * MiB + 512, [
        'write -q -P 1 20G 64k',
        'write -q -P 2 0 3',
        `write -q -P 3 ${40 * 1024 * MiB} 512`,
      ]),
    ],
    only: ['info', 'check', 'map'],
  }));
  single('cluster_size=512', 8 * MiB, (random) => someWrites(random, 8 * MiB, 512, plain, 60));
  for (const raw of ['', ',data_file_raw=on']) {
    for (const how of ['', ',preallocation=metadata']) {
      single(`data_file=disk.data${raw}${how}`, MiB + 512, (random) =>
        someWrites(random, MiB, 65_536, raw === '' ? withZeroes : plain, 6),
      );
    }
  }
}

function qcow2ContentCases(all: Collection): void {
  for (const type of ['zlib', 'zstd']) {
    for (const cluster of ['4k', '64k', '2M']) {
      const bytes = clusterOf(`cluster_size=${cluster}`);
      const size = 9 * bytes + 1024;
      const options = `compression_type=${type},cluster_size=${cluster}`;
      all.add('compressed', options, (random) => ({
        layers: [qcow2Layer('disk.qcow2', options, size, someWrites(random, size, bytes, ['write -c'], 9))],
      }));
      all.add('compressed', `${options}, partly overwritten`, (random) => ({
        layers: [
          qcow2Layer('disk.qcow2', options, size, [
            ...someWrites(random, size, bytes, ['write -c'], 9),
            ...someWrites(random, size, bytes, withZeroes, 4),
          ]),
        ],
      }));
    }
  }
  for (const options of [
    '',
    'cluster_size=512',
    'compat=0.10',
    'extended_l2=on',
    'refcount_bits=64',
    'lazy_refcounts=on',
  ]) {
    const bytes = clusterOf(options);
    all.add('snapshots', options === '' ? 'defaults' : options, (random) => {
      const size = 24 * bytes;
      const write = (count: number): string[] =>
        someWrites(random, size, bytes, options === 'compat=0.10' ? plain : withZeroes, count);
      const io = (count: number): Step => [
        'qemu-io',
        '-f',
        'qcow2',
        ...write(count).flatMap((text) => ['-c', text]),
        'disk.qcow2',
      ];
      return {
        layers: [qcow2Layer('disk.qcow2', options, size, write(6))],
        steps: [
          ['qemu-img', 'snapshot', '-c', 'one', 'disk.qcow2'],
          io(5),
          ['qemu-img', 'snapshot', '-c', 'two words', 'disk.qcow2'],
          io(5),
          ...(options === 'cluster_size=512' ? [] : [['qemu-img', 'snapshot', '-d', 'one', 'disk.qcow2'] as const]),
        ],
      };
    });
  }
  for (const [name, steps] of [
    ['one', [['qemu-img', 'bitmap', '--add', 'disk.qcow2', 'a']]],
    [
      'two, one disabled',
      [
        ['qemu-img', 'bitmap', '--add', '-g', '4k', 'disk.qcow2', 'a'],
        ['qemu-img', 'bitmap', '--add', '--disable', 'disk.qcow2', 'b b'],
      ],
    ],
  ] as const) {
    all.add('bitmaps', name, (random) => ({
      layers: [qcow2Layer('disk.qcow2', '', MiB, someWrites(random, MiB, 65_536, withZeroes, 4))],
      steps,
    }));
  }
  all.add('grown', 'by resize', (random) => ({
    layers: [qcow2Layer('disk.qcow2', 'cluster_size=4k', MiB, someWrites(random, MiB, 4096, plain, 6))],
    steps: [['qemu-img', 'resize', '-q', '-f', 'qcow2', 'disk.qcow2', '+5M']],
  }));
  all.add('shrunk', 'by resize', (random) => ({
    layers: [qcow2Layer('disk.qcow2', 'cluster_size=4k', MiB, someWrites(random, MiB, 4096, plain, 6))],
    steps: [['qemu-img', 'resize', '-q', '--shrink', '-f', 'qcow2', 'disk.qcow2', '300k']],
  }));
}

function chainCases(all: Collection): void {
  const tops = ['', 'cluster_size=4k', 'compat=0.10', 'extended_l2=on', 'cluster_size=2M'];
  for (const baseFormat of ['raw', 'qcow2'] as const) {
    for (const options of tops) {
      for (const [relation, topSize] of [
        ['as long as', MiB],
        ['longer than', MiB + 300 * KiB + 512],
        ['shorter than', 600 * KiB + 512],
      ] as const) {
        all.add(
          'chain of two',
          `${options === '' ? 'defaults' : options}, ${relation} its ${baseFormat} base`,
          (random) => {
            const baseWrites = someWrites(random, MiB, 65_536, ['write'], 8);
            const bottom =
              baseFormat === 'raw'
                ? rawLayer('base', '', MiB, baseWrites)
                : qcow2Layer('base', 'cluster_size=16k', MiB, baseWrites);
            const kinds = options === 'compat=0.10' ? plain : withZeroes;
            const top = qcow2Layer(
              'top.qcow2',
              options,
              topSize,
              someWrites(random, topSize, clusterOf(options), kinds, 5),
              over('base', baseFormat),
            );
            return { layers: [bottom, top] };
          },
        );
      }
    }
  }
  const middles = ['', 'cluster_size=512', 'extended_l2=on', 'compat=0.10'];
  for (const options of middles) {
    for (const [sizes, base, mid, top] of [
      ['growing', 300 * KiB + 512, 700 * KiB, MiB],
      ['shrinking', MiB, 700 * KiB, 300 * KiB + 512],
      ['middle short', MiB, 300 * KiB, 900 * KiB],
    ] as const) {
      all.add('chain of three', `${options === '' ? 'defaults' : options}, ${sizes}`, (random) => ({
        layers: [
          rawLayer('base', '', base, someWrites(random, base, 4096, ['write'], 8)),
          qcow2Layer(
            'mid',
            options,
            mid,
            someWrites(random, mid, clusterOf(options), options === 'compat=0.10' ? plain : withZeroes, 6),
            over('base', 'raw'),
          ),
          qcow2Layer('top.qcow2', '', top, someWrites(random, top, 65_536, withZeroes, 3), over('mid', 'qcow2')),
        ],
      }));
    }
  }
  all.add('chain of two', 'base with snapshots, compressed clusters above', (random) => ({
    layers: [
      qcow2Layer('base', '', MiB, someWrites(random, MiB, 65_536, plain, 5)),
      qcow2Layer('top.qcow2', '', MiB, someWrites(random, MiB, 65_536, ['write -c'], 4), over('base', 'qcow2')),
    ],
    steps: [['qemu-img', 'snapshot', '-c', 's', 'base']],
  }));
  all.add('chain of two', 'backing format not recorded', (random) => ({
    layers: [
      qcow2Layer('base', '', MiB, someWrites(random, MiB, 65_536, plain, 5)),
      qcow2Layer('top.qcow2', '', MiB, someWrites(random, MiB, 65_536, plain, 4), over('base', 'qcow2')),
    ],
    // the header extension of the backing format, at the end of the 112-byte header, loses its type
    steps: [['qemu-io', '-f', 'raw', '-c', 'write -q -P 0x55 112 4', 'top.qcow2']],
  }));
}

/** Bytes written over the file of a fresh 1 MiB image with 64 KiB clusters whose first three clusters are in use. */
function damageCases(all: Collection): void {
  const damage: readonly [string, readonly string[], OraclePlan['only']?][] = [
    // Refcount table at 64 KiB, its block at 128 KiB, L1 at 192 KiB, L2 at 256 KiB, data from 320 KiB.
    ['a leaked cluster', ['write -q -P 0 262152 8']],
    ['two leaked clusters', ['write -q -P 0 262144 8', 'write -q -P 0 262160 8']],
    ['a refcount of zero', ['write -q -P 0 131082 2'], ['info', 'check', 'map']],
    ['a refcount too high', ['write -q -P 3 131083 1'], ['info', 'check', 'map']],
    ['a copied bit missing', ['write -q -P 0 262144 1'], ['info', 'check', 'map']],
    ['a copied bit missing in L1', ['write -q -P 0 196608 1'], ['info', 'check', 'map']],
    ['an L2 entry beyond the file', ['write -q -P 0x7f 262148 1'], ['info', 'check']],
    ['an L2 entry that is not aligned', ['write -q -P 0x02 262150 1'], ['info', 'check']],
    ['an L1 entry that is not aligned', ['write -q -P 0x02 196614 1'], ['info', 'check']],
    ['a cluster used twice', ['write -q -P 5 262149 1', 'write -q -P 5 262157 1'], ['info', 'check', 'map']],
    // qemu-img reads what is gone as zeroes; we refuse, and say where: the map and the content are not compared.
    ['the file cut short', ['truncate 400k'], ['info', 'check']],
    ['bytes after the end', ['truncate 1M'], ['info', 'check', 'map']],
    ['an unknown compatible feature', ['write -q -P 0x40 80 1'], ['info', 'check', 'map']],
    ['an unknown autoclear feature', ['write -q -P 0x40 88 1'], ['info', 'check', 'map']],
    ['the corrupt bit', ['write -q -P 2 79 1'], ['info', 'check', 'map']],
    ['the dirty bit', ['write -q -P 1 79 1'], ['info', 'check', 'map']],
  ];
  for (const [name, writes, only] of damage) {
    all.add('damage', name, () => ({
      layers: [
        qcow2Layer('disk.qcow2', '', MiB, ['write -q -P 1 0 64k', 'write -q -P 2 64k 64k', 'write -q -P 3 128k 64k']),
      ],
      steps: [['qemu-io', '-f', 'raw', ...writes.flatMap((text) => ['-c', text]), 'disk.qcow2']],
      ...(only === undefined ? {} : { only }),
    }));
  }
}
