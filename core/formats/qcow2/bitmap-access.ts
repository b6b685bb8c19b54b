// Dirty bitmaps of a qcow2 image, as the rest of the engine reaches them.
import type { BlockNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { BitmapDriver, BitmapSource } from '../bitmap-driver.ts';
import { bitmapShape, loadBitmapTable, storedStretches } from './bitmap-bits.ts';
import { Qcow2BitmapEditor, soundBitmaps } from './bitmap-editor.ts';
import { Qcow2Node } from './node.ts';
import type { Qcow2State } from './state.ts';
import { Qcow2WritableNode } from './write-node.ts';

function stateOf(node: BlockNode): Qcow2State {
  if (!(node instanceof Qcow2Node)) throw new Error(`${node.name} was not opened as qcow2`);
  return node.state;
}

function sourceOf(state: Qcow2State, name: string): BitmapSource {
  const where = { file: state.storage.name };
  const entry = soundBitmaps(state).find((bitmap) => bitmap.name === name);
  if (entry === undefined) throw new ImageError('bitmap/not-found', { name }, where);
  if (entry.inUse) throw new ImageError('bitmap/inconsistent', { name }, where);
  const { granularity } = entry;
  const shape = bitmapShape(state.layout, state.size, granularity);
  const table = loadBitmapTable(state, entry, shape);
  return { name, granularity, diskSize: state.size, stretches: () => storedStretches(state, table, shape) };
}

export const qcow2Bitmaps: BitmapDriver = {
  list(node) {
    const state = stateOf(node);
    if (state.version < 3) return null;
    return soundBitmaps(state).map(({ name, granularity, auto: enabled, inUse: inconsistent }) => ({
      name,
      granularity,
      enabled,
      inconsistent,
    }));
  },
  source: (node, name) => sourceOf(stateOf(node), name),
  edit(node) {
    if (!(node instanceof Qcow2WritableNode)) throw new Error(`${node.name} was not opened for writing`);
    return new Qcow2BitmapEditor(node.metadata);
  },
};
