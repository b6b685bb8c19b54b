// raw: the guest's bytes and nothing else.
import type { BlockNode } from '../../block/node.ts';
import { readGuest } from '../../block/read.ts';
import type { FactTree, FormatDriver, ImageFacts, Region } from '../driver.ts';
import { ImageError, isImageError } from '../../errors/image-error.ts';
import { contentHead, diskContent } from './content.ts';
import { compactRaw } from './compact.ts';
import { createRaw } from './create.ts';
import { RawNode } from './node.ts';

const noFacts: ImageFacts = {
  clusterSize: null,
  encrypted: false,
  dirty: false,
  backing: null,
  specific: null,
  snapshots: [],
  further: null,
};

function runtimeSize(value: string | undefined, name: string): number | null {
  if (value === undefined) return null;
  if (!/^[0-9]+$/.test(value) || !Number.isSafeInteger(Number(value))) {
    throw new ImageError('request/invalid-value', { reason: `Parameter '${name}' expects a size`, name });
  }
  return Number(value);
}

/** What the disk begins with, in words, as far as that is known. A disk that cannot be read there still has its other facts. */
function contentFacts(node: BlockNode): FactTree | null {
  const head = new Uint8Array(Math.min(contentHead, node.size));
  try {
    readGuest(node, head, 0);
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
  const content = diskContent(head);
  return content === null ? null : { content };
}

/** Why this part of a file cannot be a disk; null: it can. */
function windowFault(offset: number, size: number | null, fileSize: number): string | null {
  if (offset > fileSize) {
    return `Offset (${offset}) cannot be greater than size of the containing file (${fileSize})`;
  }
  if (size === null || offset + size <= fileSize) return null;
  return (
    `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the actual size of the ` +
    `containing file (${fileSize})`
  );
}

export const raw: FormatDriver = {
  id: 'raw',
  label: 'Raw',
  extensions: ['raw', 'img', 'bin', 'dd'],
  hasBacking: false,
  options: [
    { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
    {
      name: 'preallocation',
      type: 'string',
      meaning: 'Preallocation mode (allowed values: off, falloc, full)',
      values: ['off', 'falloc', 'full'],
      shown: 'given',
    },
  ],
  probe: () => false,
  open(storage, request) {
    const unknown = Object.keys(request.runtime).find((name) => name !== 'offset' && name !== 'size');
    if (unknown !== undefined) {
      storage.close();
      throw new ImageError('request/invalid-option', { name: unknown }, { file: storage.name });
    }
    const offset = runtimeSize(request.runtime.offset, 'offset') ?? 0;
    const size = runtimeSize(request.runtime.size, 'size');
    const fault = windowFault(offset, size, storage.size);
    if (fault !== null) {
      storage.close();
      throw new ImageError('request/invalid-value', { reason: fault }, { file: storage.name });
    }
    return new RawNode(storage, { offset, size });
  },
  create: createRaw,
  provisions: () => ['falloc', 'full'],
  facts: (node) => ({ ...noFacts, further: contentFacts(node) }),
  regions(node): Region[] {
    const file = node.files[0];
    if (file === undefined || file.storage.size === 0) return [];
    return [{ start: 0, length: file.storage.size, label: 'guest disk', kind: 'data', annotate: () => [] }];
  },
  compact: compactRaw,
  measure: ({ size }) => ({ required: size, fullyAllocated: size }),
};
