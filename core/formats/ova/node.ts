// An open package: one of its disks answers for it. The disk's own driver translates; what it says is put into places of the archive.
import type { BlockNode, ImageFile, Mapping } from '../../block/node.ts';
import type { Storage } from '../../block/storage.ts';
import { inOuterFile } from '../../block/storage-window.ts';
import type { GuestRange } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { FormatDriver } from '../driver.ts';
import type { OvaPackage, PackageDisk } from './package.ts';

/** A disk that was opened, or why it could not be. */
export interface DiskView {
  readonly disk: PackageDisk;
  readonly node: BlockNode | null;
  readonly driver: FormatDriver | null;
  readonly problem: ImageError | null;
}

export interface OvaParts {
  readonly storage: Storage;
  readonly contents: OvaPackage;
  /** The disks that were opened: the one that is meant, or, to look at, all of them. */
  readonly views: readonly DiskView[];
  /** The one that is meant; null: none was named, and there are several (or none). */
  readonly chosen: DiskView | null;
}

/** A package for reading. */
export class OvaNode implements BlockNode {
  readonly format = 'ova';
  readonly name: string;
  readonly granularity: number;
  readonly backing: BlockNode | null;
  readonly files: readonly ImageFile[];
  readonly storage: Storage;
  readonly contents: OvaPackage;
  readonly views: readonly DiskView[];
  readonly chosen: DiskView | null;
  #closed = false;

  constructor({ storage, contents, views, chosen }: OvaParts) {
    this.storage = storage;
    this.contents = contents;
    this.views = views;
    this.chosen = chosen;
    this.name = storage.name;
    this.granularity = chosen?.node?.granularity ?? 512;
    this.backing = chosen?.node?.backing ?? null;
    const beside = contents.files.entries === null ? views : [];
    this.files = [
      { role: 'file', format: 'file', storage },
      ...beside.flatMap(({ disk, node }) =>
        (node?.files ?? []).map((file): ImageFile => {
          const role = file.role === 'file' ? `disks.${disk.number}` : `disks.${disk.number}.${file.role}`;
          return { ...file, role };
        }),
      ),
    ];
  }

  /** Of the disk that is meant; without one, of all disks together. What cannot be opened counts as the descriptor says. */
  get size(): number {
    if (this.chosen !== null) return sizeOf(this.chosen);
    return this.views.reduce((sum, view) => sum + sizeOf(view), 0);
  }

  map(range: GuestRange): Mapping {
    return inOuterFile(this.inner().map(range));
  }

  /** The disk that is meant. Throws `ova/which-disk`, `ova/no-disks`, or why it cannot be opened. */
  protected inner(): BlockNode {
    if (this.chosen === null) throw whichDisk(this.contents);
    if (this.chosen.node === null) throw this.chosen.problem ?? new Error('a disk that is not open has a problem');
    return this.chosen.node;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { node } of this.views) node?.close();
    this.storage.close();
  }
}

function sizeOf({ node, disk }: DiskView): number {
  return node?.size ?? disk.disk.capacity ?? 0;
}

/** Why no disk is meant when none was named. */
export function whichDisk(contents: OvaPackage): ImageError {
  const { length } = contents.stored();
  const where = { file: contents.files.descriptor.name };
  if (length === 0) return new ImageError('ova/no-disks', {}, where);
  return new ImageError('ova/which-disk', { count: length, list: contents.list() }, where);
}
