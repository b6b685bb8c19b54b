// Lineage: which image stands on which, over all datastores and formats; what is wrong with it; what would break.
import path from 'node:path';
import type { ContentIdentity } from '../formats/driver.ts';
import { ImageError } from '../errors/image-error.ts';
import { resolveReference } from '../formats/gate.ts';
import type { Catalogue } from './catalogue.ts';
import { describeFile } from './scan/describe.ts';
import { statFileNow, type FileStat } from './scan/walk.ts';

/**
 * How a parent was found.
 *
 * - `whole`: it is there and is the one that is expected.
 * - `missing`: no file where it should be.
 * - `changed`: a file is there, but it is another disk, or its content has changed since the child was based on it.
 * - `touched`: formats without identities: it has been written since the catalogue first saw both, and shows the same where it was looked.
 * - `outside`: it is there, in no datastore.
 * - `loop`: the chain comes back to itself.
 * - `refused`: the reference is no name of a file (`nbd://…`, `json:{…}`).
 */
export type EdgeState = 'whole' | 'missing' | 'changed' | 'touched' | 'outside' | 'loop' | 'refused';

/** One step down: the child's reference, and where it leads. */
export interface Edge {
  readonly childId: string;
  readonly parentId: string | null;
  /** As it stands in the child. */
  readonly reference: string;
  readonly referenceFormat: string | null;
  /** The file that it leads to; null: to none that is there. */
  readonly fullPath: string | null;
  readonly expected: readonly ContentIdentity[];
  readonly found: ContentIdentity | null;
  readonly state: EdgeState;
}

interface EdgeRow {
  child_id: string;
  reference: string;
  reference_format: string | null;
  full_path: string | null;
  parent_id: string | null;
  found_id: string | null;
  found_version: string | null;
  parent_fingerprint: string | null;
  parent_mtime_ns: string | null;
  parent_names: string;
  expected: string;
  state: EdgeState;
}

interface ImageRow {
  id: string;
  file: string;
  format: string | null;
  device: string;
  inode: string;
  mtime_ns: string;
  own_id: string | null;
  own_version: string | null;
  fingerprint: string | null;
  gone_at: number | null;
  problem_code: string | null;
}

const imageRows = `select i.id, d.path || '/' || i.path as file, i.format, i.device, i.inode, i.mtime_ns, i.own_id, i.own_version,
  i.fingerprint, i.gone_at, i.problem_code from image i join datastore d on d.id = i.datastore_id`;

/** Follows every reference anew and finds loops. What was first seen of a parent without an identity is kept for later. */
export function refreshLineage({ database }: Catalogue): void {
  const images = database.all<ImageRow>(imageRows);
  const edges = database.all<EdgeRow>('select * from lineage');
  const finder = new ParentFinder(images);
  const followed = edges.map((edge) => follow(edge, finder));
  markLoops(followed);
  database.transaction(() => {
    for (const [index, edge] of followed.entries()) {
      const before = edges[index];
      if (before !== undefined && JSON.stringify(before) === JSON.stringify(edge)) continue;
      database.run(
        `update lineage set full_path = :fullPath, parent_id = (select id from image where id = :parent), found_id = :foundId, found_version = :foundVersion,
           parent_fingerprint = :fingerprint, parent_mtime_ns = :mtimeNs, state = :state where child_id = :child`,
        {
          child: edge.child_id,
          fullPath: edge.full_path,
          parent: edge.parent_id,
          foundId: edge.found_id,
          foundVersion: edge.found_version,
          fingerprint: edge.parent_fingerprint,
          mtimeNs: edge.parent_mtime_ns,
          state: edge.state,
        },
      );
    }
  });
}

class ParentFinder {
  readonly #byFile = new Map<string, ImageRow>();
  readonly #byOwnId = new Map<string, ImageRow[]>();
  readonly #byId = new Map<string, ImageRow>();

  constructor(images: readonly ImageRow[]) {
    for (const image of images) {
      this.#byId.set(image.id, image);
      if (image.gone_at !== null) continue;
      this.#byFile.set(`${image.device}:${image.inode}`, image);
      if (image.own_id === null) continue;
      const key = `${image.format ?? ''} ${image.own_id}`;
      const same = this.#byOwnId.get(key);
      if (same === undefined) this.#byOwnId.set(key, [image]);
      else same.push(image);
    }
  }

  image(id: string): ImageRow | null {
    return this.#byId.get(id) ?? null;
  }

  at(stat: FileStat): ImageRow | null {
    return this.#byFile.get(`${stat.device}:${stat.inode}`) ?? null;
  }

  /** Images that are what a child expects, in the folders where an opener looks that knows no name: that of VDI. */
  beside(child: ImageRow, expected: readonly ContentIdentity[]): ImageRow | null {
    if (child.format !== 'vdi') return null;
    const folder = path.dirname(child.file);
    const folders = path.basename(folder) === 'Snapshots' ? [folder, path.dirname(folder)] : [folder];
    for (const { id } of expected) {
      const found = this.#byOwnId
        .get(`${child.format ?? ''} ${id}`)
        ?.find((image) => folders.includes(path.dirname(image.file)));
      if (found !== undefined) return found;
    }
    return null;
  }
}

/** The row of an edge as it is now. */
function follow(edge: EdgeRow, finder: ParentFinder): EdgeRow {
  const child = finder.image(edge.child_id);
  if (child === null || child.gone_at !== null) return edge;
  const expected = JSON.parse(edge.expected) as ContentIdentity[];
  const nowhere = { ...edge, full_path: null, parent_id: null, found_id: null, found_version: null };
  let refused = false;
  let other: EdgeRow | null = null;
  for (const name of JSON.parse(edge.parent_names) as string[]) {
    let file: string;
    try {
      file = resolveReference(child.file, name);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      refused = true;
      continue;
    }
    const stat = statFileNow(file);
    if (stat === null) continue;
    const found = compare({ ...nowhere, full_path: file }, expected, finder.at(stat), file, stat);
    if (found.state !== 'changed') return found;
    other ??= found;
  }
  if (other !== null) return other;
  const beside = finder.beside(child, expected);
  if (beside !== null) {
    const stat = statFileNow(beside.file);
    if (stat !== null) return compare({ ...nowhere, full_path: beside.file }, expected, beside, beside.file, stat);
  }
  return { ...nowhere, state: refused ? 'refused' : 'missing' };
}

/** Holds what is found at `file` against what the child expects. */
function compare(
  edge: EdgeRow,
  expected: readonly ContentIdentity[],
  image: ImageRow | null,
  file: string,
  stat: FileStat,
): EdgeRow {
  const now =
    image === null
      ? identityOutside(file)
      : { id: image.own_id, version: image.own_version, fingerprint: image.fingerprint };
  const found = { ...edge, parent_id: image?.id ?? null, found_id: now.id, found_version: now.version };
  const right: EdgeState = image === null ? 'outside' : 'whole';
  if (expected.length > 0) {
    const same = expected.some(
      ({ id, version }) => id === now.id && (version === null || now.version === null || version === now.version),
    );
    return { ...found, state: same ? right : 'changed' };
  }
  // Nothing in the files tells: what was seen first is what it is held against.
  const first = edge.parent_mtime_ns === null;
  const kept = first ? { ...found, parent_fingerprint: now.fingerprint, parent_mtime_ns: stat.mtimeNs } : found;
  if (first || stat.mtimeNs === edge.parent_mtime_ns) return { ...kept, state: right };
  const readable = image === null || image.problem_code === null;
  return { ...kept, state: readable && now.fingerprint === edge.parent_fingerprint ? 'touched' : 'changed' };
}

function identityOutside(file: string): { id: string | null; version: string | null; fingerprint: string | null } {
  const described = describeFile(file);
  if (described?.kind !== 'image') return { id: null, version: null, fingerprint: null };
  const { own, fingerprint } = described.description;
  return { id: own?.id ?? null, version: own?.version ?? null, fingerprint };
}

function markLoops(edges: readonly EdgeRow[]): void {
  const below = new Map(edges.map((edge) => [edge.child_id, edge]));
  const settled = new Set<string>();
  for (const edge of edges) {
    const way: EdgeRow[] = [];
    const onWay = new Set<string>();
    let step: EdgeRow | undefined = edge;
    while (step !== undefined && !settled.has(step.child_id) && !onWay.has(step.child_id)) {
      way.push(step);
      onWay.add(step.child_id);
      step = step.parent_id === null ? undefined : below.get(step.parent_id);
    }
    if (step !== undefined && onWay.has(step.child_id)) {
      for (const member of way.slice(way.indexOf(step))) member.state = 'loop';
    }
    for (const { child_id } of way) settled.add(child_id);
  }
}

/** The edge from an image to its parent; null: it has none. */
export function parentEdge({ database }: Catalogue, imageId: string): Edge | null {
  const row = database.one<EdgeRow>('select * from lineage where child_id = :imageId', { imageId });
  return row === null ? null : edgeOf(row);
}

/** The edges from its children. */
export function childEdges({ database }: Catalogue, imageId: string): Edge[] {
  return database.all<EdgeRow>('select * from lineage where parent_id = :imageId', { imageId }).map(edgeOf);
}

/** Every edge. */
export function allEdges({ database }: Catalogue): Edge[] {
  return database.all<EdgeRow>('select * from lineage').map(edgeOf);
}

function edgeOf(row: EdgeRow): Edge {
  return {
    childId: row.child_id,
    parentId: row.parent_id,
    reference: row.reference,
    referenceFormat: row.reference_format,
    fullPath: row.full_path,
    expected: JSON.parse(row.expected) as ContentIdentity[],
    found: row.found_id === null ? null : { id: row.found_id, version: row.found_version },
    state: row.state,
  };
}

/** The ids of all images that read through this one, nearest first: what is lost if it goes. */
export function dependentsOf({ database }: Catalogue, imageId: string): string[] {
  return database
    .all<{ id: string; depth: number }>(
      `with recursive above (id, depth) as (
         select child_id, 1 from lineage where parent_id = :imageId
         union select l.child_id, above.depth + 1 from lineage l join above on l.parent_id = above.id where above.depth < 200
       ) select id, min(depth) as depth from above where id <> :imageId group by id order by depth, id`,
      { imageId },
    )
    .map(({ id }) => id);
}

/** The files (paths) of the images that read through the file at `file`; empty where the catalogue does not know it. */
export function dependentsOfFile(catalogue: Catalogue, file: string): string[] {
  const stat = statFileNow(file);
  if (stat === null) return [];
  const { database } = catalogue;
  const key = { device: stat.device, inode: stat.inode };
  const ids = database.all<{ id: string }>(
    `select id from image where device = :device and inode = :inode and gone_at is null
     union select image_id from image_file where device = :device and inode = :inode`,
    key,
  );
  const dependents = new Set(ids.flatMap(({ id }) => dependentsOf(catalogue, id)));
  return [...dependents].flatMap((id) => {
    const row = database.one<{ file: string; gone_at: number | null }>(`${imageRows} where i.id = :id`, { id });
    return row === null || row.gone_at !== null ? [] : [row.file];
  });
}

/**
 * A verb of ours has written to the file at `file`, and the guest's disk is what it was: whoever stood on it as it was `before` (its stat
 * then) stands on it still.
 */
export function keepTrust(catalogue: Catalogue, file: string, before: FileStat): void {
  const now = statFileNow(file);
  if (now === null || now.inode !== before.inode || now.device !== before.device) return;
  catalogue.database.run(
    `update lineage set parent_mtime_ns = :now where parent_mtime_ns = :before
       and parent_id in (select id from image where device = :device and inode = :inode and gone_at is null)`,
    { now: now.mtimeNs, before: before.mtimeNs, device: now.device, inode: now.inode },
  );
}

/** Why an image may be the parent that is looked for: its identity, or its content. */
export interface Candidate {
  readonly imageId: string;
  readonly file: string;
  readonly by: 'identity' | 'content';
}

/**
 * Images that could be the parent that `childId` has lost: by the identity that it recorded, then by what its parent held when it was last
 * seen. Surest first. Throws `lineage/no-parent`.
 */
export function findParent(catalogue: Catalogue, childId: string): Candidate[] {
  const { database } = catalogue;
  const row = database.one<EdgeRow>('select * from lineage where child_id = :childId', { childId });
  const child = database.one<ImageRow>(`${imageRows} where i.id = :childId`, { childId });
  if (row === null || child === null) throw new ImageError('lineage/no-parent', { name: child?.file ?? childId });
  const found = new Map<string, Candidate>();
  const add = (image: ImageRow, by: Candidate['by']): void => {
    if (image.id !== childId && !found.has(image.id)) found.set(image.id, { imageId: image.id, file: image.file, by });
  };
  for (const { id, version } of JSON.parse(row.expected) as ContentIdentity[]) {
    const same = database.all<ImageRow>(
      `${imageRows} where i.own_id = :id and i.format is :format and i.gone_at is null`,
      { id, format: child.format },
    );
    // The same state of the disk before other states of it.
    same.sort((a, b) => Number(b.own_version === version) - Number(a.own_version === version));
    for (const image of same) add(image, 'identity');
  }
  if (row.parent_fingerprint !== null) {
    const alike = database.all<ImageRow>(`${imageRows} where i.fingerprint = :fingerprint and i.gone_at is null`, {
      fingerprint: row.parent_fingerprint,
    });
    for (const image of alike) add(image, 'content');
  }
  const above = new Set(dependentsOf(catalogue, childId));
  return [...found.values()].filter(({ imageId }) => !above.has(imageId));
}
