// Images of the catalogue as a terminal shows them: lists, one image, trees.
import type { Catalogue } from '../core/catalogue/catalogue.ts';
import {
  imageRecord,
  listImages,
  type ImageEntry,
  type ImageFilter,
  type ImageRecord,
} from '../core/catalogue/images.ts';
import { childEdges, parentEdge } from '../core/catalogue/lineage.ts';
import { inOrder } from './json.ts';
import { outLine } from './print.ts';
import { humanSize } from './size.ts';
import { table } from './table.ts';

export type Output = 'human' | 'json';

const page = 1000;

export function listAll(catalogue: Catalogue, filter: ImageFilter): ImageEntry[] {
  const entries: ImageEntry[] = [];
  for (;;) {
    const more = listImages(catalogue, { ...filter, limit: page, offset: entries.length });
    entries.push(...more);
    if (more.length < page) return entries;
  }
}

export function printList(entries: readonly ImageEntry[], output: Output): void {
  if (output === 'json') {
    outLine(inOrder(entries));
    return;
  }
  const rows = entries.map((image) => [
    `${image.datastore}/${image.path}`,
    image.name ?? '-',
    image.format === null ? '?' : `${image.format}${image.subformat === null ? '' : `/${image.subformat}`}`,
    image.virtualSize === null ? '-' : humanSize(image.virtualSize),
    humanSize(image.allocated),
    String(image.children),
    stateOf(image),
  ]);
  for (const line of table(['IMAGE', 'NAME', 'FORMAT', 'SIZE', 'ON DISK', 'CHILDREN', 'STATE'], rows)) outLine(line);
}

function stateOf({ gone, problem, parentState, dirty }: ImageEntry): string {
  if (gone) return 'gone';
  if (problem !== null) return problem.text;
  if (parentState !== null && parentState !== 'whole' && parentState !== 'outside') return `parent ${parentState}`;
  return dirty ? 'not closed cleanly' : 'ok';
}

export function printRecord(catalogue: Catalogue, image: ImageRecord, output: Output): void {
  if (output === 'json') {
    outLine(inOrder(image));
    return;
  }
  const size = (bytes: number): string => `${humanSize(bytes)} (${bytes} bytes)`;
  outLine(`image: ${image.file}`);
  outLine(`id: ${image.id}`);
  outLine(`datastore: ${image.datastore}`);
  if (image.name !== null) outLine(`name: ${image.name}`);
  if (image.note !== null) outLine(`note: ${image.note}`);
  if (image.tags.length > 0) outLine(`tags: ${image.tags.join(' ')}`);
  outLine(`state: ${stateOf(image)}`);
  if (image.format !== null)
    outLine(`format: ${image.format}${image.subformat === null ? '' : ` (${image.subformat})`}`);
  if (image.virtualSize !== null) outLine(`virtual size: ${size(image.virtualSize)}`);
  outLine(`file length: ${size(image.fileLength)}`);
  outLine(`on disk: ${size(image.allocated)}`);
  if (image.ownId !== null) outLine(`identity: ${image.ownId}`);
  for (const part of image.parts) outLine(`${part.role}: ${part.path}`);
  const { parent } = image;
  if (parent !== null) {
    const where = parent.fullPath !== null && parent.fullPath !== parent.reference ? ` (${parent.fullPath})` : '';
    outLine(`parent: ${parent.reference}${where}: ${parent.state}`);
  }
  for (const { childId } of image.childList) outLine(`child: ${imageRecord(catalogue, childId).file}`);
  for (const snapshot of image.snapshotList) outLine(`snapshot: ${snapshot.id} ${snapshot.name}`);
  for (const digest of image.digests) {
    outLine(
      `${digest.kind} digest: ${digest.algorithm} ${digest.value}${digest.current ? '' : ' (of an earlier state)'}`,
    );
  }
}

/** The image at the bottom of a chain, as far as the catalogue knows it. */
export function rootOf(catalogue: Catalogue, id: string): string {
  const seen = new Set<string>();
  let at = id;
  for (;;) {
    seen.add(at);
    const below = parentEdge(catalogue, at)?.parentId ?? null;
    if (below === null || seen.has(below)) return at;
    at = below;
  }
}

/** Images that others stand on and that stand on none that is known. */
export function roots(catalogue: Catalogue): string[] {
  return catalogue.database
    .all<{ id: string }>(
      `select i.id from image i join datastore d on d.id = i.datastore_id
       where exists (select 1 from lineage l where l.parent_id = i.id)
         and not exists (select 1 from lineage l where l.child_id = i.id and l.parent_id is not null)
       order by d.name, i.path`,
    )
    .map(({ id }) => id);
}

interface Branch {
  readonly id: string;
  readonly file: string;
  readonly format: string | null;
  readonly state: string;
  readonly children: readonly Branch[];
}

function branch(catalogue: Catalogue, id: string, above: ReadonlySet<string>): Branch {
  const image = imageRecord(catalogue, id);
  const inside = new Set([...above, id]);
  const children = childEdges(catalogue, id).filter(({ childId }) => !inside.has(childId));
  return {
    id,
    file: image.file,
    format: image.format,
    state: stateOf(image),
    children: children
      .map(({ childId }) => branch(catalogue, childId, inside))
      .sort((a, b) => (a.file < b.file ? -1 : 1)),
  };
}

export function printForest(catalogue: Catalogue, ids: readonly string[], output: Output): void {
  const trees = ids.map((id) => branch(catalogue, id, new Set()));
  if (output === 'json') {
    outLine(inOrder(trees));
    return;
  }
  for (const tree of trees) printBranch(tree, '', '');
}

function printBranch({ file, format, state, children }: Branch, lead: string, inner: string): void {
  outLine(`${lead}${file} [${format ?? '?'}]${state === 'ok' ? '' : ` ${state}`}`);
  children.forEach((child, index) => {
    const isLast = index === children.length - 1;
    printBranch(child, inner + (isLast ? '└─ ' : '├─ '), inner + (isLast ? '   ' : '│  '));
  });
}
