// The images of the catalogue: looked up, listed, described, and what people write to them.
import path from 'node:path';
import { ImageError } from '../errors/image-error.ts';
import type { FactTree } from '../formats/driver.ts';
import type { Catalogue } from './catalogue.ts';
import type { Values } from './sqlite.ts';
import { childEdges, parentEdge, type Edge, type EdgeState } from './lineage.ts';
import { keptProblem, type KeptProblem } from './problems.ts';
import { statFileNow } from './scan/walk.ts';

/** An image of a chain that cannot be read through, or whose own parent is not right. */
export interface BrokenBelow {
  readonly id: string;
  readonly file: string;
  /** `unreadable`: it cannot be opened; `gone`: its file is; otherwise what is wrong with its parent. */
  readonly state: EdgeState | 'unreadable' | 'gone';
}

/** An image in a list. Sizes in bytes. */
export interface ImageEntry {
  readonly id: string;
  readonly datastore: string;
  /** Relative to the datastore, and the whole path. */
  readonly path: string;
  readonly file: string;
  /** What a person calls it; null: it goes by its file name. */
  readonly name: string | null;
  readonly tags: readonly string[];
  readonly format: string | null;
  readonly subformat: string | null;
  readonly virtualSize: number | null;
  readonly fileLength: number;
  /** Of all its files. */
  readonly allocated: number;
  readonly encrypted: boolean;
  readonly dirty: boolean;
  readonly snapshots: number;
  readonly children: number;
  readonly parentState: EdgeState | null;
  /**
   * The trouble further down its chain than its own parent reference: what cannot be read before what was only written, the nearest first;
   * null: there is none that is known.
   */
  readonly brokenBelow: BrokenBelow | null;
  readonly problem: KeptProblem | null;
  readonly gone: boolean;
  /** Milliseconds since 1970. */
  readonly changedAt: number;
}

/** One image with all that is known of it. */
export interface ImageRecord extends ImageEntry {
  readonly note: string | null;
  readonly clusterSize: number | null;
  readonly ownId: string | null;
  readonly fingerprint: string | null;
  readonly facts: FactTree | null;
  readonly parts: readonly {
    readonly role: string;
    readonly path: string;
    readonly length: number;
    readonly allocated: number;
  }[];
  readonly snapshotList: readonly {
    readonly id: string;
    readonly name: string;
    readonly takenAt: number;
    readonly vmStateSize: number;
  }[];
  readonly parent: Edge | null;
  readonly childList: readonly Edge[];
  readonly digests: readonly {
    readonly kind: string;
    readonly algorithm: string;
    readonly value: string;
    readonly current: boolean;
  }[];
  readonly history: readonly { readonly at: number; readonly what: string; readonly detail: string }[];
}

export type ImageOrder = 'path' | 'format' | 'virtualSize' | 'allocated' | 'changed';

const allocatedOfAll = `i.allocated + coalesce((select sum(f.allocated) from image_file f where f.image_id = i.id), 0)`;

/** Terms of `order by`. */
const orders: Readonly<Record<ImageOrder, string | null>> = {
  path: null,
  format: 'i.format',
  virtualSize: 'i.virtual_size',
  allocated: allocatedOfAll,
  changed: 'cast(i.mtime_ns as integer)',
};

/** Which images; all conditions together. */
export interface ImageFilter {
  /** Ids of the datastores that may be seen; null: all. */
  readonly within?: readonly string[] | null;
  readonly datastore?: string | null;
  readonly format?: string | null;
  readonly tag?: string | null;
  /** Part of the path or the name. */
  readonly text?: string | null;
  /** Only those with a problem of their own or with their parent. */
  readonly problems?: boolean;
  /** Only those that others stand on. */
  readonly hasChildren?: boolean;
  /** `ok`: no problem, not dirty, not gone; `problem`: what `problems` means; null: whatever it is. */
  readonly health?: 'ok' | 'problem' | 'dirty' | 'gone' | null;
  /** What the list is in order by; default: datastore and path. */
  readonly order?: ImageOrder;
  readonly descending?: boolean;
  readonly limit?: number;
  readonly offset?: number;
}

interface EntryRow {
  id: string;
  datastore: string;
  path: string;
  file: string;
  name: string | null;
  tags: string | null;
  format: string | null;
  subformat: string | null;
  virtual_size: number | null;
  file_length: number;
  allocated: number;
  encrypted: number;
  dirty: number;
  snapshots: number;
  children: number;
  parent_state: EdgeState | null;
  broken_below: string | null;
  problem_code: string | null;
  problem_text: string | null;
  problem_detail: string | null;
  gone_at: number | null;
  mtime_ns: string;
}

const entryRows = `select i.id, d.name as datastore, i.path, d.path || '/' || i.path as file, n.name, i.format, i.subformat, i.virtual_size,
  i.file_length, i.encrypted, i.dirty, i.problem_code, i.problem_text, i.problem_detail, i.gone_at, i.mtime_ns, l.state as parent_state,
  ${allocatedOfAll} as allocated,
  (select group_concat(tag, char(10)) from image_tag t where t.image_id = i.id) as tags,
  (select count(*) from snapshot s where s.image_id = i.id) as snapshots,
  (select count(*) from lineage c where c.parent_id = i.id) as children,
  case when l.parent_id is null then null else (
    with recursive below (id, depth) as (
      select l.parent_id, 1
      union all
      select b.parent_id, below.depth + 1 from lineage b join below on b.child_id = below.id
      where b.parent_id is not null and below.depth < 200
    )
    select json_array(p.id, s.path || '/' || p.path,
      case when p.gone_at is not null then 'gone' when p.problem_code is not null then 'unreadable' else e.state end)
    from below join image p on p.id = below.id join datastore s on s.id = p.datastore_id
    left join lineage e on e.child_id = p.id
    where p.gone_at is not null or p.problem_code is not null or e.state in ('missing', 'changed', 'touched', 'loop', 'refused')
    order by case when p.gone_at is not null or p.problem_code is not null or e.state not in ('changed', 'touched') then 0
      when e.state = 'changed' then 1 else 2 end, below.depth limit 1
  ) end as broken_below
  from image i join datastore d on d.id = i.datastore_id
  left join image_note n on n.image_id = i.id left join lineage l on l.child_id = i.id`;

const ill = `(i.problem_code is not null or i.gone_at is not null or l.state in ('missing', 'changed', 'touched', 'loop', 'refused'))`;

const conditions = `where (:within is null or d.id in (select value from json_each(:within)))
       and (:datastore is null or d.name = :datastore or d.id = :datastore)
       and (:format is null or i.format = :format)
       and (:tag is null or exists (select 1 from image_tag t where t.image_id = i.id and t.tag = :tag))
       and (:text is null or instr(lower(i.path), lower(:text)) > 0 or instr(lower(coalesce(n.name, '')), lower(:text)) > 0)
       and (:problems = 0 or ${ill})
       and (:has_children = 0 or exists (select 1 from lineage c where c.parent_id = i.id))
       and (:health is null or (:health = 'gone' and i.gone_at is not null) or (:health = 'dirty' and i.dirty <> 0)
            or (:health = 'problem' and ${ill}) or (:health = 'ok' and i.dirty = 0 and not coalesce(${ill}, 0)))`;

function conditionValues(filter: ImageFilter): Values {
  return {
    within: filter.within === undefined || filter.within === null ? null : JSON.stringify(filter.within),
    datastore: filter.datastore ?? null,
    format: filter.format ?? null,
    tag: filter.tag ?? null,
    text: filter.text ?? null,
    problems: Number(filter.problems ?? false),
    has_children: Number(filter.hasChildren ?? false),
    health: filter.health ?? null,
  };
}

/** How many images meet the filter. */
export function countImages({ database }: Catalogue, filter: ImageFilter = {}): number {
  const row = database.one<{ count: number }>(
    `select count(*) as count from image i join datastore d on d.id = i.datastore_id
     left join image_note n on n.image_id = i.id left join lineage l on l.child_id = i.id ${conditions}`,
    conditionValues(filter),
  );
  return row?.count ?? 0;
}

/** The images that meet the filter, by datastore and path unless another order is asked for. At most `limit` (default 1000) from `offset`. */
export function listImages({ database }: Catalogue, filter: ImageFilter = {}): ImageEntry[] {
  return database
    .all<EntryRow>(`${entryRows} ${conditions} order by ${orderOf(filter)} limit :limit offset :offset`, {
      ...conditionValues(filter),
      limit: filter.limit ?? 1000,
      offset: filter.offset ?? 0,
    })
    .map(entryOf);
}

/** Where an image stands in a list: counted from 0. */
export interface ImagePlace {
  readonly place: number;
  readonly image: ImageEntry;
}

/** Those of the images `ids` that meet the filter, with where they stand in the list that `listImages` gives without a limit; in that order. */
export function placesOf({ database }: Catalogue, ids: readonly string[], filter: ImageFilter = {}): ImagePlace[] {
  return database
    .all<EntryRow & { place: number }>(
      `with placed as (
         select i.id, row_number() over (order by ${orderOf(filter)}) - 1 as place
         from image i join datastore d on d.id = i.datastore_id
         left join image_note n on n.image_id = i.id left join lineage l on l.child_id = i.id ${conditions})
       ${entryRows.replace('select ', 'select placed.place, ')} join placed on placed.id = i.id
       where i.id in (select value from json_each(:ids)) order by placed.place`,
      { ...conditionValues(filter), ids: JSON.stringify(ids) },
    )
    .map((row) => ({ place: row.place, image: entryOf(row) }));
}

function orderOf({ order, descending }: ImageFilter): string {
  const direction = descending === true ? 'desc' : 'asc';
  const by = orders[order ?? 'path'];
  return [...(by === null ? [] : [`${by} ${direction}`]), `d.name ${direction}, i.path ${direction}`].join(', ');
}

function entryOf(row: EntryRow): ImageEntry {
  return {
    id: row.id,
    datastore: row.datastore,
    path: row.path,
    file: row.file,
    name: row.name,
    tags: row.tags === null ? [] : row.tags.split('\n').sort(),
    format: row.format,
    subformat: row.subformat,
    virtualSize: row.virtual_size,
    fileLength: row.file_length,
    allocated: row.allocated,
    encrypted: row.encrypted !== 0,
    dirty: row.dirty !== 0,
    snapshots: row.snapshots,
    children: row.children,
    parentState: row.parent_state,
    brokenBelow: brokenBelowOf(row.broken_below),
    problem: keptProblem(row),
    gone: row.gone_at !== null,
    changedAt: Math.floor(Number(BigInt(row.mtime_ns) / 1_000_000n)),
  };
}

function brokenBelowOf(text: string | null): BrokenBelow | null {
  if (text === null) return null;
  const [id, file, state] = JSON.parse(text) as [string, string, BrokenBelow['state']];
  return { id, file, state };
}

/** Every tag with the number of images that have it, the most used first; at most `limit`. `within` as in `ImageFilter`. */
export function listTags(
  { database }: Catalogue,
  within: readonly string[] | null = null,
  limit = 1000,
): { readonly tag: string; readonly images: number }[] {
  return database.all<{ tag: string; images: number }>(
    `select t.tag, count(*) as images from image_tag t join image i on i.id = t.image_id
     where :within is null or i.datastore_id in (select value from json_each(:within))
     group by t.tag order by images desc, t.tag limit :limit`,
    { within: within === null ? null : JSON.stringify(within), limit },
  );
}

/**
 * The id of the image that a person means: its id, the path of its file, its path in a datastore (`DATASTORE/PATH` or alone), or its name.
 * Throws `image/unknown`, `image/ambiguous`.
 */
export function resolveImage({ database }: Catalogue, text: string): string {
  const stat = statFileNow(text);
  const byFile =
    stat === null
      ? []
      : database.all<{ id: string; file: string }>(
          `select i.id, d.path || '/' || i.path as file from image i join datastore d on d.id = i.datastore_id
           where i.device = :device and i.inode = :inode and i.gone_at is null`,
          { device: stat.device, inode: stat.inode },
        );
  const found =
    byFile.length > 0
      ? byFile.slice(0, 1)
      : database.all<{ id: string; file: string }>(
          `select i.id, d.path || '/' || i.path as file from image i join datastore d on d.id = i.datastore_id
           left join image_note n on n.image_id = i.id
           where i.id = :text or i.path = :text or d.name || '/' || i.path = :text or d.path || '/' || i.path = :absolute or n.name = :text`,
          { text, absolute: path.resolve(text) },
        );
  const [first, second] = found;
  if (first === undefined) throw new ImageError('image/unknown', { name: text });
  if (second !== undefined) {
    const named = found
      .slice(0, 3)
      .map(({ file }) => file)
      .join(', ');
    throw new ImageError('image/ambiguous', { name: text, count: found.length, named });
  }
  return first.id;
}

/** All that is known of one image. Throws `image/unknown`. */
export function imageRecord(catalogue: Catalogue, id: string): ImageRecord {
  const { database } = catalogue;
  const row = database.one<EntryRow>(`${entryRows} where i.id = :id`, { id });
  const more = database.one<{
    note: string | null;
    cluster_size: number | null;
    own_id: string | null;
    fingerprint: string | null;
    facts: string | null;
  }>(
    `select n.note, i.cluster_size, i.own_id, i.fingerprint, i.facts from image i left join image_note n on n.image_id = i.id where i.id = :id`,
    { id },
  );
  if (row === null || more === null) throw new ImageError('image/unknown', { name: id });
  return {
    ...entryOf(row),
    note: more.note,
    clusterSize: more.cluster_size,
    ownId: more.own_id,
    fingerprint: more.fingerprint,
    facts: more.facts === null ? null : (JSON.parse(more.facts) as FactTree),
    parts: database.all('select role, path, length, allocated from image_file where image_id = :id order by role', {
      id,
    }),
    snapshotList: database.all(
      'select id, name, taken_at as takenAt, vm_state_size as vmStateSize from snapshot where image_id = :id order by taken_at, id',
      { id },
    ),
    parent: parentEdge(catalogue, id),
    childList: childEdges(catalogue, id),
    digests: database
      .all<{ kind: string; algorithm: string; value: string; current: number }>(
        `select g.kind, g.algorithm, g.value, g.mtime_ns = i.mtime_ns and g.file_length = i.file_length as current
         from digest g join image i on i.id = g.image_id where g.image_id = :id order by g.kind, g.algorithm`,
        { id },
      )
      .map((digest) => ({ ...digest, current: digest.current !== 0 })),
    history: database.all('select at, what, detail from history where image_id = :id order by number desc limit 100', {
      id,
    }),
  };
}

/** Gives an image a name and a note of a person; null takes it away, undefined leaves it. Throws `image/unknown`. */
export function writeNote(
  { database }: Catalogue,
  id: string,
  text: { name?: string | null; note?: string | null },
): void {
  database.transaction(() => {
    requireImage(database, id);
    const before = database.one<{ name: string | null; note: string | null }>(
      'select name, note from image_note where image_id = :id',
      { id },
    );
    const name = text.name === undefined ? (before?.name ?? null) : text.name;
    const note = text.note === undefined ? (before?.note ?? null) : text.note;
    if (name === null && note === null) database.run('delete from image_note where image_id = :id', { id });
    else {
      database.run('insert or replace into image_note (image_id, name, note) values (:id, :name, :note)', {
        id,
        name,
        note,
      });
    }
  });
}

/** Adds and takes away tags. Throws `image/unknown`. */
export function writeTags(
  { database }: Catalogue,
  id: string,
  change: { add: readonly string[]; remove: readonly string[] },
): void {
  database.transaction(() => {
    requireImage(database, id);
    for (const tag of change.add)
      database.run('insert or ignore into image_tag (image_id, tag) values (:id, :tag)', { id, tag });
    for (const tag of change.remove)
      database.run('delete from image_tag where image_id = :id and tag = :tag', { id, tag });
  });
}

function requireImage(database: Catalogue['database'], id: string): void {
  if (database.one('select 1 from image where id = :id', { id }) === null)
    throw new ImageError('image/unknown', { name: id });
}

/** Writes down what was done to an image. `detail` is JSON or a sentence. */
export function remember({ database }: Catalogue, id: string, what: string, detail: string): void {
  database.run('insert into history (image_id, at, what, detail) values (:id, :at, :what, :detail)', {
    id,
    at: Date.now(),
    what,
    detail,
  });
}
