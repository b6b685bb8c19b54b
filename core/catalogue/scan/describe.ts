// What the catalogue wants to know of one file: is it an image, of what kind, what is in it, and whom does it stand on.
import path from 'node:path';
import type { BlockNode } from '../../block/node.ts';
import { contentHead, diskContent } from '../../formats/raw/content.ts';
import type { ContentIdentity, FactTree, FormatDriver, SnapshotFacts } from '../../formats/driver.ts';
import { openImage } from '../../formats/open.ts';
import { allDrivers } from '../../formats/registry.ts';
import { ImageError } from '../../errors/image-error.ts';
import { fingerprintOf } from './fingerprint.ts';
import { statFileNow, type FileStat } from './walk.ts';

/** A file of an image beside the one that names it. */
export interface PartFile {
  readonly role: string;
  readonly path: string;
  readonly stat: FileStat;
}

/** What an image says of the layer below it. */
export interface ParentReference {
  /** As it stands in the image. */
  readonly reference: string;
  readonly format: string | null;
  /** Names under which it is looked for, best first. */
  readonly names: readonly string[];
  readonly expected: readonly ContentIdentity[];
}

/** An image as a scan sees it. Sizes in bytes. */
export interface Description {
  readonly format: string;
  readonly subformat: string | null;
  readonly virtualSize: number;
  readonly clusterSize: number | null;
  readonly encrypted: boolean;
  readonly dirty: boolean;
  readonly own: ContentIdentity | null;
  readonly fingerprint: string | null;
  readonly parent: ParentReference | null;
  /** Without the file itself. */
  readonly parts: readonly PartFile[];
  readonly snapshots: readonly SnapshotFacts[];
  readonly facts: FactTree;
}

/** What became of a file: an image, an image that cannot be opened, or something else (null). */
export type Described =
  | { readonly kind: 'image'; readonly description: Description }
  | { readonly kind: 'problem'; readonly error: ImageError }
  | null;

/** Endings that mean a disk byte by byte; such a file is an image even if it shows nothing that is known. */
const rawEndings = ['raw', 'img', 'dd', 'bin', 'iso', 'hdd', 'disk', 'flat'];

/**
 * Looks into a file. What the content says counts; the name decides only whether a file without any sign is taken for a raw disk, and
 * whether a file that cannot be read is worth a word. Throws nothing but bugs.
 */
export function describeFile(file: string): Described {
  let opened;
  try {
    opened = openImage(file, { withBacking: false, guestData: false, share: true, forRepair: true });
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return worthAWord(file, error) ? { kind: 'problem', error } : null;
  }
  const { node, driver } = opened;
  try {
    if (driver.id === 'raw' && !isRawDisk(file, node)) {
      const promised = allDrivers().find(({ extensions }) => extensions.includes(endingOf(file)));
      if (promised === undefined) return null;
      const error = new ImageError('image/not-as-named', { format: promised.label, size: node.size }, { file });
      return { kind: 'problem', error };
    }
    return { kind: 'image', description: describe(node, driver) };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return { kind: 'problem', error };
  } finally {
    node.close();
  }
}

function endingOf(file: string): string {
  return path.extname(file).slice(1).toLowerCase();
}

/** A file that cannot be opened at all is an image by its name only; one that was opened and found bad is one by its content. */
function worthAWord(file: string, error: ImageError): boolean {
  if (!error.code.startsWith('storage/')) return true;
  const endings = allDrivers().flatMap((driver) => driver.extensions);
  return [...rawEndings, ...endings].includes(endingOf(file));
}

function isRawDisk(file: string, node: BlockNode): boolean {
  if (rawEndings.includes(endingOf(file))) return true;
  const storage = node.files[0]?.storage;
  if (storage === undefined || storage.size < 512 || storage.size % 512 !== 0) return false;
  const head = new Uint8Array(Math.min(contentHead, storage.size));
  storage.readAt(head, 0);
  return diskContent(head) !== null;
}

function describe(node: BlockNode, driver: FormatDriver): Description {
  const facts = driver.facts(node);
  const kinship = driver.kinship?.(node) ?? null;
  const further = facts.further ?? {};
  const { subformat, ...rest } = further;
  return {
    format: driver.id,
    subformat: typeof subformat === 'string' ? subformat : null,
    virtualSize: node.size,
    clusterSize: facts.clusterSize,
    encrypted: facts.encrypted,
    dirty: facts.dirty,
    own: kinship?.own ?? null,
    fingerprint: facts.encrypted ? null : fingerprintOf(node),
    parent:
      facts.backing === null
        ? null
        : {
            reference: facts.backing.path,
            format: facts.backing.format,
            names: kinship === null || kinship.names.length === 0 ? [facts.backing.path] : kinship.names,
            expected: kinship?.expected ?? [],
          },
    parts: node.files.slice(1).flatMap(({ role, storage }) => {
      const stat = statFileNow(storage.name);
      return stat === null ? [] : [{ role, path: storage.name, stat }];
    }),
    snapshots: facts.snapshots,
    facts: { ...(facts.specific === null ? {} : { [facts.specific.type]: facts.specific.data }), further: rest },
  };
}
