// The deep check of a VDI: every number of the block map, the counts of the header, the place of everything, the identity of the parent.
import type { Job } from '../../job.ts';
import { ImageError } from '../../errors/image-error.ts';
import { relinkRepair, type CheckSummary, type Finding } from '../driver.ts';
import { fieldOffset } from './header.ts';
import type { VdiNode } from './node.ts';
import { openParent } from './parent.ts';
import { freeBlock, imageType, nullUuid, zeroBlock, type Header1 } from './spec.ts';

type Severity = Finding['severity'];

/** Blocks between two looks at the job. */
const chunk = 65_536;

function finding(node: VdiNode, severity: Severity, code: string, text: string, more: Partial<Finding> = {}): Finding {
  const { where, count = 1, repair = null } = more;
  return { code, severity, text, where: { file: node.name, ...where }, count, repair };
}

/**
 * Findings one by one; the lines of qemu-img where it looks for the same. The format has no figures of its own there. Throws `storage/*`,
 * `request/cancelled`.
 */
export function* checkVdi(node: VdiNode, job: Job): Generator<Finding, CheckSummary, void> {
  yield* checkHead(node);
  const allocated = yield* checkMap(node, job);
  yield* checkCount(node, allocated);
  if (node.differencing) yield* checkParent(node);
  return {
    imageEndOffset: null,
    totalClusters: null,
    allocatedClusters: null,
    fragmentedClusters: null,
    compressedClusters: null,
  };
}

function at(node: VdiNode, field: keyof Header1): { offset: number; field: string } {
  return { offset: fieldOffset(node.header, field), field };
}

function* checkHead(node: VdiNode): Generator<Finding, void, void> {
  const { values } = node.header;
  for (const field of ['uuid_create', 'uuid_modify'] as const) {
    if (values[field] !== nullUuid) continue;
    const text = `ERROR ${field} is null: VirtualBox refuses the image`;
    yield finding(node, 'corruption', 'vdi/check-uuid', text, { where: at(node, field), repair: 'give it a UUID' });
  }
  const isChild = values.image_type === imageType.differencing || values.image_type === imageType.undo;
  if (isChild && values.uuid_linkage === nullUuid) {
    const text = 'ERROR the image is a differencing one, but names no parent';
    yield finding(node, 'corruption', 'vdi/check-no-parent', text, { where: at(node, 'uuid_linkage') });
  }
}

/** A bit for each place that was met; the number of stored blocks comes back. */
function* checkMap(node: VdiNode, job: Job): Generator<Finding, number, void> {
  const { blockMap, storage, blockSize } = node;
  const { blocks_in_image: blocks, image_type: type } = node.header.values;
  const total = blockMap.entries;
  const met = new Uint8Array(Math.ceil(blocks / 8));
  let allocated = 0;
  for (let block = 0; block < total; block++) {
    if (block % chunk === 0) {
      job.throwIfCancelled();
      job.progress({ phase: 'check', done: block, total });
    }
    const entry = blockMap.get(block);
    const where = { offset: blockMap.offset + 4 * block, field: `block map[${block}]` };
    if (entry === freeBlock || entry === zeroBlock) {
      if (type !== imageType.static) continue;
      yield finding(node, 'corruption', 'vdi/check-static', `ERROR: block ${block} of a static image is not stored`, {
        where,
      });
      continue;
    }
    if (entry >= blocks) {
      const text = `ERROR: block index ${block} too large, is ${entry}`;
      yield finding(node, 'corruption', 'vdi/check-too-large', text, { where });
      continue;
    }
    allocated++;
    const mask = 1 << (entry & 7);
    if (((met[entry >> 3] ?? 0) & mask) !== 0) {
      const text = `ERROR: block index ${block} also used by ${firstWith(node, entry)}`;
      yield finding(node, 'corruption', 'vdi/check-shared', text, { where });
    }
    met[entry >> 3] = (met[entry >> 3] ?? 0) | mask;
    const end = node.placeOf(entry) + Math.min(blockSize, node.size - block * blockSize);
    if (end > storage.size) {
      const text = `ERROR: block ${block} ends at ${end}, behind the end of the file`;
      yield finding(node, 'corruption', 'vdi/check-outside', text, { where });
    }
  }
  return allocated;
}

function firstWith(node: VdiNode, entry: number): number {
  let block = 0;
  while (node.blockMap.get(block) !== entry) block++;
  return block;
}

/** A count that is too small makes the next writer overwrite blocks; one that is too large only loses space. */
function* checkCount(node: VdiNode, allocated: number): Generator<Finding, void, void> {
  const { blocks_allocated: stated, block_extra, block_size } = node.header.values;
  if (stated !== allocated) {
    const text = `ERROR: allocated blocks mismatch, is ${allocated}, should be ${stated}`;
    const where = at(node, 'blocks_allocated');
    const severity = stated < allocated ? 'corruption' : 'leak';
    const repair = 'write the count again';
    yield finding(node, severity, 'vdi/check-count', text, { where, repair, count: Math.abs(stated - allocated) });
  }
  const total = block_extra + block_size;
  const places = Math.max(stated, allocated);
  const end = node.header.values.offset_data + places * total;
  const count = Math.floor((node.storage.size - end) / total);
  if (count < 1) return;
  const text = `Leaked space for ${count} block${count === 1 ? '' : 's'} at offset ${end}`;
  yield finding(node, 'leak', 'vdi/check-leak', text, { where: { offset: end }, count, repair: 'convert the image' });
}

function* checkParent(node: VdiNode): Generator<Finding, void, void> {
  try {
    openParent(node.header, node.name, node.gate).node.close();
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const severity = error.code === 'vdi/parent-changed' ? 'corruption' : 'error';
    const where = at(node, 'uuid_linkage');
    yield finding(node, severity, error.code, `ERROR ${error.message}`, {
      where,
      repair: severity === 'corruption' ? relinkRepair : null,
    });
  }
}
