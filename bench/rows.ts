// The rows of the benchmark: what is measured, and the target it is held against.
import type { Material } from './material.ts';

export interface Row {
  readonly name: string;
  /** The ratio to reach, as performance.md states it. */
  readonly target: string;
  readonly args: (material: Material, out: string) => readonly string[];
  /** Where qemu-img needs other arguments for the same work. */
  readonly theirArgs?: (material: Material, out: string) => readonly string[];
}

const stream = 'subformat=streamOptimized';

/** The formats beside raw and qcow2, both ways. */
const otherFormats: readonly Row[] = [
  ...(
    [
      ['vhd', 'vpc'],
      ['vhdx', 'vhdx'],
      ['vmdk', 'vmdk'],
      ['vdi', 'vdi'],
    ] as const
  ).flatMap(([name, format]): Row[] => [
    { name: `raw → ${name}`, target: '≤ 0.9', args: (m, out) => ['convert', '-O', format, m.raw, out] },
    { name: `${name} → raw`, target: '≤ 0.9', args: (m, out) => ['convert', '-O', 'raw', m[format], out] },
  ]),
  {
    name: 'raw → streamOptimized vmdk',
    target: '≤ 220 MiB',
    args: (m, out) => ['convert', '-O', 'vmdk', '-o', stream, m.raw, out],
  },
  {
    name: 'streamOptimized vmdk → raw',
    target: '≤ 0.7, ≤ 220 MiB',
    args: (m, out) => ['convert', '-O', 'raw', m.stream, out],
  },
  { name: 'qcow → raw', target: '≤ 0.9', args: (m, out) => ['convert', '-O', 'raw', m.qcow, out] },
];

export const rows: readonly Row[] = [
  { name: 'raw → raw', target: '≤ 0.9', args: (m, out) => ['convert', '-O', 'raw', m.raw, out] },
  { name: 'raw → qcow2', target: '≤ 0.9', args: (m, out) => ['convert', '-O', 'qcow2', m.raw, out] },
  { name: 'qcow2 → raw', target: '≤ 0.9', args: (m, out) => ['convert', '-O', 'raw', m.qcow2, out] },
  { name: 'qcow2 → qcow2', target: '≤ 0.9', args: (m, out) => ['convert', '-O', 'qcow2', m.qcow2, out] },
  {
    name: 'raw → qcow2 -c (zlib)',
    target: '≤ 0.35',
    args: (m, out) => ['convert', '-c', '-O', 'qcow2', m.raw, out],
  },
  {
    name: 'raw → qcow2 -c (zstd)',
    target: '≤ 0.6',
    args: (m, out) => ['convert', '-c', '-O', 'qcow2', '-o', 'compression_type=zstd', m.raw, out],
  },
  { name: 'compressed qcow2 → raw', target: '≤ 0.7', args: (m, out) => ['convert', '-O', 'raw', m.zlib, out] },
  ...otherFormats,
  { name: 'check, full 1 TiB qcow2', target: '≤ 0.6', args: (m) => ['check', m.full] },
  { name: 'map, full 1 TiB qcow2', target: '≤ 0.5', args: (m) => ['map', '--output=json', m.full] },
  { name: 'compare identical qcow2', target: '≤ 1.0', args: (m) => ['compare', m.qcow2, m.copy] },
  {
    name: 'convert empty 64 TiB qcow2',
    target: '≤ 1.0',
    args: (m, out) => ['convert', '-O', 'qcow2', m.empty, out],
  },
  { name: 'info, small qcow2', target: '≤ 120 ms', args: (m) => ['info', m.small] },
];
