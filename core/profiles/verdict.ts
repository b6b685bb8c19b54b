// What a platform would say of an image: every rule of its profile held against the facts, with what helps.
import path from 'node:path';
import { identityOfName } from '../block/host/opening.ts';
import { TiB } from '../block/units.ts';
import type { Job } from '../job.ts';
import type { OpenOptions } from '../formats/open.ts';
import { driverNamed } from '../formats/registry.ts';
import { readDiskFacts, type DiskFacts, type GuestFacts } from './disk-facts.ts';
import { planFor, sizeFor, type ProfilePlan } from './plan.ts';
import type { Demand, DemandKind, Profile, Rule, RuleSource, TakenFormat } from './profile.ts';
import { demandText } from './sentences.ts';

/** What puts a finding right: another image, or another size of this one. */
export type Fix =
  { readonly kind: 'convert'; readonly profile: string } | { readonly kind: 'resize'; readonly bytes: number };

/** A rule that the image does not meet. */
export interface ProfileFinding {
  readonly rule: string;
  readonly severity: Rule['severity'];
  readonly kind: DemandKind;
  /** Bytes where the kind speaks of sizes; null: there is none, or it is not known. */
  readonly found: string | number | null;
  readonly expected: string | number;
  /** The two as an English sentence. */
  readonly text: string;
  /** Null: nothing that Platter does to the image helps; it is the guest that has to change. */
  readonly fix: Fix | null;
  readonly source: RuleSource;
}

export interface ProfileVerdict {
  readonly profile: string;
  readonly label: string;
  /** `fits`: nothing to say; `warns`: it will be taken; `refuses`: it will not. */
  readonly outcome: 'fits' | 'warns' | 'refuses';
  readonly findings: readonly ProfileFinding[];
  /** Rules that could not be looked at, because the guest's disk could not be read. */
  readonly notChecked: readonly string[];
  /** What a convert for the platform would make of the image. */
  readonly plan: ProfilePlan;
}

/** Looks at the image at `path` and holds it against `profiles`. Throws what opening the image throws. */
export async function checkImage(
  file: string,
  options: OpenOptions,
  profiles: readonly Profile[],
  job: Job,
): Promise<{ readonly facts: DiskFacts; readonly verdicts: readonly ProfileVerdict[] }> {
  const facts = await readDiskFacts(file, options, job);
  return { facts, verdicts: profiles.map((profile) => judge(facts, profile, isThere)) };
}

const isThere = (name: string): boolean => identityOfName(name) !== null;

/** Holds `facts` against the rules of `profile`. `isTaken`: there is a file of that name already. */
export function judge(
  facts: DiskFacts,
  profile: Profile,
  isTaken: (name: string) => boolean = () => false,
): ProfileVerdict {
  const findings: ProfileFinding[] = [];
  const notChecked: string[] = [];
  for (const rule of profile.rules) {
    if (rule.onlyFor !== undefined && rule.onlyFor !== facts.format) continue;
    // Where the platform refuses, a milder word on the same subject says nothing new.
    if (rule.severity === 'warns' && findings.some(({ kind }) => kind === rule.demand.kind)) continue;
    const miss = lookAt(rule.demand, facts);
    if (miss === 'unknown') notChecked.push(rule.id);
    else if (miss !== null) findings.push(findingOf(rule, miss, facts, profile));
  }
  const outcome = findings.some(({ severity }) => severity === 'refuses')
    ? 'refuses'
    : findings.length > 0
      ? 'warns'
      : 'fits';
  return {
    profile: profile.id,
    label: profile.label,
    outcome,
    findings,
    notChecked,
    plan: planFor(profile, facts, isTaken),
  };
}

interface Miss {
  readonly found: string | number | null;
  readonly expected: string | number;
}

const needsGuest = (facts: DiskFacts, look: (guest: GuestFacts) => Miss | null): Miss | null | 'unknown' =>
  facts.guest === null ? 'unknown' : look(facts.guest);

/** Null: the demand is met (or says nothing about this image). */
function lookAt(demand: Demand, facts: DiskFacts): Miss | null | 'unknown' {
  const { virtualSize: size } = facts;
  switch (demand.kind) {
    case 'format': {
      const met = demand.taken.some((taken) => takes(taken, facts));
      return met
        ? null
        : { found: kindOf(facts.format, facts.subformat), expected: demand.taken.map(showTaken).join(', ') };
    }
    case 'size-multiple':
      return size % demand.of === 0 && size > 0 ? null : { found: size, expected: demand.of };
    case 'size-least':
      return size >= demand.bytes ? null : { found: size, expected: demand.bytes };
    case 'size-most':
      return size <= demand.bytes ? null : { found: size, expected: demand.bytes };
    case 'file-most':
      return facts.fileLength <= demand.bytes ? null : { found: facts.fileLength, expected: demand.bytes };
    case 'exact-size':
      return facts.currentSize === null || facts.currentSize === size
        ? null
        : { found: facts.currentSize, expected: size };
    case 'no-backing':
      return facts.backing === null ? null : { found: facts.backing, expected: 'none' };
    case 'no-data-file':
      return facts.dataFile === null ? null : { found: facts.dataFile, expected: 'none' };
    case 'adapter':
      return facts.adapter !== null && demand.allowed.includes(facts.adapter)
        ? null
        : { found: facts.adapter, expected: demand.allowed.join(', ') };
    case 'not-sparse':
      return facts.sparse === true ? { found: 'sparse', expected: 'none' } : null;
    case 'file-name': {
      const name = path.basename(facts.path);
      return name === demand.name ? null : { found: name, expected: demand.name };
    }
    case 'no-guest-encryption':
    case 'firmware':
    case 'partitioned':
    case 'table-reaches':
    case 'file-system':
      return needsGuest(facts, (guest) => lookInGuest(demand, guest, size));
  }
}

/** Volumes whose content is sealed. */
const sealed: readonly string[] = ['LUKS', 'BitLocker'];

type GuestDemand = Extract<
  Demand,
  { kind: 'no-guest-encryption' | 'firmware' | 'partitioned' | 'table-reaches' | 'file-system' }
>;

function lookInGuest(demand: GuestDemand, guest: GuestFacts, size: number): Miss | null {
  switch (demand.kind) {
    case 'no-guest-encryption': {
      const found = guest.kinds.filter((kind) => sealed.includes(kind));
      return found.length === 0 ? null : { found: found.join(', '), expected: 'none' };
    }
    case 'partitioned':
      return guest.table !== null || guest.blank ? null : { found: guest.wholeDisk, expected: 'mbr, gpt' };
    case 'firmware':
      return guest.blank || starts(guest, demand.firmware)
        ? null
        : { found: tableOf(guest), expected: demand.firmware };
    case 'table-reaches':
      return guest.table === 'mbr' && size > 2 * TiB ? { found: size, expected: 2 * TiB } : null;
    case 'file-system':
      return guest.wholeDisk === demand.fileSystem
        ? null
        : { found: guest.wholeDisk ?? guest.table, expected: demand.fileSystem };
  }
}

/** UEFI starts from an EFI system partition; a BIOS cannot read a GPT that has nothing but one. */
function starts(guest: GuestFacts, firmware: 'bios' | 'uefi'): boolean {
  return firmware === 'uefi' ? guest.efiSystemPartition : guest.table !== 'gpt' || !guest.efiSystemPartition;
}

function tableOf({ table, efiSystemPartition }: GuestFacts): string {
  return `${table ?? 'none'}${efiSystemPartition ? ' + efi' : ''}`;
}

function takes({ format, subformats }: TakenFormat, facts: DiskFacts): boolean {
  return format === facts.format && (subformats === undefined || subformats.includes(facts.subformat ?? ''));
}

function kindOf(format: string, subformat: string | null): string {
  const { label } = driverNamed(format);
  return subformat === null ? label : `${label} ${subformat}`;
}

/** `VHD (fixed)`, `VHDX`. */
export function showTaken({ format, subformats }: TakenFormat): string {
  const { label } = driverNamed(format);
  return subformats === undefined ? label : `${label} (${subformats.join(', ')})`;
}

function findingOf(rule: Rule, miss: Miss, facts: DiskFacts, profile: Profile): ProfileFinding {
  const { kind } = rule.demand;
  return {
    rule: rule.id,
    severity: rule.severity,
    kind,
    ...miss,
    text: demandText(kind, miss.found, miss.expected, rule.severity),
    fix: fixOf(rule, facts, profile),
    source: rule.source,
  };
}

/** Kinds that a convert for the platform puts right. */
const converted: readonly DemandKind[] = [
  'format',
  'exact-size',
  'no-backing',
  'no-data-file',
  'adapter',
  'not-sparse',
  'file-name',
];

function fixOf({ demand }: Rule, facts: DiskFacts, profile: Profile): Fix | null {
  const convert: Fix = { kind: 'convert', profile: profile.id };
  if (converted.includes(demand.kind)) return convert;
  if (demand.kind !== 'size-multiple' && demand.kind !== 'size-least') return null;
  return canStay(facts, profile) ? { kind: 'resize', bytes: sizeFor(profile, facts.virtualSize) } : convert;
}

/** The image has the platform's kind already: another size is all that it needs. */
function canStay(facts: DiskFacts, { target, rules }: Profile): boolean {
  if (target.archivedAs !== null || facts.sizedByGeometry || facts.backing !== null) return false;
  return rules.every(
    ({ demand, onlyFor = facts.format }) =>
      demand.kind !== 'format' || onlyFor !== facts.format || demand.taken.some((taken) => takes(taken, facts)),
  );
}
