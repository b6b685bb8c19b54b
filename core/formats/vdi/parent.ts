// The parent of a differencing VDI: known by two UUIDs, found in the image's folder.
import path from 'node:path';
import type { BlockNode } from '../../block/node.ts';
import { ImageError } from '../../errors/image-error.ts';
import { isUnreadable } from '../../block/unreadable.ts';
import type { OpenGate } from '../driver.ts';
import { identityIn, isVdi, readHeader, type VdiHeader, type VdiIdentity } from './header.ts';
import type { FoundParent } from './node.ts';
import { headLength, nullUuid } from './spec.ts';

/** The header of a node that is a VDI (also when it is shown through another node); null: it is none. Throws `vdi/*`, `storage/*`. */
export function headerOf(node: BlockNode): VdiHeader | null {
  const storage = node.files[0]?.storage;
  if (node.format !== 'vdi' || storage === undefined) return null;
  const head = new Uint8Array(Math.min(headLength, storage.size));
  storage.readAt(head, 0);
  return readHeader(head, storage.name);
}

/** The parent that a header asks for. */
export function parentIdentity({ values }: VdiHeader): VdiIdentity {
  return { uuid: values.uuid_linkage, modification: values.uuid_parent_modify };
}

/**
 * Finds the parent and opens it with its own. Its name is not recorded: first a file that is named by the UUID (as VirtualBox names the
 * disks of snapshots), then whichever VDI of the folder has it, then, from a folder called Snapshots, those of the folder above. Throws
 * `vdi/parent-missing`, `vdi/parent-changed`, `vdi/parent-other`, `gate/*`, and what opening the one that is found throws.
 */
export function openParent(header: VdiHeader, from: string, gate: OpenGate): { path: string; node: BlockNode } {
  const wanted = parentIdentity(header);
  const search = new Search(wanted, from, gate);
  const named = search.tryOpen(`{${wanted.uuid}}.vdi`);
  if (named !== null) return named;
  const folders = ['.', ...(path.basename(path.dirname(path.resolve(from))) === 'Snapshots' ? ['..'] : [])];
  for (const folder of folders) {
    for (const { path: name, head } of gate.headsBeside?.({ from, folder, ending: '.vdi', length: headLength }) ?? []) {
      if (!holds(head, wanted.uuid)) continue;
      const found = search.tryOpen(name);
      if (found !== null) return found;
    }
  }
  throw search.failure();
}

/** The name of the disk that is the parent but for its content, which has changed since; null: there is none, or all is in order. */
export function changedParent(header: VdiHeader, from: string, gate: OpenGate): string | null {
  try {
    openParent(header, from, gate).node.close();
    return null;
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return error.code === 'vdi/parent-changed' ? String(error.facts.name) : null;
  }
}

function holds(head: Uint8Array, uuid: string): boolean {
  if (!isVdi(head)) return false;
  try {
    return readHeader(head, '').values.uuid_create === uuid;
  } catch (error) {
    if (error instanceof ImageError) return false;
    throw error;
  }
}

/** One search: candidates are opened and compared; what speaks against them is remembered. */
class Search {
  readonly #wanted: VdiIdentity;
  readonly #from: string;
  readonly #gate: OpenGate;
  #failed: ImageError | null = null;
  #refused: ImageError | null = null;
  #other: ImageError | null = null;

  constructor(wanted: VdiIdentity, from: string, gate: OpenGate) {
    this.#wanted = wanted;
    this.#from = from;
    this.#gate = gate;
  }

  tryOpen(name: string): { path: string; node: BlockNode } | null {
    let node: BlockNode;
    try {
      node = this.#gate.openImage({ from: this.#from, path: name, format: 'vdi' });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      if (error.code === 'gate/refused' || error.code === 'gate/ask') this.#refused ??= error;
      else if (!isAbsent(error)) this.#failed ??= error;
      return null;
    }
    const difference = isUnreadable(node) ? null : this.#differenceOf(name, node);
    if (difference === null) return { path: name, node };
    node.close();
    this.#other ??= difference;
    return null;
  }

  /** A null modification UUID says nothing: version 0 has none. */
  #differenceOf(name: string, node: BlockNode): ImageError | null {
    const where = { file: this.#from, field: 'uuid_linkage' };
    const header = headerOf(node);
    const { uuid, modification } = this.#wanted;
    if (header === null) return new ImageError('vdi/parent-format', { name, found: node.format }, where);
    const found = identityIn(header);
    if (found.uuid !== uuid)
      return new ImageError('vdi/parent-other', { name, found: found.uuid, expected: uuid }, where);
    if (modification === nullUuid || modification === found.modification) return null;
    const detail = { name, found: found.modification, expected: modification, uuid };
    return new ImageError('vdi/parent-changed', detail, { file: this.#from, field: 'uuid_parent_modify' });
  }

  failure(): ImageError {
    const missing = (): ImageError =>
      new ImageError('vdi/parent-missing', { uuid: this.#wanted.uuid }, { file: this.#from, field: 'uuid_linkage' });
    return this.#failed ?? this.#other ?? this.#refused ?? missing();
  }
}

/** No file of that name is there. */
function isAbsent(error: ImageError): boolean {
  const inner = error.code === 'gate/backing' && error.cause instanceof ImageError ? error.cause : error;
  return inner.code === 'storage/open' && (inner.detail.errno === 'ENOENT' || inner.detail.errno === 'ENOTDIR');
}

/**
 * Makes sure that the parent is there without keeping it open: also a disk of which only the facts are wanted is refused when its parent
 * is missing or another. What the caller does not allow, or somebody else holds, is not looked into.
 */
export function requireParent(header: VdiHeader, from: string, gate: OpenGate): FoundParent | null {
  try {
    const { path: name, node } = openParent(header, from, gate);
    node.close();
    return { path: name, node: null };
  } catch (error) {
    if (!(error instanceof ImageError) || error.code.startsWith('vdi/parent-')) throw error;
    return null;
  }
}
