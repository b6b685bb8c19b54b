// The thread of one open image: answers one question after another, so that the program goes on whatever the image is like.
import { parentPort, workerData } from 'node:worker_threads';
import { lockHolders, type LockHolder } from '../../block/host/holders.ts';
import type { Codec } from '../../block/node.ts';
import { becauseOfPassphrase, ImageError, type WireError } from '../../errors/image-error.ts';
import { silentJob } from '../../job.ts';
import type { OpenOptions, Reduction } from '../../formats/open.ts';
import { listReferences } from '../../formats/references.ts';
import { diskContents } from '../../guest/contents.ts';
import type { PatternText } from '../../operations/find-pattern.ts';
import { info } from '../../operations/info.ts';
import { profileNamed, profiles } from '../../profiles/profiles.ts';
import { checkImage } from '../../profiles/verdict.ts';
import type { Reduced, SaidFault } from '../contract.ts';
import type { Fence } from '../fence.ts';
import type { KeptGate } from '../kept-gate.ts';
import { optionsOf, type ImageArgument } from '../jobs/image-argument.ts';
import type { MapLayer } from '../map/classes.ts';
import { ImageMap } from '../map/image-map.ts';
import type { Tile, TileRequest } from '../map/tile.ts';
import { guestOf } from './guest-of.ts';
import { guestPlaces } from './guest-places.ts';
import { OpenImage, type SearchRequest } from './open-image.ts';

export interface ImageTask {
  readonly image: ImageArgument;
  readonly secrets: Readonly<Record<string, string>>;
  readonly fence: Fence;
  readonly gate: KeptGate;
  /** What cannot be opened whole is opened as far as it goes. */
  readonly lenient: boolean;
}

/** A tile of the map as it leaves the thread. */
export interface MapAnswer extends Omit<Tile, 'fault'> {
  readonly size: number;
  readonly unit: number;
  readonly fault: SaidFault | null;
}

/** What is compared with the image: another one (or itself), and which disks of the two. */
export interface Compared {
  readonly other: ImageArgument;
  readonly view: string;
  readonly otherView: string;
  readonly backwards: boolean;
}

/** The questions; each is asked with its parameters and answered with its result. */
export interface Questions {
  readonly open: () => Promise<unknown>;
  readonly references: () => unknown;
  readonly bytes: (view: string, start: number, length: number) => Uint8Array;
  readonly unread: (view: string, start: number, length: number) => unknown;
  readonly regions: (view: string, from: number, limit: number, structures: boolean) => unknown;
  readonly annotations: (view: string, start: number, length: number) => unknown;
  readonly locate: (view: string, text: string, here: number) => unknown;
  readonly place: (view: string, offset: number) => unknown;
  readonly guestOf: (role: string, host: number, from: number) => unknown;
  readonly guestPlaces: (role: string, at: readonly number[], from: number) => unknown;
  readonly map: (view: string, layer: MapLayer, request: TileRequest) => MapAnswer;
  readonly describe: (view: string, at: number) => unknown;
  readonly snapshots: (limit: number) => unknown;
  readonly holders: () => unknown;
  readonly contents: () => unknown;
  readonly find: (view: string, asked: SearchRequest) => unknown;
  readonly matches: (view: string, pattern: PatternText, start: number, length: number) => unknown;
  readonly unpacked: (view: string, start: number, length: number, codec: Codec['id']) => Uint8Array;
  readonly compare: (asked: Compared, from: number, limit: number) => unknown;
  /** What the platform called `profile` (null: each) would say; the image need not be open. */
  readonly profiles: (profile: string | null) => Promise<unknown>;
}

export interface Question {
  readonly number: number;
  readonly name: keyof Questions;
  readonly args: readonly unknown[];
}

export type Answer =
  | { readonly number: number; readonly result: unknown }
  | { readonly number: number; readonly error: WireError }
  | { readonly number: number; readonly bug: string };

/** Opens what can be opened: the image, what of it and of the layers below can be read, or its bytes as they are. */
function openAsFarAs(path: string, options: OpenOptions): { open: OpenImage; reduced: Reduced | null } {
  const heard: Reduction[] = [];
  try {
    const open = new OpenImage(path, { ...options, lenient: (reduction) => heard.push(reduction) });
    return { open, reduced: reducedBy(heard) };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    try {
      const open = new OpenImage(path, { ...options, format: 'raw' }, true);
      const locked = lockedFile(error, path);
      return { open, reduced: { how: 'bytes', depth: 0, file: path, more: 0, locked, ...reasonOf(error) } };
    } catch (second) {
      if (second instanceof ImageError) throw error;
      throw second;
    }
  }
}

/** What the window is told: damage of the image itself before a layer that is missing, what is nearest to the top first. */
function reducedBy(heard: readonly Reduction[]): Reduced | null {
  const sorted = heard.toSorted((a, b) => a.depth - b.depth || a.what.localeCompare(b.what) * -1);
  const [first] = sorted;
  if (first === undefined) return null;
  const { what, file, depth, reason } = first;
  const locked = sorted.map((one) => lockedFile(one.reason, one.file)).find((name) => name !== null) ?? null;
  const more = heard.length - 1;
  return { how: what === 'below' ? 'alone' : 'damaged', file, depth, more, locked, ...reasonOf(reason) };
}

/** The file whose passphrase would have helped; null: none. */
function lockedFile(error: ImageError, image: string): string | null {
  return becauseOfPassphrase(error).because === undefined ? null : (error.where.file ?? image);
}

/** The innermost reason of a layer that could not be opened: what stands around it says the same in other words. */
function reasonOf(error: ImageError): Pick<Reduced, 'reason' | 'text'> {
  const { cause } = error;
  const inner = error.code === 'gate/backing' && cause instanceof ImageError ? cause : error;
  const reason = inner.toWire();
  return { reason, text: inner.message };
}

/** The questions about one image; it is opened with the first of them and stays open as long as the thread. */
export function questionsAbout({ image, secrets, fence, gate, lenient }: ImageTask): Questions {
  const surroundings = { secrets, fence, gate };
  const options = optionsOf(image, surroundings);
  let open: OpenImage | null = null;
  let map: ImageMap | null = null;
  let reduced: Reduced | null = null;
  const opened = (): OpenImage => {
    if (open !== null) return open;
    if (!lenient) return (open = new OpenImage(image.path, options));
    ({ open, reduced } = openAsFarAs(image.path, options));
    return open;
  };
  const mapped = (): ImageMap => {
    const { node, driver, depth } = opened();
    return (map ??= new ImageMap(node, driver, depth, {
      regionsOf: (role) => opened().regionsOf(role),
      nodeOf: (view) => opened().nodeOf(view),
    }));
  };
  return {
    async open() {
      const { node, depth } = opened();
      const asked = { path: image.path, options: { ...options, share: true }, chain: false };
      // What it says of itself needs neither passphrase nor layers below.
      const [facts] = reduced === null || reduced.locked !== null ? await info(asked, silentJob) : [null];
      const files = node.files.map(({ role, storage }) => {
        return { role, path: storage.name, length: storage.size, layers: mapped().layersOf(role) };
      });
      const mapUnits = { guest: mapped().unitOf('guest'), file: mapped().unitOf('file') };
      return {
        info: facts,
        guestSize: node.size,
        files,
        depth,
        mapUnits,
        layers: mapped().layers,
        mapLayers: mapped().layersOf('guest'),
        reduced,
      };
    },
    references() {
      const { fault, ...list } = listReferences(image.path, { ...options, share: true });
      return { ...list, fault: fault === null ? null : fault.toWire() };
    },
    bytes: (...args) => opened().bytes(...args),
    unread: (...args) => opened().unread(...args),
    regions: (...args) => opened().regions(...args),
    annotations: (...args) => opened().annotations(...args),
    guestOf: (role, host, from) => guestOf(opened().node, role, host, from),
    guestPlaces: (role, at, from) => guestPlaces(opened(), role, at, from),
    map(view, layer, request) {
      const { fault, ...tile } = mapped().tile(view, layer, request);
      const size = mapped().sizeOf(view);
      return {
        ...tile,
        size,
        unit: mapped().unitOf(view),
        fault: fault === null ? null : { error: fault.toWire(), text: fault.message },
      };
    },
    describe: (...args) => mapped().describe(...args),
    snapshots: (limit) => opened().snapshotSizes(limit),
    holders: () => holdersOf(opened().node.files.map(({ storage }) => storage.name)),
    contents: () => diskContents(opened().node),
    find: (...args) => opened().find(...args),
    matches: (...args) => opened().matches(...args),
    unpacked: (...args) => opened().unpacked(...args),
    locate: (...args) => opened().locate(...args),
    place: (...args) => opened().place(...args),
    compare({ other, ...views }, from, limit) {
      const told = lenient ? { lenient: (): void => {} } : {};
      const open = (): OpenImage => new OpenImage(other.path, { ...optionsOf(other, surroundings), ...told });
      return opened().compare({ ...views, key: JSON.stringify(other), open }, from, limit);
    },
    profiles(profile) {
      const asked = profile === null ? profiles : [profileNamed(profile)];
      return checkImage(image.path, { ...options, share: true }, asked, silentJob);
    },
  };
}

/** Programs that one answer names at most, and files of an image that are asked about. */
const mostHolders = 20;
const mostFiles = 8;

/** This program's own jobs and sessions are shown elsewhere. */
function holdersOf(files: readonly string[]): LockHolder[] {
  const found = new Map<number, LockHolder>();
  for (const file of files.slice(0, mostFiles)) for (const holder of lockHolders(file)) found.set(holder.pid, holder);
  found.delete(process.pid);
  return [...found.values()].slice(0, mostHolders);
}

async function answer(questions: Questions, { number, name, args }: Question): Promise<Answer> {
  try {
    const ask = questions[name] as (...given: readonly unknown[]) => unknown;
    return { number, result: await ask(...args) };
  } catch (error) {
    if (error instanceof ImageError) return { number, error: error.toWire() };
    return { number, bug: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

const port = parentPort;
if (port !== null) {
  const questions = questionsAbout(workerData as ImageTask);
  let before: Promise<void> = Promise.resolve();
  port.on('message', (question: Question) => {
    before = before.then(async () => {
      const said = await answer(questions, question);
      const result = 'result' in said ? said.result : null;
      const bytes = question.name === 'map' && result !== null ? (result as MapAnswer).shares : result;
      port.postMessage(said, bytes instanceof Uint8Array ? [bytes.buffer as ArrayBuffer] : []);
    });
  });
}
