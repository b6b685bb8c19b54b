// What a convert for a platform makes: format, options, size and name, and what cannot be helped.
import path from 'node:path';
import { alignUp } from '../block/units.ts';
import { ImageError } from '../errors/image-error.ts';
import type { OptionValue } from '../formats/driver.ts';
import { createDriverNamed } from '../formats/registry.ts';
import type { DiskFacts } from './disk-facts.ts';
import type { Demand, Profile } from './profile.ts';
import { exactSize } from './sentences.ts';

/** Plain data: the parameters of a convert. */
export interface ProfilePlan {
  readonly profile: string;
  readonly format: string;
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly archivedAs: string | null;
  /** Bytes of the new disk, and how many of them are zeroes behind the old one. */
  readonly size: number;
  readonly grownBy: number;
  /** Beside the source. */
  readonly target: string;
  /** Why the result would be refused all the same; null: it fits. */
  readonly obstacle: string | null;
}

/** The plan for an image. `isTaken`: there is a file of that name already, which is not proposed. */
export function planFor(
  profile: Profile,
  facts: DiskFacts,
  isTaken: (name: string) => boolean = () => false,
): ProfilePlan {
  const { target } = profile;
  const size = sizeFor(profile, facts.virtualSize);
  return {
    profile: profile.id,
    format: target.format,
    options: target.options,
    archivedAs: target.archivedAs,
    size,
    grownBy: size - facts.virtualSize,
    target: proposedTarget(profile, facts.path, isTaken),
    obstacle: obstacleOf(profile, facts, size),
  };
}

const demandsOf = <Kind extends Demand['kind']>(
  { rules, target }: Profile,
  kind: Kind,
  format: string = target.format,
): Extract<Demand, { kind: Kind }>[] =>
  rules.flatMap(({ severity, onlyFor, demand }) =>
    severity === 'refuses' && demand.kind === kind && (onlyFor === undefined || onlyFor === format)
      ? [demand as Extract<Demand, { kind: Kind }>]
      : [],
  );

/** The size that the profile's rules ask for, not below `size` bytes; whole sectors. */
export function sizeFor(profile: Profile, size: number): number {
  const least = Math.max(size, ...demandsOf(profile, 'size-least').map(({ bytes }) => bytes));
  const steps = demandsOf(profile, 'size-multiple').map(({ of }) => of);
  return steps.reduce((aligned, step) => alignUp(Math.max(aligned, 1), step), alignUp(least, 512));
}

/** The largest disk that the profile takes in `format`; null: the rules name no limit. */
function largestIn(profile: Profile, format: string): number | null {
  const limits = demandsOf(profile, 'size-most', format).map(({ bytes }) => bytes);
  return limits.length === 0 ? null : Math.min(...limits);
}

function obstacleOf(profile: Profile, facts: DiskFacts, size: number): string | null {
  const largest = largestIn(profile, profile.target.format);
  if (largest !== null && size > largest) {
    return `the disk has ${exactSize(size)}, at most ${exactSize(largest)} are taken`;
  }
  const sealed = facts.guest?.kinds.find((kind) => kind === 'LUKS' || kind === 'BitLocker');
  if (sealed !== undefined && demandsOf(profile, 'no-guest-encryption').length > 0) {
    return `a volume in the guest is encrypted (${sealed})`;
  }
  const [wanted] = demandsOf(profile, 'file-system');
  if (wanted !== undefined && facts.guest !== null && facts.guest.wholeDisk !== wanted.fileSystem) {
    return `the disk does not hold one ${wanted.fileSystem} over all of it`;
  }
  return null;
}

/** A name beside the source that is neither the source's own nor that of another file. */
function proposedTarget({ id, target }: Profile, source: string, isTaken: (name: string) => boolean): string {
  const folder = path.dirname(source);
  const stem = path.basename(source, path.extname(source));
  const named = (mark: string): string => path.join(folder, `${stem}${mark}.${target.extension}`);
  const marks = ['', `-${id}`, ...Array.from({ length: 98 }, (_, index) => `-${id}-${index + 2}`)];
  return marks.map(named).find((name) => name !== source && !isTaken(name)) ?? named(`-${id}`);
}

/** What one asks of a convert besides the profile: what is given wins over the profile's own. */
export interface Asked {
  /** Null: the profile's. */
  readonly format: string | null;
  readonly options: Readonly<Record<string, OptionValue>>;
}

/** What a convert of `size` bytes for the profile is to be made with. */
export interface Chosen {
  readonly format: string;
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly archivedAs: string | null;
}

/**
 * The profile's format and options with what was asked for over them, and the size rounded up. Throws `profile/option` where the platform
 * would refuse that, `profile/too-large` where the disk is beyond its limits, `format/unknown-output`.
 */
export function chooseFor(profile: Profile, sourceSize: number, asked: Asked): Chosen {
  const format = createDriverNamed(asked.format ?? profile.target.format).id;
  const own = format === profile.target.format;
  const options: Record<string, OptionValue> = { ...(own ? profile.target.options : {}), ...asked.options };
  const { size: wanted, ...rest } = options;
  const size = sizeFor(profile, Math.max(sourceSize, typeof wanted === 'number' ? wanted : 0));
  refuseUntaken(profile, format, rest);
  const largest = largestIn(profile, format);
  if (largest !== null && size > largest) {
    throw new ImageError('profile/too-large', { found: size, allowed: largest, label: profile.label });
  }
  const needsSize = size !== sourceSize || wanted !== undefined;
  return {
    format,
    options: needsSize ? { ...rest, size } : rest,
    archivedAs: own ? profile.target.archivedAs : null,
  };
}

/** The kinds of image that creation options lead to, as `subformat` of `DiskFacts` spells them. */
function subformatFrom(format: string, options: Readonly<Record<string, OptionValue>>): string | null {
  switch (format) {
    case 'vpc':
    case 'vhdx':
      return String(options.subformat ?? 'dynamic');
    case 'vmdk':
      return String(options.subformat ?? 'monolithicSparse');
    case 'vdi':
      return options.static === true ? 'static' : 'dynamic';
    default:
      return null;
  }
}

function refuseUntaken(profile: Profile, format: string, options: Readonly<Record<string, OptionValue>>): void {
  const subformat = subformatFrom(format, options);
  for (const { taken } of demandsOf(profile, 'format', format)) {
    const fits = taken.some(
      (one) => one.format === format && (one.subformats === undefined || one.subformats.includes(subformat ?? '')),
    );
    if (fits) continue;
    const reason = `it does not take ${format}${subformat === null ? '' : ` ${subformat}`}`;
    throw new ImageError('profile/option', { label: profile.label, reason });
  }
  const exact = demandsOf(profile, 'exact-size', format).length > 0;
  if (exact && options.force_size !== true) {
    throw new ImageError('profile/option', { label: profile.label, reason: 'force_size is off' });
  }
}
