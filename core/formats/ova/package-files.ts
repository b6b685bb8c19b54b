// The files of a package by their names: entries of an archive, or files beside a descriptor.
import type { Storage } from '../../block/storage.ts';
import { StorageWindow } from '../../block/storage-window.ts';
import { ImageError, isImageError } from '../../errors/image-error.ts';
import type { OpenGate } from '../driver.ts';
import { tarEntries, type TarEntry } from './tar.ts';

/** Where the files of a package are. */
export interface PackageFiles {
  /** All files, in their order; null: they lie beside the descriptor, and nobody lists them. */
  readonly entries: readonly TarEntry[] | null;
  readonly descriptorName: string;
  readonly descriptor: Storage;
  /**
   * The file called `name`; null: there is none. The caller closes it. Throws `ova/entry-kind` and `ova/duplicate` for entries that cannot be read
   * as a file, `gate/*` and `storage/*` for files beside the descriptor.
   */
  open(name: string, role: string): Storage | null;
}

/** The files of the archive in `storage`. Throws `ova/tar-*`, `ova/no-descriptor`. */
export function archiveFiles(storage: Storage): PackageFiles {
  const entries = [...tarEntries(storage)];
  const first = entries.find(({ name, kind }) => kind === 'file' && /\.ovf$/i.test(name));
  if (first === undefined) throw new ImageError('ova/no-descriptor', {}, { file: storage.name });
  const window = (entry: TarEntry): Storage => {
    const where = { file: storage.name, offset: entry.start };
    if (entry.kind !== 'file') throw new ImageError('ova/entry-kind', { name: entry.name }, where);
    return new StorageWindow(storage, entry.offset, entry.size, `${storage.name}(${entry.name})`);
  };
  return {
    entries,
    descriptorName: plainName(first.name),
    descriptor: window(first),
    open(name) {
      const found = entries.filter((entry) => plainName(entry.name) === plainName(name));
      const [entry, second] = found;
      if (entry === undefined) return null;
      if (second !== undefined) {
        throw new ImageError('ova/duplicate', { name }, { file: storage.name, offset: second.start });
      }
      return window(entry);
    },
  };
}

/** The files beside the descriptor in `storage`, as far as the gate lets them be opened. */
export function folderFiles(storage: Storage, gate: OpenGate): PackageFiles {
  return {
    entries: null,
    descriptorName: storage.name.replace(/^.*[\\/]/s, ''),
    descriptor: storage,
    open(name, role) {
      try {
        return gate.openFile({ from: storage.name, path: name, role });
      } catch (error) {
        if (isImageError(error, 'storage/open') && error.detail.errno === 'ENOENT') return null;
        throw error;
      }
    },
  };
}

/** GNU tar puts `./` before names when it was told to pack `.`. */
export function plainName(name: string): string {
  return name.replace(/^(\.\/)+/, '');
}

/** References are URIs: a name may have `%20` in it for a blank. The name itself is tried first. */
export function openReference(files: PackageFiles, href: string, role: string): Storage | null {
  const found = files.open(href, role);
  if (found !== null || !href.includes('%')) return found;
  let decoded: string;
  try {
    decoded = decodeURIComponent(href);
  } catch {
    return null;
  }
  return files.open(decoded, role);
}
