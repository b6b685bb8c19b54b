// Another size of a disk: the last extent, further extents of split images, the descriptor that lists them.
import type { ImageFile, Preallocation } from '../../block/node.ts';
import { alignUp, GiB, MiB } from '../../block/units.ts';
import { writeGuest } from '../../block/write.ts';
import { ImageError } from '../../errors/image-error.ts';
import { createFlat, createHosted } from './create.ts';
import type { OptionValue, SizeByRewrite } from '../driver.ts';
import { diskUuid, withCylinders, withExtentSize, withFurtherExtents, withoutExtents } from './descriptor.ts';
import type { Extent } from './extent.ts';
import { TableCache } from './grain-tables.ts';
import { cylindersFor, siblingName, splitSizes } from './layout.ts';
import type { VmdkNode, WritableVmdkNode } from './node.ts';
import { openHosted, readHostedHeader } from './open-sparse.ts';
import { writerFor } from './open.ts';
import { resizeExtent } from './resize.ts';
import { sectorSize } from './spec.ts';

/** Files of a split image hold this much. */
const splitLimit = 2 * GiB;

function isSplit(node: WritableVmdkNode): boolean {
  return !node.embedded && /^(two|2)Gb/i.test(node.createType);
}

/**
 * Grows or shrinks the disk, in whole sectors. What is added reads as zeroes, also over a longer parent. On the disk, what is added is
 * complete before a header or the descriptor knows of it; what is taken away is given up after they have forgotten it. Throws
 * `vmdk/resize` where the subformat cannot, `vmdk/full`, `vmdk/descriptor-full`.
 */
export function resizeVmdk(node: WritableVmdkNode, size: number, how: Preallocation): void {
  const wanted = alignUp(size, sectorSize);
  const before = node.size;
  if (wanted === before) return;
  node.flush();
  node.markChanged();
  if (wanted < before) shrink(node, wanted);
  else grow(node, wanted, before, how);
  node.flush();
}

/** Streams are written once, from the start to the end: another size is another stream. */
export function sizeByRewrite(node: VmdkNode): SizeByRewrite | null {
  const [extent] = node.extents;
  if (extent?.kind !== 'sparse' || !extent.compressed) return null;
  const { values } = node.descriptor;
  const disk = diskUuid(node.descriptor);
  const kept = { adapter_type: 'ddb.adaptertype', hwversion: 'ddb.virtualhwversion', toolsversion: 'ddb.toolsversion' };
  const options: Record<string, OptionValue> = { subformat: 'streamOptimized' };
  for (const [name, key] of Object.entries(kept)) {
    const value = values.get(key);
    if (value !== undefined) options[name] = value;
  }
  if (disk !== null) options.uuid = disk;
  return { reason: 'a streamOptimized image has no room for another size', options };
}

function withGeometry(node: WritableVmdkNode, text: string, size: number): string {
  const heads = Number(node.descriptor.values.get('ddb.geometry.heads') ?? 16);
  return withCylinders(text, cylindersFor(size, Number.isSafeInteger(heads) && heads > 0 ? heads : 16));
}

function shrink(node: WritableVmdkNode, size: number): void {
  let keep = node.extents.length - 1;
  while (keep > 0 && (node.starts[keep] ?? 0) >= size) keep--;
  const last = node.extents[keep];
  const dropped = node.extents.slice(keep + 1);
  const lastSize = size - (node.starts[keep] ?? 0);
  const step = last === undefined || last.size === lastSize ? null : resizeExtent(node, last, lastSize, 'off');
  const text = withExtentSize(withoutExtents(node.descriptor.text, keep + 1), keep, lastSize);
  node.rewriteDescriptor(withGeometry(node, text, size));
  node.place.storage.flush();
  step?.commit();
  const writer = step === null ? node.writers[keep] : step.finish();
  node.replaceExtents(
    node.extents.slice(0, keep + 1),
    [...node.writers.slice(0, keep), ...(writer === undefined ? [] : [writer])],
    node.files,
  );
  for (const { storage } of dropped) {
    if (storage === null || !storage.writable || node.extents.some((kept) => kept.storage === storage)) continue;
    storage.truncate(0);
    storage.flush();
  }
}

function grow(node: WritableVmdkNode, size: number, before: number, how: Preallocation): void {
  const last = node.extents.length - 1;
  const extent = node.extents[last];
  const start = node.starts[last] ?? 0;
  const held = extent?.size ?? 0;
  const lastSize = isSplit(node) ? Math.min(size - start, Math.max(splitLimit, held)) : size - start;
  const step = lastSize === held ? null : resizeExtent(node, extent, lastSize, how);
  const further = addExtents(node, size - start - lastSize, how);
  node.replaceExtents(
    [...node.extents, ...further.extents],
    [
      ...node.writers.slice(0, last),
      ...(step === null ? node.writers.slice(last) : [step.writer]),
      ...further.extents.map(writerFor),
    ],
    [...node.files, ...further.files],
  );
  hideParent(node, before);
  node.flush();
  step?.commit();
  const sized = withExtentSize(node.descriptor.text, last, lastSize);
  const lines = further.extents.map(({ size: bytes, type }, index) => ({
    size: bytes,
    type,
    name: further.names[index] ?? '',
  }));
  node.rewriteDescriptor(withGeometry(node, lines.length === 0 ? sized : withFurtherExtents(sized, lines), size));
}

/** Empty extents for `size` bytes more, each in a new file beside the descriptor. */
function addExtents(
  node: WritableVmdkNode,
  size: number,
  how: Preallocation,
): { extents: Extent[]; files: ImageFile[]; names: string[] } {
  const extents: Extent[] = [];
  const files: ImageFile[] = [];
  const names: string[] = [];
  const flat = node.extents.at(-1)?.kind === 'flat';
  for (const part of splitSizes(size)) {
    const line = node.extents.length + extents.length;
    const role = `extents.${line}`;
    const name = siblingName(node.name, flat ? 'f' : 's', line + 1);
    const storage = node.gate.createFile?.({ from: node.name, path: name, role });
    if (storage === undefined) {
      throw new ImageError('vmdk/resize', { reason: 'No further extent file can be made here' }, { file: node.name });
    }
    files.push({ role, format: 'file', storage });
    names.push(name);
    const facts = { role, line, access: 'RW' } as const;
    if (flat) {
      createFlat(storage, part, how === 'falloc' || how === 'full' ? how : null);
      extents.push({ ...facts, type: 'FLAT', kind: 'flat', size: part, storage, base: 0 });
    } else {
      const zeroedGrains = node.extents.some((other) => other.kind === 'sparse' && other.zeroedGrains);
      createHosted(storage, part, { preallocation: null, zeroedGrains });
      const request = {
        facts: { ...facts, type: 'SPARSE' },
        storage,
        cache: new TableCache(),
        id: line,
        writable: true,
      };
      extents.push(openHosted(request, readHostedHeader(storage)));
    }
    storage.flush();
  }
  return { extents, files, names };
}

/** What the parent has behind the old end was never part of this disk. */
function hideParent(node: WritableVmdkNode, before: number): void {
  const end = Math.min(node.backing?.size ?? 0, node.size);
  for (let at = before; at < end;) {
    const done = node.zero({ start: at, length: end - at });
    const length = Math.min(MiB, end - at);
    if (done === null) writeGuest(node, new Uint8Array(length), at);
    at += done === null ? length : done.length;
  }
}
