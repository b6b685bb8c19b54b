// What a finding says in English, from its kind, what was found and what is expected.
import type { DemandKind, Rule } from './profile.ts';

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `1 MiB`, `2040 GiB`, `10514432 bytes`: in the largest unit that says it exactly. */
export function exactSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (unit < units.length - 1 && value >= 1024 && value % 1024 === 0) {
    value /= 1024;
    unit++;
  }
  return `${value} ${units[unit]}`;
}

const size = (value: string | number | null): string => (typeof value === 'number' ? exactSize(value) : `${value}`);

const sentences: Readonly<Record<DemandKind, (found: string | number | null, expected: string | number) => string>> = {
  format: (found, expected) => `it is ${found}; taken: ${expected}`,
  'size-multiple': (found, expected) => `the disk has ${size(found)}, not a multiple of ${size(expected)}`,
  'size-least': (found, expected) => `the disk has ${size(found)}, at least ${size(expected)} are needed`,
  'size-most': (found, expected) => `the disk has ${size(found)}, at most ${size(expected)} are taken`,
  'file-most': (found, expected) => `the file has ${size(found)}, at most ${size(expected)} are taken`,
  'exact-size': (found, expected) =>
    `the footer says ${size(found)}, the disk by its geometry has ${size(expected)}: the platform would see another size`,
  'no-backing': (found) => `it is an overlay over ${found}, which would be missing`,
  'no-data-file': (found) => `its data lies in another file, ${found}`,
  'no-guest-encryption': (found) => `a volume in the guest is encrypted (${found})`,
  adapter: (found, expected) => `its adapter is ${found ?? 'not stated'}; better: ${expected}`,
  'not-sparse': () => 'the file is sparse or compressed on this volume',
  firmware: (found, expected) =>
    expected === 'uefi'
      ? `it has no EFI system partition (partition table: ${found}): a machine would not start from it`
      : `its partition table is made for UEFI (${found}): a machine with a BIOS would not start from it`,
  partitioned: (found) => `it has no partition table (${found ?? 'no file system either'})`,
  'table-reaches': (found, expected) =>
    `the disk has ${size(found)}, and its MBR reaches no further than ${size(expected)}`,
  'file-system': (found, expected) => `the disk holds ${found ?? 'nothing known'}, not one ${expected} over all of it`,
  'file-name': (found, expected) => `it is called ${found}, not ${expected}`,
};

/** A sentence without a full stop. */
export function demandText(
  kind: DemandKind,
  found: string | number | null,
  expected: string | number,
  severity: Rule['severity'],
): string {
  if (kind === 'format' && severity === 'warns') return `it is ${found}; better: ${expected}`;
  return sentences[kind](found, expected);
}
