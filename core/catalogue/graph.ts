// The graph of the lineage: every relative of an image, or of all images, with what is known of each without opening any.
import path from 'node:path';
import type { ContentIdentity } from '../formats/driver.ts';
import { ImageError } from '../errors/image-error.ts';
import { resolveReference } from '../formats/gate.ts';
import type { Catalogue } from './catalogue.ts';
import type { EdgeState } from './lineage.ts';

/** Internal snapshots of one image that are named at most. */
const mostSnapshots = 8;

/**
 * A file in the graph. `image`: the catalogue knows it (sizes in bytes); `missing`: somebody stands on it, and it is not there; `outside`:
 * it is there, in no datastore that may be seen.
 */
export interface GraphNode {
  /** The id of the image; of another file its path behind `file:`. */
  readonly id: string;
  readonly kind: 'image' | 'missing' | 'outside';
  /** What a person calls it; null: it goes by its file name. */
  readonly name: string | null;
  readonly file: string;
  readonly datastore: string | null;
  readonly format: string | null;
  readonly subformat: string | null;
  readonly virtualSize: number | null;
  /** Bytes that its files take on the host; null: not known. */
  readonly allocated: number | null;
  readonly health: 'ok' | 'problem' | 'dirty' | 'gone';
  /** Why it cannot be read; null: nothing is wrong with itself. */
  readonly problem: string | null;
  readonly encrypted: boolean;
  readonly snapshots: {
    readonly count: number;
    readonly first: readonly { readonly id: string; readonly name: string }[];
  };
  /** Images directly and at any height above it, also those that are left out of the graph. */
  readonly children: number;
  readonly above: number;
}

/** A child stands on its parent; with what was expected there and what was found if that is known. */
export interface GraphEdge {
  readonly child: string;
  readonly parent: string;
  readonly state: EdgeState;
  /** As it stands in the child. */
  readonly reference: string;
  readonly expected: readonly ContentIdentity[];
  readonly found: ContentIdentity | null;
}

/** `total`: relatives that there are; nodes are the first of them, always with what the image stands on. */
export interface ImageGraph {
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
  readonly total: number;
}

interface LinkRow {
  readonly child_id: string;
  readonly file: string;
  readonly parent_id: string | null;
  readonly full_path: string | null;
  readonly reference: string;
  readonly reference_format: string | null;
  readonly parent_names: string;
  readonly expected: string;
  readonly found_id: string | null;
  readonly found_version: string | null;
  readonly state: EdgeState;
}

/** A file in no datastore, and the way to it. */
interface OtherFile {
  readonly kind: 'missing' | 'outside';
  readonly file: string;
  readonly format: string | null;
}

/** Which graph. `within`: ids of the datastores that may be seen, null: all. `limit`: nodes at most. */
export interface GraphRequest {
  /** Null: every image that has a relative. */
  readonly id: string | null;
  readonly limit: number;
  readonly within?: readonly string[] | null;
}

/**
 * The relatives of an image over all datastores and formats: what it stands on, what stands on it, and what stands beside it. Of many the
 * image's own chain comes first, then what stands on it, then the others, those lower down first. Throws `image/unknown`.
 */
export function imageGraph({ database }: Catalogue, { id, limit, within = null }: GraphRequest): ImageGraph {
  const seen = within === null ? null : JSON.stringify(within);
  const links = database.all<LinkRow>(
    `select l.child_id, d.path || '/' || i.path as file, l.full_path, l.reference, l.reference_format, l.parent_names, l.expected,
       l.found_id, l.found_version, l.state,
       case when :seen is null or p.datastore_id in (select value from json_each(:seen)) then l.parent_id end as parent_id
     from lineage l join image i on i.id = l.child_id join datastore d on d.id = i.datastore_id
     left join image p on p.id = l.parent_id
     where :seen is null or i.datastore_id in (select value from json_each(:seen)) order by d.name, i.path`,
    { seen },
  );
  const gone = new Map(
    database
      .all<{ id: string; file: string }>(
        `select i.id, d.path || '/' || i.path as file from image i join datastore d on d.id = i.datastore_id where i.gone_at is not null
           and (:seen is null or i.datastore_id in (select value from json_each(:seen)))`,
        { seen },
      )
      .map(({ id, file }) => [file, id]),
  );
  const family = new Family(links, gone);
  const order = id === null ? family.everyone() : family.relatives(id);
  const chosen = order.slice(0, limit);
  const nodes = describe(database, chosen, family);
  if (id !== null && !nodes.some((node) => node.id === id)) throw new ImageError('image/unknown', { name: id });
  const shown = new Set(nodes.map((node) => node.id));
  const edges = nodes.flatMap((node) => {
    const link = family.linkOf.get(node.id);
    const parent = family.parentOf.get(node.id);
    if (link === undefined || parent === undefined || !shown.has(parent)) return [];
    return [
      {
        child: node.id,
        parent,
        state: link.state,
        reference: link.reference,
        expected: (JSON.parse(link.expected) as ContentIdentity[]).slice(0, 2),
        found: link.found_id === null ? null : { id: link.found_id, version: link.found_version },
      },
    ];
  });
  return { nodes, edges, total: order.length };
}

/** Who stands on whom: each has one parent at most, which may be a file that no datastore holds. */
class Family {
  readonly linkOf = new Map<string, LinkRow>();
  readonly parentOf = new Map<string, string>();
  readonly childrenOf = new Map<string, string[]>();
  readonly others = new Map<string, OtherFile>();

  constructor(links: readonly LinkRow[], gone: ReadonlyMap<string, string>) {
    for (const link of links) {
      const parent = link.parent_id ?? this.#other(link, gone);
      this.linkOf.set(link.child_id, link);
      this.parentOf.set(link.child_id, parent);
      const children = this.childrenOf.get(parent);
      if (children === undefined) this.childrenOf.set(parent, [link.child_id]);
      else children.push(link.child_id);
    }
  }

  /** The key of a parent that is no image of the catalogue, or of one that is gone. */
  #other(link: LinkRow, gone: ReadonlyMap<string, string>): string {
    const file = path.normalize(link.full_path ?? placeSought(link));
    const was = gone.get(file);
    if (was !== undefined && was !== link.child_id) return was;
    const key = `file:${file}`;
    const kind = link.full_path === null ? 'missing' : 'outside';
    if (!this.others.has(key)) this.others.set(key, { kind, file, format: link.reference_format });
    return key;
  }

  /** What an image stands on, the nearest first; ends where a loop closes. */
  #below(id: string): string[] {
    const chain = new Set([id]);
    for (let at = this.parentOf.get(id); at !== undefined && !chain.has(at); at = this.parentOf.get(at)) chain.add(at);
    return [...chain].slice(1);
  }

  /** `into` with everything above its members, level by level. */
  #withAbove(into: Set<string>): void {
    // A set hands out what is added to it while it is walked.
    for (const id of into) for (const child of this.childrenOf.get(id) ?? []) into.add(child);
  }

  relatives(id: string): string[] {
    const below = this.#below(id);
    const order = new Set([id]);
    this.#withAbove(order);
    const [self = id, ...above] = order;
    const first = new Set([self, ...below, ...above]);
    const whole = new Set([below.at(-1) ?? id]);
    this.#withAbove(whole);
    for (const other of whole) first.add(other);
    return [...first];
  }

  everyone(): string[] {
    const roots = [...this.childrenOf.keys()].filter((id) => !this.parentOf.has(id));
    const order = new Set(roots);
    this.#withAbove(order);
    // What is left goes round in circles.
    for (const id of this.parentOf.keys()) order.add(id);
    return [...order];
  }

  /** How many stand above each of `ids`. */
  countAbove(ids: readonly string[]): Map<string, number> {
    const counts = new Map<string, number>();
    const count = (start: string): void => {
      const way: { readonly id: string; next: number }[] = [{ id: start, next: 0 }];
      const open = new Set([start]);
      for (let top = way.at(-1); top !== undefined; top = way.at(-1)) {
        const children = this.childrenOf.get(top.id) ?? [];
        const child = children[top.next++];
        if (child === undefined) {
          way.pop();
          open.delete(top.id);
          counts.set(
            top.id,
            children.reduce((sum, one) => sum + 1 + (counts.get(one) ?? 0), 0),
          );
        } else if (!counts.has(child) && !open.has(child)) {
          way.push({ id: child, next: 0 });
          open.add(child);
        }
      }
    };
    for (const id of ids) if (!counts.has(id)) count(id);
    return counts;
  }
}

/** Where the parent was looked for first; a reference that names no file is its own place. */
function placeSought(link: LinkRow): string {
  const [name = link.reference] = JSON.parse(link.parent_names) as string[];
  try {
    return resolveReference(link.file, name);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return link.reference;
  }
}

interface NodeRow {
  readonly id: string;
  readonly name: string | null;
  readonly file: string;
  readonly datastore: string;
  readonly format: string | null;
  readonly subformat: string | null;
  readonly virtual_size: number | null;
  readonly allocated: number;
  readonly encrypted: number;
  readonly dirty: number;
  readonly problem_code: string | null;
  readonly problem_text: string | null;
  readonly gone_at: number | null;
}

function describe(database: Catalogue['database'], ids: readonly string[], family: Family): GraphNode[] {
  const asked = JSON.stringify(ids);
  const rows = new Map(
    database
      .all<NodeRow>(
        `select i.id, n.name, d.path || '/' || i.path as file, d.name as datastore, i.format, i.subformat, i.virtual_size,
           i.allocated + coalesce((select sum(f.allocated) from image_file f where f.image_id = i.id), 0) as allocated,
           i.encrypted, i.dirty, i.problem_code, i.problem_text, i.gone_at
         from json_each(:asked) a join image i on i.id = a.value join datastore d on d.id = i.datastore_id
         left join image_note n on n.image_id = i.id`,
        { asked },
      )
      .map((row) => [row.id, row]),
  );
  const snapshots = new Map<string, { count: number; first: { id: string; name: string }[] }>();
  for (const { image_id, id, name } of database.all<{ image_id: string; id: string; name: string }>(
    `select s.image_id, s.id, s.name from json_each(:asked) a join snapshot s on s.image_id = a.value order by s.image_id, s.taken_at, s.id`,
    { asked },
  )) {
    const list = snapshots.get(image_id) ?? { count: 0, first: [] };
    snapshots.set(image_id, list);
    list.count += 1;
    if (list.first.length < mostSnapshots) list.first.push({ id, name });
  }
  const above = family.countAbove(ids);
  return ids.flatMap((id): GraphNode[] => {
    const shared = {
      id,
      children: family.childrenOf.get(id)?.length ?? 0,
      above: above.get(id) ?? 0,
      snapshots: snapshots.get(id) ?? { count: 0, first: [] },
    };
    const other = family.others.get(id);
    if (other !== undefined) {
      const unknown = {
        name: null,
        datastore: null,
        subformat: null,
        virtualSize: null,
        allocated: null,
        problem: null,
      };
      const health = other.kind === 'missing' ? 'gone' : 'ok';
      return [{ ...shared, ...unknown, ...other, health, encrypted: false }];
    }
    const row = rows.get(id);
    if (row === undefined) return [];
    return [
      {
        ...shared,
        kind: 'image',
        name: row.name,
        file: row.file,
        datastore: row.datastore,
        format: row.format,
        subformat: row.subformat,
        virtualSize: row.virtual_size,
        allocated: row.allocated,
        health:
          row.gone_at !== null ? 'gone' : row.problem_code !== null ? 'problem' : row.dirty !== 0 ? 'dirty' : 'ok',
        problem: row.problem_text,
        encrypted: row.encrypted !== 0,
      },
    ];
  });
}
