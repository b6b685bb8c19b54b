// Opening an image: storage, probe, gate, depth, loops.
import type { SecretSource } from '../block/crypto/secret.ts';
import { fileHeads } from '../block/folder.ts';
import { openFile, type CacheMode, type FileOptions, type LockMode } from '../block/file.ts';
import { identityOfName } from '../block/host/opening.ts';
import { settleJournal } from '../block/journal/settle.ts';
import { isUnreadable, UnreadableNode } from '../block/unreadable.ts';
import type { BlockNode } from '../block/node.ts';
import type { Storage } from '../block/storage.ts';
import { becauseOfPassphrase, ImageError } from '../errors/image-error.ts';
import type { Finding, FormatDriver, OpenGate } from './driver.ts';
import { followFiles, hasScheme, requireAllowed, resolveReference, type GatePolicy } from './gate.ts';
import { driverNamed, probeStorage } from './registry.ts';

/** How an image is to be opened. */
export interface OpenOptions {
  /** A stated format is believed; null or absent: the content decides. */
  readonly format?: string | null;
  readonly writable?: boolean;
  /** Default true. */
  readonly withBacking?: boolean;
  readonly policy?: GatePolicy;
  /** `shared-any`: alongside writers (`-U`). Default: like qemu, readers exclude writers. */
  readonly share?: boolean;
  readonly runtime?: Readonly<Record<string, string>>;
  readonly forRepair?: boolean;
  /** Hands out the passphrases of encrypted images, this one and those below it. Absent: there are none. */
  readonly secret?: SecretSource | undefined;
  /** Hears what was found and mended in an image that its last writer did not close, when it is opened for writing. */
  readonly tell?: ((finding: Finding) => void) | undefined;
  /** False: no guest byte will be asked for; encrypted images open without their passphrases. Default true. */
  readonly guestData?: boolean;
  /** Settings for the layer that the image names, where they are its own: the secret's name. */
  readonly below?: SettingsBelow;
  /** Bypass or weaken the host's cache as `-t`/`-T` say. */
  readonly cache?: CacheMode | undefined;
  /** What becomes of room in the image that zeroes take the place of: given back (`unmap`, the default) or kept (`ignore`). */
  readonly discard?: 'ignore' | 'unmap';
  /** Whether a verb that writes all it is given (`-S 0`) looks for zeroes all the same; `unmap`: and gives their room back. */
  readonly detectZeroes?: 'on' | 'unmap';
  /** Further files of the image by their role (`data-file`), as the one who opens names them: in place of what the image says. */
  readonly files?: Readonly<Record<string, string>>;
  /** The layer below is this, whatever the image says (`null`: none); the node owns it from then on. */
  readonly backing?: OpenedBacking;
  /** Stands between the image's own files (not those of the layers below) and the format that reads and writes them. */
  readonly wrap?: ((storage: Storage, role: string, made?: boolean) => Storage) | undefined;
  /**
   * For looking at what may be damaged: a layer below that cannot be opened is replaced by one that cannot be read, an image that its tables
   * keep from opening is opened as far as they go, and this hears why. Read-only.
   */
  readonly lenient?: ((reduction: Reduction) => void) | undefined;
  /** What a verb that changes the image keeps for taking it back (`changeInPlace`); opening alone does not look at it. */
  readonly undo?: UndoMode | undefined;
}

/** `keep`: a journal that `undo` takes the verb back with; `rollback`: one for the case that the verb ends early; `none`: no journal. */
export type UndoMode = 'keep' | 'rollback' | 'none';

/** An image that was not opened as it should be. `depth`: how many layers below the top it is. */
export interface Reduction {
  /** `below`: the layer under `file` cannot be read; `damaged`: `file` itself can in part only. */
  readonly what: 'below' | 'damaged';
  readonly file: string;
  readonly depth: number;
  readonly reason: ImageError;
}

/** What is said of a layer that an image names, and of those below it. */
export interface SettingsBelow {
  readonly runtime?: Readonly<Record<string, string>>;
  readonly below?: SettingsBelow;
}

/** Stands in for the layer that an image names. */
export interface OpenedBacking {
  readonly node: BlockNode | null;
  /** How it was opened, for who has to open it again (`openedAgain`). Absent: it cannot be. */
  readonly from?: { readonly path: string; readonly options: OpenOptions };
}

/** An open image: its node, the driver that made it, and whether the format was stated or guessed. */
export interface OpenedImage {
  readonly node: BlockNode;
  readonly driver: FormatDriver;
  readonly probed: boolean;
}

/**
 * Opens the image at `path` with the layers below it. The caller closes the node, which closes all that was opened with it.
 * Throws `storage/*`, `format/unknown`, `gate/*` and the format's codes.
 */
export function openImage(path: string, options: OpenOptions = {}): OpenedImage {
  return openTolerantly(path, options, []);
}

/** As `openLayer`, or with `lenient` as far as the image goes. */
function openTolerantly(path: string, options: OpenOptions, above: readonly Storage[]): OpenedImage {
  const { lenient } = options;
  if (lenient === undefined) return openLayer(path, options, above);
  if (options.writable === true) throw new Error('what is opened leniently is not written to');
  const depth = above.length;
  /** Told once it is settled how the image is opened. */
  let heard: Reduction[] = [];
  const attempt = (tried: OpenOptions, how: 'map' | 'open'): OpenedImage | ImageError => {
    heard = [];
    try {
      return openLayer(path, { ...tried, lenient: (reduction) => heard.push(reduction) }, above, how);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return error;
    }
  };
  const without = (reason: ImageError): OpenOptions => {
    const { name } = reason.facts;
    return { backing: { node: new UnreadableNode(typeof name === 'string' ? name : path, reason) } };
  };
  const finish = (opened: OpenedImage, own: Reduction | null): OpenedImage => {
    if (own !== null) lenient(own);
    heard.forEach(lenient);
    return opened;
  };
  const first = attempt(options, 'map');
  if (!(first instanceof ImageError)) return finish(first, null);
  const placed = options.backing !== undefined || options.withBacking === false;
  if (!placed) {
    const alone = attempt({ ...options, ...without(first) }, 'map');
    if (!(alone instanceof ImageError)) return finish(alone, { what: 'below', file: path, depth, reason: first });
  }
  const tolerant = { ...options, forRepair: true, guestData: false };
  const damaged: Reduction = { what: 'damaged', file: path, depth, reason: first };
  const whole = attempt(tolerant, 'open');
  if (!(whole instanceof ImageError)) {
    const below = whole.node.backing;
    const isBelow = below !== null && isUnreadable(below) && below.reason.code === first.code;
    return finish(whole, isBelow ? { ...damaged, what: 'below' } : damaged);
  }
  if (placed) throw first;
  const last = attempt({ ...tolerant, ...without(whole) }, 'open');
  if (last instanceof ImageError) throw first;
  lenient(damaged);
  return finish(last, { what: 'below', file: path, depth, reason: whole });
}

/** `options` with the layer that they put below opened anew, with those below that; as they are where they put none. Throws as `openImage`. */
export function openedAgain(options: OpenOptions): OpenOptions {
  const from = options.backing?.from;
  if (from === undefined) return options;
  const { node } = openImage(from.path, { ...openedAgain(from.options), writable: false });
  return { ...options, backing: { node, from } };
}

function openLayer(
  path: string,
  options: OpenOptions,
  above: readonly Storage[],
  lenient?: 'map' | 'open',
): OpenedImage {
  const policy = options.policy ?? followFiles;
  const writable = options.writable === true;
  const lock: LockMode = options.share === true ? 'shared-any' : writable ? 'write' : 'read';
  if (above.length >= policy.maxDepth) {
    throw new ImageError('gate/depth', { allowed: policy.maxDepth }, { file: path });
  }
  const identity = above.length === 0 ? null : identityOfName(path);
  if (identity !== null && above.some((layer) => layer.identity === identity)) {
    throw new ImageError('gate/loop', { name: path }, { file: path });
  }
  const wrap = options.wrap ?? ((file: Storage) => file);
  const openOther = (target: string, role: string): Storage => {
    if (options.files?.[role] === undefined) requireAllowed(policy, { from: path, path: target, role });
    return openFile(target, { writable, lock, cache: options.cache });
  };
  const image = openFile(path, { writable, lock, cache: options.cache });
  const settled = closingOnFailure(image, () => {
    return settleJournal(path, image, { writable, share: options.share === true, openOther });
  });
  const storage = wrap(settled(image), 'file');
  const stated = options.format ?? null;
  const driver = closingOnFailure(storage, () => (stated === null ? probeStorage(storage) : driverNamed(stated)));
  if (options.files?.['data-file'] !== undefined && driver.id !== 'qcow2') {
    // Whoever names it without a format hopes for qcow2: no other format has such a file.
    storage.close();
    const reason = `Block format '${driver.id}' does not support the option 'data-file.filename'`;
    throw new ImageError('request/invalid-value', { reason }, { file: path });
  }
  const files = [...above, storage];
  const given = options.backing?.node ?? null;
  let opening = true;
  const gate: OpenGate = {
    openImage(reference) {
      if (given !== null && opening) return given;
      const target = resolveReference(reference.from, reference.path);
      if (given !== null && isImageAt(given, target)) return given;
      requireAllowed(policy, { ...reference, path: target, name: reference.path, role: 'backing' });
      try {
        return openTolerantly(target, { ...optionsBelow(options), format: reference.format }, files).node;
      } catch (error) {
        if (error instanceof ImageError && error.code.startsWith('gate/')) throw error;
        if (error instanceof ImageError) {
          const { holders } = error.detail;
          const more = { ...(holders === undefined ? {} : { holders }), ...becauseOfPassphrase(error) };
          const detail = { reason: error.message, name: target, ...more };
          throw new ImageError('gate/backing', detail, error.where, error);
        }
        throw error;
      }
    },
    openFile(reference) {
      const named = options.files?.[reference.role];
      const target = named ?? resolveReference(reference.from, reference.path);
      if (named === undefined) requireAllowed(policy, { ...reference, path: target, name: reference.path });
      return wrap(settled(openFile(target, { writable, lock, cache: options.cache })), reference.role);
    },
    createFile(reference) {
      const target = resolveReference(reference.from, reference.path);
      requireAllowed(policy, { from: reference.from, path: target, role: reference.role });
      if (!writable) throw new ImageError('storage/read-only', {}, { file: reference.from });
      const { storage, made } = newFile(target, { writable, lock, cache: options.cache });
      return wrap(storage, reference.role, made);
    },
    announce(references) {
      policy.announce?.(
        references.flatMap((reference) => {
          if (options.files?.[reference.role] !== undefined) return [];
          const target = tryResolving(reference.from, reference.path);
          return target === null ? [] : [{ ...reference, path: target, name: reference.path }];
        }),
      );
    },
    *headsBeside({ from, folder, ending, length }) {
      const place = resolveReference(from, folder);
      const allowed = (file: string): boolean => policy.refuse({ from, path: file, role: 'head' }) === null;
      for (const { name, head } of fileHeads(place, ending, length, allowed)) {
        yield { path: folder === '.' ? name : `${folder}/${name}`, head };
      }
    },
  };
  const node = driver.open(storage, {
    writable,
    gate,
    withBacking: options.withBacking !== false && options.backing?.node !== null,
    runtime: options.runtime ?? {},
    forRepair: options.forRepair === true,
    secret: options.secret,
    tell: options.tell,
    guestData: options.guestData,
    lenient,
  });
  opening = false;
  return { node, driver, probed: stated === null };
}

/** Is `node` the image whose file is called `path`? */
function isImageAt(node: BlockNode, path: string): boolean {
  const identity = node.files[0]?.storage.identity ?? null;
  return identity === null ? node.name === path : identity === identityOfName(path);
}

function closingOnFailure<T>(storage: Storage, work: () => T): T {
  try {
    return work();
  } catch (error) {
    storage.close();
    throw error;
  }
}

/** How the layer below an image opened with `options` is opened: what goes for the whole chain, and what was said of that layer. */
export function optionsBelow(options: OpenOptions): OpenOptions {
  const { policy, share, cache, secret, tell, guestData, undo, below, lenient } = options;
  return {
    ...(policy === undefined ? {} : { policy }),
    share: share === true,
    cache,
    secret,
    tell,
    undo,
    lenient,
    ...(guestData === undefined ? {} : { guestData }),
    ...below,
  };
}

/** A new file, or one that is there and holds nothing: an extent that was given up. Throws `storage/open`. */
function newFile(target: string, how: FileOptions): { storage: Storage; made: boolean } {
  try {
    return { storage: openFile(target, { ...how, create: 'new', mode: 0o644 }), made: true };
  } catch (error) {
    if (!(error instanceof ImageError) || error.detail.errno !== 'EEXIST') throw error;
    const present = openFile(target, how);
    if (present.size === 0) return { storage: present, made: false };
    present.close();
    throw error;
  }
}

/** Null: it is no name of a file, which opening it will say. */
function tryResolving(from: string, name: string): string | null {
  return hasScheme(name.startsWith('file:') ? name.slice('file:'.length) : name) ? null : resolveReference(from, name);
}
