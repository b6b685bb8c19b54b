// Storage migration: an image, or a chain of them, moves to another datastore and perhaps another format; its children follow.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { SecretSource } from '../block/crypto/secret.ts';
import { openFile } from '../block/file.ts';
import { forgetJournal } from '../block/journal/place.ts';
import { ImageError } from '../errors/image-error.ts';
import type { GatePolicy } from '../formats/gate.ts';
import type { OpenOptions } from '../formats/open.ts';
import { findDriver } from '../formats/registry.ts';
import type { Job } from '../job.ts';
import { compare } from '../operations/compare.ts';
import { convert } from '../operations/convert.ts';
import { digest } from '../operations/digest.ts';
import { nameSeenFrom } from '../operations/overlay.ts';
import { newTarget, removeLeftovers } from '../operations/target.ts';
import type { Catalogue } from './catalogue.ts';
import { findDatastore } from './datastores.ts';
import { imageRecord, remember } from './images.ts';
import { childEdges, parentEdge } from './lineage.ts';
import { linkFiles } from './relink.ts';
import { placeOf, readNewImage, rereadImage } from './reread.ts';

export interface MigrateParams {
  /** Id of the image. */
  readonly image: string;
  /** Name, id or folder of the datastore it moves to. */
  readonly datastore: string;
  /** Folder in it; `.` is the datastore's own. */
  readonly folder: string;
  /** Null: it keeps its format. Internal snapshots go only with the format. */
  readonly format: string | null;
  /** Move what it stands on too, as far as the catalogue knows it, in place of leaving that where it is. */
  readonly chain: boolean;
  /** Hands out the passphrases of encrypted layers; a copy in the same format needs none. */
  readonly secret?: SecretSource | undefined;
}

/** One image of the plan, the lowest first. */
interface Move {
  readonly image: string;
  readonly from: string;
  readonly fromFormat: string;
  readonly to: string;
  readonly toFormat: string;
  /** The layer below in its new place, and its format; null: none. */
  readonly backing: { readonly file: string; readonly format: string } | null;
  /** Images outside of the plan that stand on it. */
  readonly children: readonly { readonly image: string; readonly file: string; readonly format: string | null }[];
  /** All its files. */
  readonly files: readonly string[];
  /** It, or a layer below, is encrypted: byte for byte copies are held against each other as files. */
  readonly locked?: boolean;
}

interface Plan {
  readonly datastoreId: string;
  readonly root: string;
  readonly moves: readonly Move[];
}

export interface MigrateResult {
  /** Ids of the images in their new place, the lowest first. */
  readonly images: readonly string[];
  readonly files: readonly string[];
}

/**
 * Plans, writes the plan down and carries it out: every image is copied under a name that it gets when it is complete, the digest of the
 * copy is held against that of the source (of an encrypted image: its bytes), children are told, and only when all of them are does a source go. A kill at any moment leaves
 * source or copy complete and every child on a complete one; `resumeMigration` goes on. Throws `migrate/*`, `image/*`, `storage/*`, and what
 * copying throws.
 */
export async function migrate(catalogue: Catalogue, params: MigrateParams, job: Job): Promise<MigrateResult> {
  const plan = makePlan(catalogue, params);
  const id = crypto.randomUUID();
  catalogue.database.run('insert into migration (id, plan, created_at) values (:id, :plan, :now)', {
    id,
    plan: JSON.stringify(plan),
    now: Date.now(),
  });
  try {
    return await carryOut(catalogue, id, plan, 0, { job, secret: params.secret });
  } catch (error) {
    // What is done stands and is whole; nothing that is left to do is needed by anybody.
    if (error instanceof ImageError) abandon(catalogue, id, plan, error);
    throw error;
  }
}

/** Migrations that a crash interrupted. */
export function interruptedMigrations({
  database,
}: Catalogue): { readonly id: string; readonly files: readonly string[] }[] {
  return database
    .all<{ id: string; plan: string }>('select id, plan from migration where ended_at is null order by created_at')
    .map(({ id, plan }) => ({ id, files: (JSON.parse(plan) as Plan).moves.map(({ from }) => from) }));
}

/** Goes on with an interrupted migration. Throws `migrate/unknown`, and as `migrate`. */
export async function resumeMigration(
  catalogue: Catalogue,
  id: string,
  job: Job,
  secret?: SecretSource,
): Promise<MigrateResult> {
  const row = catalogue.database.one<{ plan: string; step: number }>(
    'select plan, step from migration where id = :id and ended_at is null',
    { id },
  );
  if (row === null) throw new ImageError('migrate/unknown', { id });
  return carryOut(catalogue, id, JSON.parse(row.plan) as Plan, row.step, { job, secret });
}

function makePlan(catalogue: Catalogue, params: MigrateParams): Plan {
  const store = findDatastore(catalogue, params.datastore);
  const folder = path.resolve(store.path, params.folder);
  if (path.relative(store.path, folder).startsWith('..')) {
    throw new ImageError('image/outside-datastore', { name: params.folder, root: store.path });
  }
  const chain = chainOf(catalogue, params.image, params.chain);
  const inPlan = new Set(chain);
  const moves: Move[] = [];
  for (const image of chain) {
    const place = placeOf(catalogue, image);
    if (place.format === null) throw new ImageError('migrate/not-whole', { name: place.file }, { file: place.file });
    const toFormat = params.format ?? place.format;
    const backing = moves.at(-1);
    const edge = parentEdge(catalogue, image);
    const below =
      backing !== undefined
        ? { file: backing.to, format: backing.toFormat }
        : edge === null
          ? null
          : { file: fileOfParent(edge.fullPath, place.file), format: edge.referenceFormat ?? place.format };
    refuseFormat(toFormat, below !== null, place.file);
    const { encrypted, parts } = imageRecord(catalogue, image);
    if (encrypted && (toFormat !== place.format || parts.length > 0)) {
      throw new ImageError('migrate/encrypted', { name: place.file }, { file: place.file });
    }
    moves.push({
      image,
      from: place.file,
      fromFormat: place.format,
      to: freeName(folder, place.file, toFormat === place.format ? null : toFormat, moves),
      toFormat,
      backing: below,
      children: childEdges(catalogue, image)
        .filter(({ childId }) => !inPlan.has(childId))
        .map(({ childId }) => childPlace(catalogue, childId, toFormat)),
      files: [place.file, ...parts.map((part) => part.path)],
      locked: isLocked(catalogue, image),
    });
  }
  return { datastoreId: store.id, root: store.path, moves };
}

/** The image and, if asked, what it stands on: the lowest first. */
function chainOf(catalogue: Catalogue, image: string, whole: boolean): string[] {
  const chain = [image];
  for (let at = image; whole;) {
    const below = parentEdge(catalogue, at)?.parentId ?? null;
    if (below === null || chain.includes(below)) break;
    chain.unshift(below);
    at = below;
  }
  return chain;
}

/** Whether its disk cannot be read without a passphrase, its own or that of a layer below. */
function isLocked(catalogue: Catalogue, image: string): boolean {
  return chainOf(catalogue, image, true).some((one) => imageRecord(catalogue, one).encrypted);
}

function fileOfParent(fullPath: string | null, name: string): string {
  if (fullPath === null) throw new ImageError('migrate/not-whole', { name }, { file: name });
  return fullPath;
}

function refuseFormat(format: string, hasParent: boolean, name: string): void {
  const driver = findDriver(format);
  if (driver?.create === undefined) throw new ImageError('format/no-create', { name: format });
  if (hasParent && !driver.hasBacking) throw new ImageError('migrate/no-backing', { format, name }, { file: name });
}

/** A child records the format of its parent, or shares it: formats that know parents by identity know only their own kind. */
function childPlace(catalogue: Catalogue, id: string, parentFormat: string): Move['children'][number] {
  const { file, format } = placeOf(catalogue, id);
  const driver = format === null ? null : findDriver(format);
  if (driver?.kinship !== undefined && format !== parentFormat) {
    throw new ImageError('migrate/child-format', { name: file, format: parentFormat }, { file });
  }
  return { image: id, file, format };
}

function freeName(folder: string, from: string, format: string | null, taken: readonly Move[]): string {
  const ending = format === null ? path.extname(from) : `.${findDriver(format)?.extensions[0] ?? format}`;
  const stem = path.basename(from, path.extname(from));
  const to = path.join(folder, stem + ending);
  if (fs.existsSync(to) || taken.some((move) => move.to === to)) {
    throw new ImageError('image/target-exists', { name: to }, { file: to });
  }
  return to;
}

interface Way {
  readonly job: Job;
  readonly secret: SecretSource | undefined;
}

/** Three steps for each move, then one that takes the sources away. */
async function carryOut(catalogue: Catalogue, id: string, plan: Plan, done: number, how: Way): Promise<MigrateResult> {
  const { job } = how;
  const images: string[] = [];
  let step = 0;
  const once = async (work: () => void | Promise<void>): Promise<void> => {
    step++;
    if (step <= done) return;
    job.throwIfCancelled();
    await work();
    catalogue.database.run('update migration set step = :step where id = :id', { id, step });
  };
  const free = plan.moves.map(({ from }) => holdStill(from));
  try {
    for (const move of plan.moves) {
      await once(() => copy(catalogue, move, how));
      await once(() => verify(catalogue, move, how));
    }
    for (const move of plan.moves) {
      await once(async () => {
        for (const child of move.children) {
          await linkFiles(child.file, child.format, move.to, move.toFormat, job);
        }
      });
    }
  } finally {
    for (const release of free) release();
  }
  await once(() => {
    // From the top down: what is left is a whole chain at every moment.
    for (const { files } of [...plan.moves].reverse()) files.forEach(removeImageFile);
  });
  for (const move of plan.moves) images.push(takeOver(catalogue, plan, move));
  catalogue.database.run('update migration set ended_at = :now where id = :id', { id, now: Date.now() });
  return { images, files: plan.moves.map(({ to }) => to) };
}

/** Nobody may write the source meanwhile; readers may. A source that is gone already (resuming the last step) needs nothing. */
function holdStill(file: string): () => void {
  if (!fs.existsSync(file)) return () => {};
  const storage = openFile(file, { writable: false, lock: 'read' });
  return () => storage.close();
}

/** The same format: the files byte for byte, with all that a conversion would leave behind; another one: the content. */
async function copy({ policy }: Catalogue, move: Move, { job, secret }: Way): Promise<void> {
  fs.mkdirSync(path.dirname(move.to), { recursive: true });
  removeLeftovers(move.to);
  if (isByteForByte(move)) {
    copyBytes(move.from, move.to, job);
    if (move.locked === true && !haveSameBytes(move.from, move.to, job)) throw differs(move);
    if (move.backing !== null) await linkFiles(move.to, move.toFormat, move.backing.file, move.backing.format, job);
    return;
  }
  await convert(
    {
      sources: [{ path: move.from, options: { format: move.fromFormat, policy, secret } }],
      snapshot: null,
      target: move.to,
      format: move.toFormat,
      options: {},
      backing:
        move.backing === null ? null : { path: nameSeenFrom(move.to, move.backing.file), format: move.backing.format },
      existing: null,
      targetIsZero: false,
      compress: false,
      offload: false,
      sparse: 4096,
      cache: undefined,
      depth: 8,
      outOfOrder: true,
      rate: 0,
      salvage: false,
      verify: false,
      keepIdentity: false,
    },
    job,
  );
}

function isByteForByte({ fromFormat, toFormat, files }: Move): boolean {
  return fromFormat === toFormat && files.length === 1;
}

const piece = 4 * 1024 * 1024;

/** Holes stay holes; the name comes when all is there. */
function copyBytes(from: string, to: string, job: Job): void {
  const source = openFile(from, { writable: false, lock: 'none' });
  const target = newTarget(to);
  try {
    const buffer = new Uint8Array(piece);
    target.storage.truncate(source.size);
    for (let at = 0; at < source.size;) {
      job.throwIfCancelled();
      job.progress({ phase: 'copy', done: at, total: source.size });
      const { kind, length } = source.extentAt(at, piece);
      if (kind === 'data') {
        const part = buffer.subarray(0, length);
        source.readAt(part, at);
        target.storage.writeAt(part, at);
      }
      at += length;
    }
    target.complete();
  } catch (error) {
    target.abandon();
    throw error;
  } finally {
    source.close();
  }
}

function haveSameBytes(from: string, to: string, job: Job): boolean {
  const files = [from, to].map((file) => openFile(file, { writable: false, lock: 'none' }));
  const [first, second] = files;
  try {
    if (first === undefined || second === undefined || first.size !== second.size) return false;
    const buffers = [new Uint8Array(piece), new Uint8Array(piece)] as const;
    for (let at = 0; at < first.size; at += piece) {
      job.throwIfCancelled();
      job.progress({ phase: 'verify', done: at, total: first.size });
      const [one, other] = [first, second].map((file, index) => {
        const part = (buffers[index] ?? buffers[0]).subarray(0, Math.min(piece, first.size - at));
        file.readAt(part, at);
        return part;
      });
      if (one === undefined || other === undefined || Buffer.compare(one, other) !== 0) return false;
    }
    return true;
  } finally {
    for (const file of files) file.close();
  }
}

/** The copy goes. */
function differs(move: Move): ImageError {
  removeImageFile(move.to);
  return new ImageError('migrate/differs', { name: move.from, copy: move.to }, { file: move.to });
}

/** With the journal of what was last done to it. */
function removeImageFile(file: string): void {
  fs.rmSync(file, { force: true });
  forgetJournal(file);
}

/** Throws `migrate/differs` unless a guest sees the same through source and copy. */
async function verify({ policy }: Catalogue, move: Move, how: Way): Promise<void> {
  // The bytes were held against each other before the link changed, and the rest is up to the passphrases.
  if (move.locked === true && isByteForByte(move)) return;
  const { job, secret } = how;
  const of = (path: string, options: OpenOptions) => digest({ path, options, algorithm: 'sha256' }, job);
  const source = await of(move.from, { format: move.fromFormat, policy, secret });
  const made = await of(move.to, { format: move.toFormat, secret });
  if (source.value === made.value || (made.size > source.size && (await sameStart(move, policy, how)))) return;
  throw differs(move);
}

/** Formats round sizes up: then the copy must hold the same, and zeroes behind it. */
async function sameStart(move: Move, policy: GatePolicy, { job, secret }: Way): Promise<boolean> {
  const first = { name: move.from, path: move.from, options: { format: move.fromFormat, policy, secret } };
  const second = { name: move.to, path: move.to, options: { format: move.toFormat, secret } };
  const { verdict } = await compare({ first, second, strict: false }, job);
  return verdict === 'identical';
}

/** The image goes on under its id, with what people wrote to it, in its new place. */
function takeOver(catalogue: Catalogue, plan: Plan, move: Move): string {
  const { database } = catalogue;
  const relative = path.relative(plan.root, move.to).split(path.sep).join('/');
  database.transaction(() => {
    database.run('delete from image where datastore_id = :store and path = :path and id <> :id', {
      store: plan.datastoreId,
      path: relative,
      id: move.image,
    });
    database.run('update image set datastore_id = :store, path = :path where id = :id', {
      store: plan.datastoreId,
      path: relative,
      id: move.image,
    });
  });
  const known = database.one('select 1 from image where id = :id', { id: move.image }) !== null;
  const id = known ? move.image : readNewImage(catalogue, plan.datastoreId, plan.root, move.to);
  if (known) rereadImage(catalogue, id);
  for (const child of move.children) {
    if (database.one('select 1 from image where id = :id', { id: child.image }) !== null)
      rereadImage(catalogue, child.image);
  }
  remember(catalogue, id, 'migrate', `${move.from} → ${move.to}`);
  return id;
}

/** After a fault or a cancel: copies that nobody stands on go, the plan is over. A child that was told already keeps its copy. */
function abandon(catalogue: Catalogue, id: string, plan: Plan, error: ImageError): void {
  const row = catalogue.database.one<{ step: number }>('select step from migration where id = :id', { id });
  const copying = (row?.step ?? 0) < plan.moves.length * 2;
  if (!copying) return; // children may stand on copies: resuming is the way on
  for (const { to, from } of [...plan.moves].reverse()) {
    if (fs.existsSync(from)) removeImageFile(to);
  }
  catalogue.database.run('update migration set ended_at = :now, error = :error where id = :id', {
    id,
    now: Date.now(),
    error: JSON.stringify(error.toWire()),
  });
}
