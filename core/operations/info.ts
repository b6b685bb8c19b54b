// info: what an image says of itself, what its files take, and what it stands on.
import { lastVerb, type TakenBack } from '../block/journal/take-back.ts';
import type { BlockNode } from '../block/node.ts';
import { ImageError } from '../errors/image-error.ts';
import type { FactTree, FormatDriver, SnapshotFacts } from '../formats/driver.ts';
import { resolveReference } from '../formats/gate.ts';
import { openImage, type OpenOptions } from '../formats/open.ts';
import type { Job } from '../job.ts';

export interface InfoParams {
  readonly path: string;
  /** Layers below are not opened whatever this says. */
  readonly options: OpenOptions;
  /** Follow the chain: one entry per layer, the top first. */
  readonly chain: boolean;
}

/** A file of an image. */
export interface FileInfo {
  /** `file`, `data-file`, `extents.0` … */
  readonly role: string;
  readonly path: string;
  /** Length in bytes, and bytes that the host has set aside. */
  readonly length: number;
  readonly allocated: number;
}

export interface ImageInfo {
  readonly path: string;
  readonly format: string;
  /** Bytes of the guest's disk. */
  readonly virtualSize: number;
  /** Bytes that the host has set aside for the files of the image, without an external data file, as qemu-img counts. */
  readonly diskSize: number;
  readonly clusterSize: number | null;
  readonly encrypted: boolean;
  readonly dirty: boolean;
  /** The layer below: as recorded, its format if recorded, and the path that it leads to. */
  readonly backing: { readonly path: string; readonly format: string | null; readonly fullPath: string } | null;
  readonly snapshots: readonly SnapshotFacts[];
  readonly specific: { readonly type: string; readonly data: FactTree } | null;
  readonly further: FactTree | null;
  readonly files: readonly FileInfo[];
  /** The last change, which `undo` would take back (its time in milliseconds since 1970); null: none. */
  readonly undo: Pick<TakenBack, 'verb' | 'command' | 'time'> | null;
}

/**
 * Describes the image, or every layer of its chain. Throws `gate/loop` for a chain that bites its tail, `gate/scheme` for a layer that is
 * not a file, `info/layer` around what opening a layer throws.
 */
export function info(params: InfoParams, job: Job): Promise<readonly ImageInfo[]> {
  return Promise.resolve().then(() => describeChain(params, job));
}

/** The deepest chain that is followed. */
const deepest = 200;

function describeChain(params: InfoParams, job: Job): ImageInfo[] {
  const images: ImageInfo[] = [];
  const seen = new Set<string>();
  let next: Layer | null = { path: params.path, options: params.options };
  while (next !== null) {
    job.throwIfCancelled();
    if (images.length === deepest) throw new ImageError('gate/depth', { allowed: deepest }, { file: params.path });
    const image = describeLayer(next, seen);
    images.push(image);
    next = params.chain ? layerBelow(next, image) : null;
  }
  return images;
}

interface Layer {
  readonly path: string;
  readonly options: OpenOptions;
}

function layerBelow({ path, options }: Layer, { backing }: ImageInfo): Layer | null {
  if (backing === null) return null;
  const { policy, share, cache } = options;
  return {
    path: resolveReference(path, backing.path),
    options: {
      format: backing.format,
      ...(policy === undefined ? {} : { policy }),
      ...(share === undefined ? {} : { share }),
      ...(cache === undefined ? {} : { cache }),
    },
  };
}

function describeLayer({ path, options }: Layer, seen: Set<string>): ImageInfo {
  let opened;
  try {
    opened = openImage(path, { ...options, withBacking: false, guestData: false });
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    throw new ImageError('info/layer', { name: path, reason: error.message }, error.where, error);
  }
  const { node, driver } = opened;
  try {
    const identity = node.files[0]?.storage.identity ?? path;
    if (seen.has(identity)) throw new ImageError('gate/loop', { name: path }, { file: path });
    seen.add(identity);
    return describe(path, node, driver);
  } finally {
    node.close();
  }
}

function describe(path: string, node: BlockNode, driver: FormatDriver): ImageInfo {
  const facts = driver.facts(node);
  const files = node.files.map(({ role, storage }) => ({
    role,
    path: storage.name,
    length: storage.size,
    allocated: storage.allocated(),
  }));
  return {
    path,
    format: driver.id,
    virtualSize: node.size,
    diskSize: files.reduce((sum, file) => sum + (file.role === 'data-file' ? 0 : file.allocated), 0),
    clusterSize: facts.clusterSize,
    encrypted: facts.encrypted,
    dirty: facts.dirty,
    backing: facts.backing === null ? null : { ...facts.backing, fullPath: fullPath(path, facts.backing.path) },
    snapshots: facts.snapshots,
    specific: facts.specific,
    further: facts.further,
    files,
    undo: lastVerb(path),
  };
}

/** Where a recorded name leads; a name that is no path of a file stays what it is. */
function fullPath(from: string, name: string): string {
  try {
    return resolveReference(from, name);
  } catch (error) {
    if (error instanceof ImageError) return name;
    throw error;
  }
}
