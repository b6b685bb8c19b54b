// platter image: what the catalogue knows of images, who stands on whom, and what people write to them.
import type { Catalogue } from '../../core/catalogue/catalogue.ts';
import {
  imageRecord,
  listImages,
  resolveImage,
  writeNote,
  writeTags,
  type ImageEntry,
  type ImageRecord,
} from '../../core/catalogue/images.ts';
import { childEdges, dependentsOf, findParent, parentEdge } from '../../core/catalogue/lineage.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { inOrder } from '../json.ts';
import { CommandError, outLine, UsageError } from '../print.ts';
import { humanSize } from '../size.ts';
import { table } from '../table.ts';
import { openForCommand } from './datastore.ts';

export const spec = defineCommand({
  name: 'image',
  summary: 'ask the catalogue: list, show, tree, dependents, find-parent; name, note and tag images',
  opensImages: false,
  operands:
    'list | show IMAGE | tree [IMAGE] | dependents IMAGE | find-parent IMAGE | name IMAGE [NAME] | note IMAGE [TEXT] | tag IMAGE [+TAG|-TAG…]',
  options: {
    datastore: { short: 'd', long: ['datastore'], argument: 'NAME', meaning: 'list: only images of this datastore' },
    format: { short: 'f', long: ['format'], argument: 'FORMAT', meaning: 'list: only images of this format' },
    tag: { short: 't', long: ['tag'], argument: 'TAG', meaning: 'list: only images with this tag' },
    search: {
      short: 's',
      long: ['search'],
      argument: 'TEXT',
      meaning: 'list: only images with this in their path or name',
    },
    problems: { long: ['problems'], meaning: 'list: only images with a problem, of their own or with their parent' },
    output: sharedOptions.output,
  },
  notes: [
    'IMAGE is the path of a file, a path within a datastore (alone or as DATASTORE/PATH), a name that was given, or an id. ' +
      'A tag to take away begins with a minus sign: write it after --.',
    'Exit codes: 0 done; 1 it could not be done; find-parent: 2 when there is no candidate.',
  ],
  examples: [
    ['image list --problems', 'what needs attention'],
    ['image tree base.qcow2', 'everything that stands on this image'],
    ['image find-parent clone.vhd', 'where the lost parent might be'],
    ['image tag web1.qcow2 +production', 'mark an image'],
  ],
});

type Args = Arguments<keyof typeof spec.options>;
type Output = 'human' | 'json';

export async function run(args: Args): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const [verb = 'list', name, ...rest] = args.operands;
  const catalogue = openForCommand();
  try {
    if (verb === 'list') {
      if (name !== undefined) throw new UsageError(`Unexpected argument '${name}'`, spec.name);
      printList(list(catalogue, args), output);
      return await Promise.resolve(0);
    }
    if (verb === 'tree' && name === undefined) {
      printForest(catalogue, roots(catalogue), output);
      return 0;
    }
    if (!verbs.has(verb)) {
      throw new UsageError(`Unknown action '${verb}' (expecting list, ${[...verbs.keys()].join(', ')})`, spec.name);
    }
    if (name === undefined) throw new UsageError('Expecting an image', spec.name);
    return verbs.get(verb)?.(catalogue, resolveImage(catalogue, name), rest, output) ?? 1;
  } finally {
    catalogue.close();
  }
}

type Action = (catalogue: Catalogue, id: string, rest: readonly string[], output: Output) => number;

const verbs = new Map<string, Action>([
  [
    'show',
    (catalogue, id, _rest, output) => {
      printRecord(catalogue, imageRecord(catalogue, id), output);
      return 0;
    },
  ],
  [
    'tree',
    (catalogue, id, _rest, output) => {
      printForest(catalogue, [rootOf(catalogue, id)], output);
      return 0;
    },
  ],
  [
    'dependents',
    (catalogue, id, _rest, output) => {
      const files = dependentsOf(catalogue, id).map((one) => imageRecord(catalogue, one).file);
      if (output === 'json') outLine(inOrder(files));
      else files.forEach((file) => outLine(file));
      return 0;
    },
  ],
  [
    'find-parent',
    (catalogue, id, _rest, output) => {
      const candidates = findParent(catalogue, id);
      if (output === 'json') outLine(inOrder(candidates));
      else for (const { file, by } of candidates) outLine(`${file} (by ${by})`);
      return candidates.length > 0 ? 0 : 2;
    },
  ],
  [
    'name',
    (catalogue, id, rest) => {
      writeNote(catalogue, id, { name: text(rest) });
      return 0;
    },
  ],
  [
    'note',
    (catalogue, id, rest) => {
      writeNote(catalogue, id, { note: text(rest) });
      return 0;
    },
  ],
  [
    'tag',
    (catalogue, id, rest) => {
      const add = rest.filter((tag) => !tag.startsWith('-')).map((tag) => tag.replace(/^\+/, ''));
      const remove = rest.filter((tag) => tag.startsWith('-')).map((tag) => tag.slice(1));
      writeTags(catalogue, id, { add, remove });
      outLine(imageRecord(catalogue, id).tags.join(' '));
      return 0;
    },
  ],
]);

/** The words as one text; nothing: null, which takes it away. */
function text(words: readonly string[]): string | null {
  return words.length === 0 ? null : words.join(' ');
}

const page = 1000;

function list(catalogue: Catalogue, args: Args): ImageEntry[] {
  const filter = {
    datastore: args.last('datastore'),
    format: args.last('format'),
    tag: args.last('tag'),
    text: args.last('search'),
    problems: args.has('problems'),
  };
  const entries: ImageEntry[] = [];
  for (;;) {
    const more = listImages(catalogue, { ...filter, limit: page, offset: entries.length });
    entries.push(...more);
    if (more.length < page) return entries;
  }
}

function printList(entries: readonly ImageEntry[], output: Output): void {
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

function printRecord(catalogue: Catalogue, image: ImageRecord, output: Output): void {
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
function rootOf(catalogue: Catalogue, id: string): string {
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
function roots(catalogue: Catalogue): string[] {
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

function printForest(catalogue: Catalogue, ids: readonly string[], output: Output): void {
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
