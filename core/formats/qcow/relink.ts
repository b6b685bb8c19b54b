// Another name of the layer below, in the header or, where it is too long for that place, at the end of the file.
import type { BackingReference } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { header, limit } from './spec.ts';
import type { QcowWritableNode } from './write-node.ts';

/** The format of the layer cannot be recorded. Throws `qcow/backing-name`, `storage/*`. */
export function relink(node: QcowWritableNode, reference: BackingReference | null): void {
  const { state } = node;
  const { fields, storage } = state;
  const name = Buffer.from(reference?.path ?? '', 'utf8');
  if (name.length > limit.backingName) {
    throw new ImageError('qcow/backing-name', { found: name.length }, { file: node.name, offset: 16 });
  }
  node.flush();
  if (name.length === 0) {
    fields.backing_file_offset = 0;
    fields.backing_file_size = 0;
  } else {
    const fits = name.length <= fields.backing_file_size && fields.backing_file_offset >= header.size;
    if (!fits) fields.backing_file_offset = node.appendTable(name.length);
    fields.backing_file_size = name.length;
    storage.writeAt(name, fields.backing_file_offset);
    storage.flush();
  }
  storage.writeAt(header.serialise(fields), 0);
  storage.flush();
  state.backingName = reference === null ? null : reference.path;
}
