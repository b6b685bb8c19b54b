// Where a byte of the guest's disk comes from: which layer, which file, which offset, and how it is stored there.
import type { BlockNode } from '../../block/node.ts';
import { checkRange } from '../../block/read.ts';
import { isUnread, surveyOne } from '../../block/survey.ts';
import type { PlaceFacts } from '../contract.ts';

/** `node` is the disk asked about, `top` the image itself: only its own files can be looked into. Throws `request/out-of-range`. */
export function placeOf(node: BlockNode, top: BlockNode, offset: number): PlaceFacts {
  checkRange(node, { start: offset, length: Math.min(1, node.size - offset) });
  const unit = Math.max(512, node.granularity);
  const start = offset - (offset % unit);
  const run = surveyOne(node, { start: offset, length: Math.min(unit - (offset - start), node.size - offset) });
  const { depth, length } = run;
  const from = { layer: run.node.name, depth, length, fault: null };
  if (isUnread(run)) {
    const fault = { error: run.error.toWire(), text: run.error.message };
    return { ...from, kind: 'unreadable', file: null, role: null, offset: null, packed: null, fault };
  }
  const { mapping } = run;
  const roleOf = (storage: unknown): string | null =>
    depth === 0 ? (top.files.find((file) => file.storage === storage)?.role ?? null) : null;
  switch (mapping.kind) {
    case 'zero': {
      const reserved = mapping.reserved;
      const role = reserved === undefined ? null : roleOf(reserved.storage);
      const kind = mapping.explicit ? 'zero' : 'unallocated';
      return {
        ...from,
        kind,
        file: reserved?.storage.name ?? null,
        role,
        offset: reserved?.offset ?? null,
        packed: null,
      };
    }
    case 'data': {
      const { storage, offset: at, cipher } = mapping;
      const kind = cipher === undefined ? 'data' : 'encrypted';
      return { ...from, kind, file: storage.name, role: roleOf(storage), offset: at, packed: null };
    }
    case 'packed': {
      const { storage, offset: at, codec, storedLength, unpackedLength, skip } = mapping;
      const packed = { codec: codec.id, length: storedLength, unpackedLength, skip };
      return { ...from, kind: 'packed', file: storage.name, role: roleOf(storage), offset: at, packed };
    }
  }
}
