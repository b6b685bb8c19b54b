// A package: its descriptor, its manifest, and its disks, each opened by the driver of its own format.
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { BlockNode } from '../../block/node.ts';
import type { FormatDriver, OpenGate, OpenRequest } from '../driver.ts';
import { parseDescriptor, type OvfDescriptor, type OvfDisk, type OvfFile } from './descriptor.ts';
import { JoinedStorage } from './joined.ts';
import { parseManifest, type ManifestLine } from './manifest.ts';
import { openReference, type PackageFiles } from './package-files.ts';
import { formatWords, limits } from './spec.ts';

/** Finds the driver of an image that lies inside another one: the one called `format`, or (null) the one that the content asks for. */
export type FindDriver = (storage: Storage, format: string | null) => FormatDriver;

/** A disk of the package. */
export interface PackageDisk {
  /** From 1 on, in the order of the descriptor. */
  readonly number: number;
  readonly disk: OvfDisk;
  /** The file that it refers to; null: an empty disk, or a reference that leads nowhere. */
  readonly file: OvfFile | null;
}

export interface OpenedDisk {
  readonly node: BlockNode;
  readonly driver: FormatDriver;
}

/** The name that a manifest goes by: that of the descriptor with another ending. */
function besideDescriptor(files: PackageFiles, ending: string): string {
  return files.descriptorName.replace(/\.[^.]*$/, ending);
}

export class OvaPackage {
  readonly files: PackageFiles;
  readonly descriptor: OvfDescriptor;
  readonly disks: readonly PackageDisk[];
  readonly manifestName: string;
  /** Null: there is none. */
  readonly manifest: Uint8Array | null;
  /** There is a signature. It is not checked here. */
  readonly signed: boolean;
  readonly #find: FindDriver;

  /** Throws `ova/*` for a descriptor that cannot be read, `storage/*`, `gate/*`. */
  constructor(files: PackageFiles, find: FindDriver) {
    this.files = files;
    this.#find = find;
    const { descriptor } = files;
    const where = { file: descriptor.name };
    this.descriptor = parseDescriptor(readSmall(descriptor, limits.descriptor), where);
    const byId = new Map(this.descriptor.files.map((file) => [file.id, file]));
    this.disks = this.descriptor.disks.map((disk, index) => ({
      number: index + 1,
      disk,
      file: disk.fileRef === null ? null : (byId.get(disk.fileRef) ?? null),
    }));
    this.manifestName = besideDescriptor(files, '.mf');
    const manifest = files.open(this.manifestName, 'disks.manifest');
    try {
      this.manifest = manifest === null ? null : readSmall(manifest, limits.manifest);
    } finally {
      manifest?.close();
    }
    const certificate = files.open(besideDescriptor(files, '.cert'), 'disks.certificate');
    certificate?.close();
    this.signed = certificate !== null;
  }

  /** The lines of the manifest, none where there is no manifest. Throws `ova/manifest-line`. */
  manifestLines(): readonly ManifestLine[] {
    return this.manifest === null ? [] : parseManifest(this.manifest, { file: this.manifestName });
  }

  /** Disks that have a file. */
  stored(): PackageDisk[] {
    return this.disks.filter(({ disk }) => disk.fileRef !== null);
  }

  /** The disk that `name` names: its id, its file, or its number. Throws `ova/no-disk`. */
  diskNamed(name: string): PackageDisk {
    const found =
      this.disks.find(({ disk }) => disk.id === name) ??
      this.disks.find(({ file }) => file?.href === name) ??
      this.disks.find(({ number }) => String(number) === name);
    if (found !== undefined) return found;
    throw new ImageError('ova/no-disk', { name, list: this.list() }, { file: this.files.descriptor.name });
  }

  /** The disks in words, for messages. */
  list(): string {
    const shown = this.disks.slice(0, 20).map(({ number, disk, file }) => `${number}: ${file?.href ?? disk.id}`);
    return shown.join(', ') + (this.disks.length > shown.length ? ', …' : '');
  }

  /**
   * The bytes of the disk's file; the caller closes them. Throws `ova/blank-disk`, `ova/dangling`, `ova/compressed`, `ova/missing-file`, `ova/entry-kind`,
   * `ova/duplicate`, `gate/*`, `storage/*`.
   */
  storageOf({ number, disk, file }: PackageDisk): Storage {
    const where = { file: this.files.descriptor.name };
    if (disk.fileRef === null) throw new ImageError('ova/blank-disk', { name: disk.id }, where);
    if (file === null) throw new ImageError('ova/dangling', { name: disk.id, reference: disk.fileRef }, where);
    if (file.compression !== null) {
      throw new ImageError('ova/compressed', { name: file.href, compression: file.compression }, where);
    }
    const role = `disks.${number}`;
    const whole = openReference(this.files, file.href, role);
    if (whole !== null) return whole;
    const chunks = file.chunkSize === null ? [] : this.#chunksOf(file, role);
    if (chunks.length === 0) throw new ImageError('ova/missing-file', { name: file.href }, where);
    return new JoinedStorage(chunks, chunks[0]?.name ?? file.href);
  }

  /** The file of `disk` and those of the disks that it stands on. */
  filesUnder(disk: PackageDisk): OvfFile[] {
    const chain = new Set<PackageDisk>();
    let next: PackageDisk | undefined = disk;
    while (next !== undefined && !chain.has(next)) {
      chain.add(next);
      const parent: string | null = next.disk.parentRef;
      next = parent === null ? undefined : this.disks.find((other) => other.disk.id === parent);
    }
    return [...chain].flatMap(({ file }) => (file === null ? [] : [file]));
  }

  /** Names of the files that `file` consists of: itself, or its chunks. */
  namesOf(file: OvfFile): string[] {
    const names = [file.href];
    if (file.chunkSize === null || file.size === null) return names;
    const count = Math.min(limits.chunks, Math.ceil(file.size / file.chunkSize));
    for (let index = 0; index < count; index++) names.push(chunkName(file.href, index));
    return names;
  }

  #chunksOf(file: OvfFile, role: string): Storage[] {
    const chunks: Storage[] = [];
    try {
      for (let index = 0; index < limits.chunks; index++) {
        const chunk = openReference(this.files, chunkName(file.href, index), `${role}.${index}`);
        if (chunk === null) break;
        chunks.push(chunk);
      }
    } catch (error) {
      for (const chunk of chunks) chunk.close();
      throw error;
    }
    return chunks;
  }

  /**
   * The disk, opened by the driver of its format. What it names in turn (extents, a parent) is looked for in an archive among its files only;
   * beside a descriptor the gate decides. Throws as `storageOf`, `ova/nested`, and what the driver throws.
   */
  openDisk(wanted: PackageDisk, request: OpenRequest, above: readonly PackageDisk[] = []): OpenedDisk {
    if (above.includes(wanted)) {
      throw new ImageError('gate/loop', { name: wanted.disk.id }, { file: this.files.descriptor.name });
    }
    return this.openIn(this.storageOf(wanted), wanted, request, above);
  }

  /** The same over bytes that the caller has found already; they are closed with the node, and also when it does not open. */
  openIn(storage: Storage, wanted: PackageDisk, request: OpenRequest, above: readonly PackageDisk[] = []): OpenedDisk {
    const { number, disk } = wanted;
    const { disk: _disk, ...runtime } = request.runtime;
    const archived = this.files.entries !== null;
    const gate = archived ? this.#archiveGate(wanted, request, [...above, wanted]) : request.gate;
    let driver: FormatDriver;
    try {
      driver = this.#find(storage, statedFormat(disk.format));
      if (driver.id === 'ova') throw new ImageError('ova/nested', { name: `${number}` }, { file: storage.name });
    } catch (error) {
      storage.close();
      throw error;
    }
    return { driver, node: driver.open(storage, { ...request, runtime, gate }) };
  }

  #archiveGate(wanted: PackageDisk, request: OpenRequest, above: readonly PackageDisk[]): OpenGate {
    const { files } = this;
    const where = { file: files.descriptor.name };
    return {
      openImage: (reference) => {
        const parent = this.disks.find(({ disk, file }) =>
          wanted.disk.parentRef === null ? file?.href === reference.path : disk.id === wanted.disk.parentRef,
        );
        if (parent === undefined) throw new ImageError('ova/outside', { name: reference.path }, where);
        return this.openDisk(parent, request, above).node;
      },
      openFile(reference) {
        const found = openReference(files, reference.path, reference.role);
        if (found === null) throw new ImageError('ova/outside', { name: reference.path }, where);
        return found;
      },
    };
  }
}

/** A file was cut at `chunkSize`: nine digits behind its name count the pieces (section 7.1). */
function chunkName(href: string, index: number): string {
  return `${href}.${String(index).padStart(9, '0')}`;
}

function statedFormat(uri: string | null): string | null {
  const text = uri?.toLowerCase() ?? '';
  return formatWords.find(([word]) => text.includes(word))?.[1] ?? null;
}

function readSmall(storage: Storage, allowed: number): Uint8Array {
  if (storage.size > allowed)
    throw new ImageError('ova/too-large', { found: storage.size, allowed }, { file: storage.name });
  const bytes = new Uint8Array(storage.size);
  storage.readAt(bytes, 0);
  return bytes;
}
