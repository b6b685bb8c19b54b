// The check of a package: names, sizes and digests of its files, and each disk by the check of its own format.
import type { Storage } from '../../block/storage.ts';
import { StorageWindow } from '../../block/storage-window.ts';
import { ImageError, type Where } from '../../errors/image-error.ts';
import type { ErrorCode, ErrorDetail } from '../../errors/messages.ts';
import type { Job } from '../../job.ts';
import type { CheckSummary, Finding } from '../driver.ts';
import type { ManifestLine } from './manifest.ts';
import { digestOf } from './manifest.ts';
import type { DiskView, OvaNode } from './node.ts';
import { openReference, plainName } from './package-files.ts';

function finding(
  code: ErrorCode,
  detail: ErrorDetail,
  where: Where,
  severity: Finding['severity'] = 'corruption',
): Finding {
  const { message } = new ImageError(code, detail, where);
  return { code, severity, text: severity === 'error' ? message : `ERROR ${message}`, where, count: 1, repair: null };
}

/** Throws `request/cancelled`, `storage/*`, and what the checks of the disks throw. */
export function* checkOva(node: OvaNode, job: Job): Generator<Finding, CheckSummary, void> {
  yield* checkNames(node);
  yield* checkSizes(node);
  yield* checkManifest(node, job);
  const sum = { totalClusters: 0, allocatedClusters: 0, fragmentedClusters: 0, compressedClusters: 0 };
  for (const view of node.views) {
    const summary = yield* checkDisk(view, job);
    if (summary === null) continue;
    for (const key of ['totalClusters', 'allocatedClusters', 'fragmentedClusters', 'compressedClusters'] as const) {
      sum[key] += summary[key] ?? 0;
    }
  }
  return { imageEndOffset: null, ...sum };
}

function* checkNames({ contents, storage }: OvaNode): Generator<Finding, void, void> {
  const { entries, descriptorName } = contents.files;
  if (entries === null) return;
  for (const { name, start } of entries) {
    if (/^[\\/]|^[A-Za-z]:|(^|[\\/])\.\.([\\/]|$)|\0/.test(name)) {
      yield finding('ova/check-name', { name }, { file: storage.name, offset: start });
    }
  }
  const first = entries.find(({ kind }) => kind === 'file');
  if (first !== undefined && plainName(first.name) !== descriptorName) {
    yield finding('ova/check-order', { name: descriptorName }, { file: storage.name, offset: first.start });
  }
}

/** Sizes of files that the descriptor states. Disks that do not open are told of later. */
function* checkSizes({ contents, storage }: OvaNode): Generator<Finding, void, void> {
  const disks = new Set(contents.disks.map(({ file }) => file));
  for (const file of contents.descriptor.files) {
    if (file.chunkSize !== null) continue;
    const where = { file: storage.name, field: file.href };
    const found = attempt(() => openReference(contents.files, file.href, 'disks.check'), where);
    if (isFinding(found)) {
      yield found;
      continue;
    }
    if (found === null && !disks.has(file)) yield finding('ova/missing-file', { name: file.href }, where);
    if (found !== null && file.size !== null && found.size !== file.size) {
      yield finding('ova/check-size', { name: file.href, found: found.size, expected: file.size }, where);
    }
    found?.close();
  }
}

function* checkManifest(node: OvaNode, job: Job): Generator<Finding, void, void> {
  const { contents, storage } = node;
  if (contents.manifest === null) return;
  const where = { file: storage.name, field: contents.manifestName };
  let lines: readonly ManifestLine[];
  try {
    lines = contents.manifestLines();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    yield finding(error.code, error.detail, where);
    return;
  }
  const listed = new Set(lines.map(({ name }) => plainName(name)));
  const names = contents.descriptor.files.map((file) => contents.namesOf(file));
  for (const unlisted of [[contents.files.descriptorName], ...names]) {
    if (unlisted.some((name) => listed.has(plainName(name)))) continue;
    yield finding('ova/check-unlisted', { name: unlisted[0] ?? '' }, where, 'error');
  }
  const total = node.storage.size;
  for (const line of lines) {
    const file = attempt(() => openListed(node, line.name), where);
    if (isFinding(file)) {
      yield file;
      continue;
    }
    if (file === null) {
      yield finding('ova/check-gone', { name: line.name }, where);
      continue;
    }
    try {
      const found = finish(compareDigest(file, line, job, total));
      if (found === line.digest) continue;
      const { name, algorithm, digest: expected } = line;
      yield finding('ova/check-digest', { name, algorithm, found, expected }, { file: storage.name, field: name });
    } finally {
      file.close();
    }
  }
}

/** Runs a generator whose steps nobody here wants to see. */
function finish<T>(steps: Generator<unknown, T, void>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** What `open` opens; names that may not be opened are something that the check finds. */
function attempt(open: () => Storage | null, where: Where): Storage | null | Finding {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return finding(error.code, error.detail, { ...where, ...error.where });
  }
}

function isFinding(found: Storage | Finding | null): found is Finding {
  return found !== null && 'severity' in found;
}

/** The file that a line of the manifest names; the descriptor's bytes stay open. */
function openListed({ contents, storage }: OvaNode, name: string): Storage | null {
  const { files } = contents;
  const own = files.entries === null && plainName(name) === files.descriptorName;
  return own ? new StorageWindow(storage, 0, storage.size, storage.name) : files.open(name, 'disks.check');
}

function* compareDigest(file: Storage, line: ManifestLine, job: Job, total: number): Generator<void, string, void> {
  const steps = digestOf(file, line.algorithm);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    job.throwIfCancelled();
    job.progress({ phase: 'verify', done: Math.min(step.value, total), total });
    yield;
  }
}

function* checkDisk(
  { disk, node, driver, problem }: DiskView,
  job: Job,
): Generator<Finding, CheckSummary | null, void> {
  const name = disk.file?.href ?? disk.disk.id;
  if (problem !== null) {
    yield finding('ova/check-disk', { name, reason: problem.message }, problem.where);
    return null;
  }
  if (node === null || driver === null) return null;
  const { capacity } = disk.disk;
  if (capacity !== null && capacity !== node.size) {
    yield finding('ova/check-capacity', { name, found: node.size, expected: capacity }, { file: node.name });
  }
  return driver.check === undefined ? null : yield* driver.check(node, job);
}

/**
 * Holds the descriptor and the files of the disk that is meant against the manifest, as far as it lists them; pauses after every
 * piece. Throws `ova/digest`, `ova/manifest-line`, `request/cancelled`, `storage/*`.
 */
export function* verifyOva(node: OvaNode, job: Job): Generator<void, void, void> {
  const { contents, chosen, storage } = node;
  const { descriptorName } = contents.files;
  const files = chosen === null ? [] : contents.filesUnder(chosen.disk);
  const wanted = new Set([descriptorName, ...files.flatMap((file) => contents.namesOf(file))].map(plainName));
  for (const line of contents.manifestLines()) {
    if (!wanted.has(plainName(line.name))) continue;
    const stored = openListed(node, line.name);
    if (stored === null) continue;
    try {
      const found = yield* compareDigest(stored, line, job, stored.size);
      if (found !== line.digest) {
        const detail = { name: line.name, algorithm: line.algorithm, found, expected: line.digest };
        throw new ImageError('ova/digest', detail, { file: storage.name, field: line.name });
      }
    } finally {
      stored.close();
    }
  }
}
