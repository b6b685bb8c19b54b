// What can be said when a VMDK image is created, and what it comes to.
import type { BackingReference } from '../../block/node.ts';
import type { Provision } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { OptionRow, OptionValue } from '../driver.ts';

export const subformats = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'streamOptimized',
  // ESXi's own, which qemu-img reads and does not make.
  'vmfs',
] as const;
export type Subformat = (typeof subformats)[number];

const adapters = ['ide', 'buslogic', 'lsilogic', 'legacyESX'] as const;

/** In the order of the line that create prints. */
export const optionRows: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
  {
    name: 'adapter_type',
    type: 'string',
    meaning: 'Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX',
    values: adapters,
    shown: 'given',
  },
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image', shown: 'given' },
  { name: 'backing_fmt', type: 'string', meaning: "Must be 'vmdk' if present", shown: 'given' },
  { name: 'compat6', type: 'bool', meaning: 'VMDK version 6 image', default: false, shown: 'always' },
  { name: 'hwversion', type: 'string', meaning: 'VMDK hardware version', default: 'undefined', shown: 'always' },
  { name: 'toolsversion', type: 'string', meaning: 'VMware guest tools version', shown: 'given' },
  {
    name: 'subformat',
    type: 'string',
    meaning:
      'VMDK flat extent format, can be one of ' +
      '{monolithicSparse (default) | monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ',
    values: subformats,
    shown: 'given',
  },
  {
    name: 'zeroed_grain',
    type: 'bool',
    meaning: 'Enable efficient zero writes using the zeroed-grain GTE feature',
    shown: 'given',
  },
  {
    name: 'cid',
    type: 'string',
    meaning: 'Content identifier, eight hexadecimal digits',
    shown: 'given',
    hidden: true,
  },
  { name: 'uuid', type: 'string', meaning: 'UUID of the disk', shown: 'given', hidden: true },
];

export interface VmdkOptions {
  readonly subformat: Subformat;
  readonly flat: boolean;
  readonly split: boolean;
  readonly adapter: string;
  readonly hardwareVersion: string;
  readonly toolsVersion: string;
  readonly zeroedGrains: boolean;
  readonly preallocation: Provision | null;
  /** The content identifier to write; null: a fresh one. */
  readonly cid: number | null;
  /** The UUID to write; null: none. */
  readonly uuid: string | null;
}

function oneOf<T extends string>(value: OptionValue | undefined, allowed: readonly T[], fallback: T): T {
  if (value === undefined) return fallback;
  const found = allowed.find((name) => name === value);
  if (found === undefined) throw new ImageError('vmdk/option', { value: String(value) });
  return found;
}

/** Texts that go between quotes in the descriptor. */
function quotable(value: OptionValue | undefined, fallback: string): string {
  const text = value === undefined ? fallback : String(value);
  if (/["\r\n\0]/.test(text)) throw new ImageError('vmdk/option', { value: text });
  return text;
}

/** Checks the options against each other. Throws `vmdk/option`, `vmdk/compat6`, `vmdk/flat-*`, `vmdk/backing-format`. */
export function readCreateOptions(
  options: Readonly<Record<string, OptionValue>>,
  backing: BackingReference | null,
): VmdkOptions {
  const backingFormat = backing?.format ?? options.backing_fmt;
  if (backingFormat !== undefined && backingFormat !== 'vmdk') throw new ImageError('vmdk/backing-format');
  const adapter = oneOf(options.adapter_type, adapters, 'ide');
  const subformat = oneOf(options.subformat, subformats, 'monolithicSparse');
  const stated = options.hwversion === undefined || options.hwversion === 'undefined' ? undefined : options.hwversion;
  if (options.compat6 === true && stated !== undefined) throw new ImageError('vmdk/compat6');
  const flat = ['monolithicFlat', 'twoGbMaxExtentFlat', 'vmfs'].includes(subformat);
  if (flat && backing !== null) throw new ImageError('vmdk/flat-backing');
  if (flat && options.zeroed_grain === true) throw new ImageError('vmdk/flat-zeroed');
  const preallocation = oneOf(options.preallocation, ['off', 'falloc', 'full'], 'off');
  return {
    subformat,
    flat,
    split: subformat.startsWith('twoGb'),
    adapter,
    hardwareVersion: quotable(stated, options.compat6 === true ? '6' : '4'),
    toolsVersion: quotable(options.toolsversion, '2147483647'),
    zeroedGrains: options.zeroed_grain === true,
    preallocation: preallocation === 'off' ? null : preallocation,
    cid: readCid(options.cid),
    uuid: readUuid(options.uuid),
  };
}

function readCid(value: OptionValue | undefined): number | null {
  if (value === undefined) return null;
  if (typeof value !== 'string' || !/^[0-9a-fA-F]{8}$/.test(value)) {
    throw new ImageError('vmdk/option', { value: String(value) });
  }
  return Number.parseInt(value, 16);
}

function readUuid(value: OptionValue | undefined): string | null {
  if (value === undefined) return null;
  const text = typeof value === 'string' ? value.toLowerCase() : '';
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text))
    throw new ImageError('vmdk/option', { value: String(value) });
  return text;
}
