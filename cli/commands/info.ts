// platter info.
import type { FactTree, FactValue, SnapshotFacts } from '../../core/formats/driver.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import { info, type FileInfo, type ImageInfo } from '../../core/operations/info.ts';
import { defineCommand, sharedOptions, type Arguments } from '../args.ts';
import { nameImage, type NamedImage } from '../image-options.ts';
import { inDictionaryOrder, prettyJson, type Json } from '../json.ts';
import { actsAsQemuImg, isLevel10 } from '../level.ts';
import { localTime } from '../local-time.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, outLine, UsageError } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { readOutput } from '../args.ts';
import { humanSize } from '../size.ts';

export const spec = defineCommand({
  name: 'info',
  summary: 'say what an image is',
  operands: 'FILE',
  options: {
    format: sharedOptions.format,
    output: sharedOptions.output,
    chain: { long: ['backing-chain'], meaning: 'every layer of the chain, the image itself first' },
    share: sharedOptions.share,
    disk: sharedOptions.disk,
    imageOpts: sharedOptions.imageOpts,
    object: sharedOptions.object,
    progress: sharedOptions.progress,
  },
  notes: [
    'The layers below are not opened without --backing-chain: an image whose base is gone can still be looked at.',
    'Facts beyond those of qemu-img stand under the key "platter" of the JSON (not when we are called qemu-img).',
  ],
  examples: [
    ['info disk.qcow2', 'format, sizes, snapshots and features'],
    ['info --backing-chain --output=json clone.qcow2', 'the whole chain for a script'],
  ],
});

export async function run(args: Arguments<keyof typeof spec.options>): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const secret = secretSource(readObjects(args.all('object')));
  const file = args.operands[0];
  if (file === undefined || args.operands.length > 1) {
    throw new UsageError('Expecting one image file name', spec.name);
  }
  const named = nameImage(file, {
    format: args.last('format'),
    disk: args.last('disk'),
    imageOpts: args.has('imageOpts'),
    share: args.has('share'),
    secret,
  });
  const job = startJob({ lines: wantsLines(args) });
  const images = await info({ path: named.path, options: named.options, chain: args.has('chain') }, job.job).catch(
    (error: unknown) => {
      throw nameTop(error, named);
    },
  );
  if (output === 'json') {
    const list = images.map((image, index) => toJson(image, index === 0 ? named.shownAs : image.path));
    outLine(prettyJson(args.has('chain') ? list : (list[0] ?? null)));
  } else {
    for (const [index, image] of images.entries()) {
      if (index > 0) outLine();
      printHuman(image, index === 0 ? named.shownAs : image.path);
    }
  }
  return 0;
}

/** The image itself goes by the name that it was given, not by the path in its description. */
function nameTop(error: unknown, named: NamedImage): unknown {
  if (!(error instanceof ImageError) || error.code !== 'info/layer' || error.detail.name !== named.path) return error;
  return new ImageError('info/layer', { ...error.detail, name: named.name }, error.where, error.cause);
}

/** In qemu-img's keys. */
function toJson(image: ImageInfo, shownAs: string): Json {
  const { backing, specific, snapshots } = image;
  return {
    ...(isLevel10 ? { children: children(image).map(childJson) } : {}),
    ...(backing === null || backing.format === null ? {} : { 'backing-filename-format': backing.format }),
    ...(snapshots.length === 0 ? {} : { snapshots: snapshots.map(snapshotJson) }),
    'virtual-size': image.virtualSize,
    filename: shownAs,
    ...(image.clusterSize === null ? {} : { 'cluster-size': image.clusterSize }),
    format: image.format,
    'actual-size': image.diskSize,
    ...(specific === null ? {} : { 'format-specific': { type: specific.type, data: dashed(specific.data) } }),
    ...(backing === null ? {} : { 'full-backing-filename': backing.fullPath, 'backing-filename': backing.path }),
    ...(image.encrypted ? { encrypted: true } : {}),
    'dirty-flag': image.dirty,
    ...(actsAsQemuImg ? {} : furtherJson(image)),
  };
}

/** Facts that qemu-img does not print. */
function furtherJson({ further, undo }: ImageInfo): Record<string, Json> {
  if (further === null && undo === null) return {};
  const last =
    undo === null ? {} : { undo: { verb: undo.verb, description: undo.command, time: Math.floor(undo.time / 1000) } };
  return { platter: { ...(further === null ? {} : dashedFacts(further)), ...last } };
}

/** The files that qemu-img opens to describe an image: not an external data file. */
function children(image: ImageInfo): FileInfo[] {
  return image.files.filter(({ role }) => role !== 'data-file');
}

function childJson({ role, path, length, allocated }: FileInfo): Json {
  return {
    name: role,
    info: {
      children: [],
      'virtual-size': length,
      filename: path,
      format: 'file',
      'actual-size': allocated,
      'format-specific': { type: 'file', data: {} },
      'dirty-flag': false,
    },
  };
}

/** A snapshot as `info --output=json` tells it. */
export function snapshotJson(snapshot: SnapshotFacts): Json {
  const { seconds, nanoseconds } = clockOf(snapshot);
  return {
    ...(snapshot.icount === null ? {} : { icount: snapshot.icount }),
    'vm-clock-nsec': nanoseconds,
    name: snapshot.name,
    'date-sec': snapshot.dateSeconds,
    'date-nsec': snapshot.dateNanoseconds,
    'vm-clock-sec': seconds,
    id: snapshot.id,
    'vm-state-size': snapshot.vmStateSize,
  };
}

function clockOf({ vmClockNanoseconds }: SnapshotFacts): { seconds: number; nanoseconds: number } {
  return { seconds: Math.floor(vmClockNanoseconds / 1e9), nanoseconds: vmClockNanoseconds % 1e9 };
}

/** Keys of JSON have dashes where the text has spaces. */
function dashed(value: FactValue): Json {
  if (isList(value)) return value.map(dashed);
  if (typeof value !== 'object') return value;
  return dashedFacts(value);
}

function dashedFacts(tree: FactTree): Record<string, Json> {
  return Object.fromEntries(Object.entries(tree).map(([key, entry]) => [key.replaceAll(' ', '-'), dashed(entry)]));
}

function isList(value: FactValue): value is readonly FactValue[] {
  return Array.isArray(value);
}

function printHuman(image: ImageInfo, shownAs: string): void {
  outLine(`image: ${shownAs}`);
  outLine(`file format: ${image.format}`);
  outLine(`virtual size: ${humanSize(image.virtualSize)} (${image.virtualSize} bytes)`);
  outLine(`disk size: ${humanSize(image.diskSize)}`);
  if (image.encrypted) outLine('encrypted: yes');
  if (image.clusterSize !== null) outLine(`cluster_size: ${image.clusterSize}`);
  if (image.dirty) outLine('cleanly shut down: no');
  const { backing } = image;
  if (backing !== null) {
    const actual = backing.fullPath === backing.path ? '' : ` (actual path: ${backing.fullPath})`;
    outLine(`backing file: ${backing.path}${actual}`);
    if (backing.format !== null) outLine(`backing file format: ${backing.format}`);
  }
  if (image.snapshots.length > 0) {
    outLine('Snapshot list:');
    printSnapshots(image.snapshots);
  }
  if (image.specific !== null && Object.keys(image.specific.data).length > 0) {
    outLine('Format specific information:');
    printFacts(dashedTree(image.specific.data), 1);
  }
  if (!actsAsQemuImg && image.undo !== null) {
    outLine(`undo: '${image.undo.command}' of ${localTime(image.undo.time / 1000)} can be taken back`);
  }
  if (isLevel10) for (const file of children(image)) printChild(file);
}

function printChild({ role, path, length, allocated }: FileInfo): void {
  outLine(`Child node '/${role}':`);
  outLine(`    filename: ${path}`);
  outLine('    protocol type: file');
  outLine(`    file length: ${humanSize(length)} (${length} bytes)`);
  outLine(`    disk size: ${humanSize(allocated)}`);
}

/** Padded as C does: by bytes. */
function padBytes(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - Buffer.byteLength(text)));
}

/** The table of internal snapshots: a header and a line for each. */
export function printSnapshots(snapshots: readonly SnapshotFacts[]): void {
  const row = (id: string, tag: string, size: string, date: string, clock: string, count: string): string =>
    isLevel10
      ? `${id.padEnd(7)} ${padBytes(tag, 16)} ${size.padStart(8)} ${date.padStart(19)} ${clock.padStart(15)} ${count.padStart(10)}`
      : `${id.padEnd(9)} ${padBytes(tag, 16)} ${size.padStart(8)}${date.padStart(20)}${clock.padStart(13)}${count.padStart(11)}`;
  outLine(
    isLevel10
      ? row('ID', 'TAG', 'VM_SIZE', 'DATE', 'VM_CLOCK', 'ICOUNT')
      : row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
  );
  for (const snapshot of snapshots) {
    const { seconds, nanoseconds } = clockOf(snapshot);
    const two = (value: number): string => String(value).padStart(2, '0');
    const hours = String(Math.floor(seconds / 3600)).padStart(isLevel10 ? 4 : 2, '0');
    const clock = `${hours}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${String(Math.floor(nanoseconds / 1e6)).padStart(3, '0')}`;
    const count = snapshot.icount === null ? (isLevel10 ? '--' : '') : String(snapshot.icount);
    outLine(
      row(snapshot.id, snapshot.name, humanSize(snapshot.vmStateSize), localTime(snapshot.dateSeconds), clock, count),
    );
  }
}

function dashedTree(tree: FactTree): FactTree {
  return dashed(tree) as FactTree;
}

function printFacts(value: FactTree | readonly FactValue[], indent: number): void {
  const lead = ' '.repeat(4 * indent);
  const entries: (readonly [string, FactValue])[] = isList(value)
    ? value.map((entry, index) => [`[${index}]`, entry] as const)
    : inDictionaryOrder(value).map(([key, entry]) => [key.replaceAll('-', ' '), entry] as const);
  for (const [key, entry] of entries) {
    if (typeof entry === 'object') {
      outLine(`${lead}${key}:`);
      printFacts(entry, indent + 1);
    } else {
      outLine(`${lead}${key}: ${entry}`);
    }
  }
}
