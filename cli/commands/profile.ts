// platter profile: what platforms demand of an image, and what each would say of this one.
import type { OpenOptions } from '../../core/formats/open.ts';
import { createDriverNamed, driverNamed } from '../../core/formats/registry.ts';
import { silentJob } from '../../core/job.ts';
import type { DiskFacts } from '../../core/profiles/disk-facts.ts';
import type { Demand, Profile, Rule } from '../../core/profiles/profile.ts';
import { profileNamed, profiles } from '../../core/profiles/profiles.ts';
import { exactSize } from '../../core/profiles/sentences.ts';
import { checkImage, showTaken, type Fix, type ProfileVerdict } from '../../core/profiles/verdict.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { describeOptions } from '../create-options.ts';
import { diskOf, nameImage } from '../image-options.ts';
import { inOrder } from '../json.ts';
import { programName } from '../level.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine, UsageError } from '../print.ts';
import { table } from '../table.ts';

export const spec = defineCommand({
  name: 'profile',
  summary: 'say what platforms (Azure, ESXi, Hyper-V, …) would refuse of an image, and why: list, show, check',
  operands: 'list | show NAME | check FILE',
  options: {
    profile: {
      long: ['profile'],
      argument: 'NAME|all',
      meaning: 'check: the platform that is asked (default: all); may be given several times',
    },
    format: sharedOptions.format,
    disk: sharedOptions.disk,
    imageOpts: sharedOptions.imageOpts,
    share: sharedOptions.share,
    output: sharedOptions.output,
    object: sharedOptions.object,
  },
  notes: [
    'Each rule names the public document that it comes from (show, docs/profiles.md). Rules about the guest (its partitions and file ' +
      'systems) need its disk to be readable; those that could not be looked at are named.',
    'Exit codes of check: 0 every platform named with --profile takes the image (there may be warnings), or none was named; 1 the image ' +
      'could not be looked at; 2 one that was named refuses it.',
  ],
  examples: [
    ['profile list', 'the platforms'],
    ['profile show azure', 'its rules, and where they are written down'],
    ['profile check disk.qcow2', 'what each would say, and what helps'],
    ['profile check --profile azure --output json disk.vhd', 'for scripts'],
    ['convert --profile azure disk.qcow2 disk.vhd', 'make what Azure takes'],
  ],
});

type Args = Arguments<keyof typeof spec.options>;

export async function run(args: Args): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const [verb = 'list', ...operands] = args.operands;
  switch (verb) {
    case 'list':
      expectOperands(operands, 0);
      printList(output);
      return 0;
    case 'show':
      expectOperands(operands, 1);
      printOne(profileNamed(operands[0] ?? ''), output);
      return 0;
    case 'check':
      expectOperands(operands, 1);
      return await check(args, operands[0] ?? '', output);
    default:
      throw new UsageError(`Unknown action '${verb}' (expecting list, show or check)`, spec.name);
  }
}

function expectOperands(operands: readonly string[], count: number): void {
  if (operands.length < count) throw new UsageError('Not enough arguments', spec.name);
  const extra = operands[count];
  if (extra !== undefined) throw new UsageError(`Unexpected argument '${extra}'`, spec.name);
}

function printList(output: 'human' | 'json'): void {
  if (output === 'json') {
    outLine(inOrder(profiles));
    return;
  }
  const rows = profiles.map(({ id, label, target, rules }) => [
    id,
    `${target.format}${target.archivedAs === null ? '' : ` in ${target.extension}`}`,
    String(rules.length),
    label,
  ]);
  for (const line of table(['NAME', 'CONVERT MAKES', 'RULES', 'PLATFORM'], rows)) outLine(line);
}

function printOne(profile: Profile, output: 'human' | 'json'): void {
  if (output === 'json') {
    outLine(inOrder(profile));
    return;
  }
  const { id, label, target, rules } = profile;
  const options = describeOptions(createDriverNamed(target.format), target.options);
  outLine(`profile: ${id}`);
  outLine(`platform: ${label}`);
  outLine(`convert makes: ${target.format}${options === '' ? '' : ` (${options})`}`);
  if (target.archivedAs !== null) outLine(`put into: a ${target.extension}, as ${target.archivedAs}`);
  outLine('rules:');
  for (const rule of rules) {
    outLine(`    ${rule.id}: ${rule.severity} unless ${demanded(rule)}`);
    outLine(`        ${rule.source.title}`);
    outLine(`        ${rule.source.url}`);
  }
}

/** What a rule asks for, as the end of a sentence. */
function demanded({ demand, onlyFor }: Rule): string {
  const text = demandedText(demand);
  return onlyFor === undefined ? text : `${text} (${driverNamed(onlyFor).label} only)`;
}

function demandedText(demand: Demand): string {
  switch (demand.kind) {
    case 'format':
      return `it is ${demand.taken.map(showTaken).join(', ')}`;
    case 'size-multiple':
      return `the disk is a multiple of ${exactSize(demand.of)}`;
    case 'size-least':
      return `the disk has at least ${exactSize(demand.bytes)}`;
    case 'size-most':
      return `the disk has at most ${exactSize(demand.bytes)}`;
    case 'file-most':
      return `the file has at most ${exactSize(demand.bytes)}`;
    case 'exact-size':
      return 'its footer and its geometry say the same size';
    case 'no-backing':
      return 'it stands alone';
    case 'no-data-file':
      return 'its data lies in its own file';
    case 'no-guest-encryption':
      return 'no volume in the guest is encrypted';
    case 'adapter':
      return `its adapter is one of ${demand.allowed.join(', ')}`;
    case 'not-sparse':
      return 'its file is neither sparse nor compressed (looked at on Windows)';
    case 'firmware':
      return demand.firmware === 'uefi' ? 'it has an EFI system partition' : 'a BIOS can start from it';
    case 'partitioned':
      return 'it has a partition table';
    case 'table-reaches':
      return 'its partition table reaches to the end of the disk';
    case 'file-system':
      return `the whole disk is one ${demand.fileSystem}`;
    case 'file-name':
      return `it is called ${demand.name}`;
  }
}

async function check(args: Args, name: string, output: 'human' | 'json'): Promise<number> {
  const asked = args.all('profile').filter((id) => id !== 'all');
  const wanted = asked.length === 0 || args.all('profile').includes('all') ? profiles : asked.map(profileNamed);
  const image = nameImage(name, {
    format: args.last('format'),
    disk: diskOf(args.all('disk'), 0),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    secret: secretSource(readObjects(args.all('object'))),
  });
  const report = await look(image.name, image.path, image.options, wanted);
  const { facts, verdicts } = report;
  if (output === 'json') outLine(inOrder(report));
  else {
    outLine(`image: ${name}`);
    if (facts.guestProblem !== null) outLine(`the disk could not be looked into: ${facts.guestProblem}`);
    for (const verdict of verdicts) printVerdict(verdict, name, facts);
  }
  return asked.length > 0 && verdicts.some(({ outcome }) => outcome === 'refuses') ? 2 : 0;
}

async function look(name: string, path: string, options: OpenOptions, wanted: readonly Profile[]) {
  try {
    return await checkImage(path, options, wanted, silentJob);
  } catch (error) {
    throw openFailure(name, error);
  }
}

const outcomes: Readonly<Record<ProfileVerdict['outcome'], string>> = {
  fits: 'takes it',
  warns: 'takes it, with warnings',
  refuses: 'refuses it',
};

function printVerdict(verdict: ProfileVerdict, image: string, facts: DiskFacts): void {
  const { label, outcome, findings, notChecked, plan } = verdict;
  outLine(`${label}: ${outcomes[outcome]}`);
  for (const { severity, text, rule } of findings) {
    outLine(`    ${severity === 'warns' ? 'warning: ' : ''}${text} [${rule}]`);
  }
  const lines = new Set(findings.flatMap(({ fix }) => (fix === null ? [] : [fixLine(fix, image, plan.target, facts)])));
  for (const line of lines) outLine(`    fix: ${line}`);
  if (findings.length > 0 && plan.obstacle !== null) outLine(`    a convert would not help: ${plan.obstacle}`);
  if (notChecked.length > 0) outLine(`    not looked at: ${notChecked.join(', ')}`);
}

function fixLine(fix: Fix, image: string, target: string, { guest }: DiskFacts): string {
  switch (fix.kind) {
    case 'convert':
      return `${programName} convert --profile ${fix.profile} ${quoted(image)} ${quoted(target)}`;
    case 'resize':
      return `${programName} resize ${guest?.table === 'gpt' ? '--fix-gpt ' : ''}${quoted(image)} ${fix.bytes}`;
  }
}

/** A word as a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
