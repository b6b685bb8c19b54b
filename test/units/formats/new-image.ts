// An image made, written, read and checked through the engine's own interfaces, for the tests of a format.
import fs from 'node:fs';
import { openFile } from '../../../core/block/file.ts';
import { isWritable, type BlockNode, type WritableNode } from '../../../core/block/node.ts';
import { readGuest } from '../../../core/block/read.ts';
import type { Storage } from '../../../core/block/storage.ts';
import type { CheckSummary, Finding, FormatDriver, OptionValue, Region } from '../../../core/formats/driver.ts';
import { resolveReference } from '../../../core/formats/gate.ts';
import { openImage, type OpenOptions } from '../../../core/formats/open.ts';
import { silentJob } from '../../../core/job.ts';

export interface NewImage {
  readonly size: number;
  readonly options?: Readonly<Record<string, OptionValue>>;
  /** Name of the layer below as the image will record it. */
  readonly backing?: string | null;
  readonly backingFormat?: string;
}

/** Creates an image at `path` (a file of that name is replaced) in `driver`'s format, as the operation does. */
export function createImage(driver: FormatDriver, path: string, image: NewImage): void {
  fs.rmSync(path, { force: true });
  const storage = openFile(path, { writable: true, lock: 'none', create: 'new', mode: 0o644 });
  try {
    createIn(driver, storage, path, image);
  } finally {
    storage.close();
  }
}

/** The same into any storage. */
export function createIn(driver: FormatDriver, storage: Storage, name: string, image: NewImage): void {
  const { options = {}, backing = null, backingFormat = driver.id } = image;
  let below: BlockNode | null = null;
  try {
    driver.create?.({
      storage,
      name,
      size: driver.sizeFor?.(image.size, options) ?? image.size,
      options,
      backing: backing === null ? null : { path: backing, format: backingFormat },
      openBacking() {
        below ??= openImage(resolveReference(name, backing ?? ''), { format: backingFormat }).node;
        return below;
      },
      createFile(reference) {
        throw new Error(`no second file ('${reference}') is expected`);
      },
      job: silentJob,
    });
  } finally {
    (below as BlockNode | null)?.close();
  }
}

/** Opens, hands over, closes. */
export function withImage<T>(path: string, options: OpenOptions, use: (node: BlockNode) => T): T {
  const { node } = openImage(path, options);
  try {
    return use(node);
  } finally {
    node.close();
  }
}

/** Opens for writing, hands over, flushes, closes. */
export function writing(path: string, use: (node: WritableNode) => void, options: OpenOptions = {}): void {
  withImage(path, { ...options, writable: true }, (node) => {
    if (!isWritable(node)) throw new Error(`${path} was opened read-only`);
    use(node);
    node.flush();
  });
}

/** The guest's whole disk. */
export function contentOf(node: BlockNode): Uint8Array {
  const bytes = new Uint8Array(node.size);
  readGuest(node, bytes, 0);
  return bytes;
}

/** The guest's whole disk of the image at `path`. */
export function contentAt(path: string, options: OpenOptions = {}): Uint8Array {
  return withImage(path, options, contentOf);
}

/** All findings of a check, and its figures. */
export function checkOf(driver: FormatDriver, node: BlockNode): { findings: Finding[]; summary: CheckSummary } {
  const findings: Finding[] = [];
  const steps = driver.check?.(node, silentJob);
  if (steps === undefined) throw new Error(`${driver.id} has no check`);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return { findings, summary: step.value };
    findings.push(step.value);
  }
}

/** The check of the image at `path`, opened as the operation opens it. */
export function checkAt(driver: FormatDriver, path: string): { findings: Finding[]; summary: CheckSummary } {
  const options = { format: driver.id, withBacking: false, forRepair: true } as const;
  return withImage(path, options, (node) => checkOf(driver, node));
}

/** The regions of an image's file; throws when they leave a gap, overlap, or annotate outside of themselves. */
export function regionsOf(driver: FormatDriver, node: BlockNode): Region[] {
  const regions = [...driver.regions(node)];
  let at = 0;
  for (const region of regions) {
    if (region.start !== at || region.length <= 0)
      throw new Error(`region '${region.label}' at ${region.start}, not ${at}`);
    at += region.length;
    for (const note of region.annotate({ start: region.start, length: Math.min(region.length, 4096) })) {
      if (note.start < region.start || note.start + note.length > at) {
        throw new Error(`annotation '${note.field}' leaves region '${region.label}'`);
      }
    }
  }
  const size = node.files[0]?.storage.size ?? 0;
  if (at !== size) throw new Error(`the regions end at ${at}, the file at ${size}`);
  return regions;
}
