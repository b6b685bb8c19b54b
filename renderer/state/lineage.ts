// Who stands on whom, as the catalogue knows it: the layers below an image, and the images above it.
import type { ImageRecord } from '../../core/workbench/contract.ts';
import { client } from '../bridge.ts';
import type { SheetImage } from './sheets.svelte.ts';

/** Layers that are followed down at most. */
const deepest = 64;

/** What the catalogue knows of the image of a sheet. */
export function recordOf({ id, file }: SheetImage): Promise<ImageRecord> {
  return id === undefined ? client.images.find({ text: file }) : client.images.show({ id });
}

/** The images that read through one, nearest first: how many, and the first `most`. */
export async function dependentsOf(
  image: SheetImage,
  most: number,
): Promise<{ readonly total: number; readonly first: readonly ImageRecord[] }> {
  const id = image.id ?? (await recordOf(image)).id;
  const ids = await client.images.dependents({ id });
  const first = await Promise.all(ids.slice(0, most).map((one) => client.images.show({ id: one })));
  return { total: ids.length, first };
}

/** A layer below an image: `record` null where the catalogue does not know it. */
export interface Layer {
  readonly file: string;
  readonly format: string | null;
  readonly record: ImageRecord | null;
}

/** The layers below, the nearest first, as far as they are known. */
export async function layersBelow(image: ImageRecord): Promise<Layer[]> {
  const layers: Layer[] = [];
  const seen = new Set([image.id]);
  for (let edge = image.parent; edge !== null && layers.length < deepest;) {
    const record = edge.parentId === null ? null : await client.images.show({ id: edge.parentId });
    layers.push({
      file: record?.file ?? edge.fullPath ?? edge.reference,
      format: record?.format ?? edge.referenceFormat,
      record,
    });
    if (record === null || seen.has(record.id)) break;
    seen.add(record.id);
    edge = record.parent;
  }
  return layers;
}
