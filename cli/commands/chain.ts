// platter chain: what an image stands on and what stands on it, and which layer supplies a sector.
import path from 'node:path';
import { openExistingCatalogue, type Catalogue } from '../../core/catalogue/catalogue.ts';
import { imageGraph, type ImageGraph } from '../../core/catalogue/graph.ts';
import { graphOfFile } from '../../core/catalogue/graph-of-file.ts';
import { resolveImage } from '../../core/catalogue/images.ts';
import { cataloguePath } from '../../core/catalogue/location.ts';
import { rereadImage } from '../../core/catalogue/reread.ts';
import { statFileNow } from '../../core/catalogue/scan/walk.ts';
import { ImageError } from '../../core/errors/image-error.ts';
import { openImage } from '../../core/formats/open.ts';
import type { PlaceFacts } from '../../core/workbench/contract.ts';
import { placeOf } from '../../core/workbench/images/place.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { printTree } from '../chain-tree.ts';
import { chosenPolicy } from '../gate-policy.ts';
import { nameImage } from '../image-options.ts';
import { inOrder } from '../json.ts';
import { readObjects } from '../objects.ts';
import { secretSource } from '../passphrase.ts';
import { CommandError, openFailure, outLine, UsageError, warn } from '../print.ts';
import { attemptOpen } from './map.ts';

/** Images that are shown at most. */
const most = 2000;
const sectorSize = 512;

export const spec = defineCommand({
  name: 'chain',
  summary: 'show what an image stands on and what stands on it, and which layer supplies a sector',
  operands: 'IMAGE',
  options: {
    output: sharedOptions.output,
    sector: {
      long: ['sector'],
      argument: 'N',
      meaning: 'say which layer supplies this sector of 512 bytes, and where it is stored',
    },
    share: sharedOptions.share,
    object: sharedOptions.object,
  },
  notes: [
    'IMAGE is a path, or an image of the catalogue by its path there, its name or its id. What stands on an image is known from the ' +
      'catalogue; of a file that it does not know, what the files themselves say is shown: the layers below.',
    'Marks: ● the image, ✕ broken, ! to be looked at, ◦ an internal snapshot, ◀ the layer that supplies the sector.',
    'Exit codes: 0 every reference is whole; 1 it could not be done; 2 a layer is missing, or not the one that is expected.',
  ],
  examples: [
    ['chain web1.qcow2', 'the tree of its bases and overlays'],
    ['chain --sector 2048 web1.qcow2', 'which layer supplies the first sector of the first partition'],
    ['chain --output=json web1.qcow2', 'nodes and edges for a script'],
  ],
});

type Args = Arguments<keyof typeof spec.options>;

export function run(args: Args): Promise<number> {
  return Promise.resolve().then(() => showChain(args));
}

function showChain(args: Args): number {
  const output = readOutput(args, (text) => new CommandError(text));
  const [name, ...others] = args.operands;
  if (name === undefined || others.length > 0) throw new UsageError('Expecting one image', spec.name);
  const sector = readSector(args.last('sector'));
  const { graph, id, file } = known(name) ?? read(name);
  const place = sector === null ? null : whoSupplies(args, file, sector);
  const supplier = place === null || place.kind === 'unallocated' ? null : layerOf(graph, place, file);
  if (output === 'json') {
    outLine(
      inOrder({
        image: id,
        ...graph,
        ...(place === null ? {} : { sector: { lba: sector, node: supplier, ...place } }),
      }),
    );
  } else {
    printTree(graph, id, supplier);
    if (place !== null && sector !== null) outLine(placeLine(sector, place));
  }
  const broken = graph.edges.some(({ state }) => state !== 'whole' && state !== 'outside');
  return broken || graph.nodes.some(({ health }) => health === 'problem') ? 2 : 0;
}

interface Shown {
  readonly graph: ImageGraph;
  /** Of its node. */
  readonly id: string;
  readonly file: string;
}

/** What the catalogue knows, with the files read again that have changed since; null: it does not know the image, or cannot be asked. */
function known(name: string): Shown | null {
  try {
    const catalogue = openExistingCatalogue(cataloguePath(), chosenPolicy().policy);
    if (catalogue === null) return null;
    try {
      const id = resolveImage(catalogue, name);
      const graph = currentGraph(catalogue, id);
      const file = graph.nodes.find((node) => node.id === id)?.file ?? name;
      return { graph, id, file };
    } finally {
      catalogue.close();
    }
  } catch (error) {
    if (!(error instanceof ImageError) || error.code === 'image/ambiguous') throw error;
    if (error.code !== 'image/unknown') warn(`the catalogue was not asked: ${error.message}`);
    return null;
  }
}

function currentGraph(catalogue: Catalogue, id: string): ImageGraph {
  const read = new Set<string>();
  for (;;) {
    const graph = imageGraph(catalogue, { id, limit: most });
    const stale = graph.nodes.filter((node) => node.kind === 'image' && !read.has(node.id) && isStale(catalogue, node));
    if (stale.length === 0) return graph;
    for (const node of stale) {
      read.add(node.id);
      rereadImage(catalogue, node.id);
    }
  }
}

function isStale({ database }: Catalogue, { id, file, health }: { id: string; file: string; health: string }): boolean {
  const row = database.one<{ mtime_ns: string; file_length: number }>(
    'select mtime_ns, file_length from image where id = :id',
    { id },
  );
  const stat = statFileNow(file);
  if (stat === null || row === null) return health !== 'gone';
  return health === 'gone' || stat.mtimeNs !== row.mtime_ns || stat.length !== row.file_length;
}

function read(name: string): Shown {
  try {
    return { graph: graphOfFile(name), id: name, file: name };
  } catch (error) {
    throw openFailure(name, error);
  }
}

function readSector(text: string | null): number | null {
  if (text === null) return null;
  const sector = /^(0x[0-9a-fA-F]+|[0-9]+)$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(sector * sectorSize)) throw new CommandError(`'${text}' is no number of a sector.`);
  return sector;
}

function whoSupplies(args: Args, file: string, sector: number): PlaceFacts {
  const secret = secretSource(readObjects(args.all('object')));
  const named = nameImage(file, { share: args.has('share'), secret });
  const { node } = attemptOpen(named.name, () => openImage(named.path, named.options));
  try {
    if (sector * sectorSize >= node.size) {
      const last = Math.ceil(node.size / sectorSize) - 1;
      throw new CommandError(`The disk has no sector ${sector}; its last one is ${last}.`);
    }
    return placeOf(node, node, sector * sectorSize);
  } finally {
    node.close();
  }
}

/** The node of the layer: so many steps below the image. */
function layerOf(graph: ImageGraph, { depth, layer }: PlaceFacts, file: string): string | null {
  const below = new Map(graph.edges.map(({ child, parent }) => [child, parent]));
  let at = graph.nodes.find((node) => node.file === file)?.id;
  for (let step = 0; step < depth && at !== undefined; step++) at = below.get(at);
  return at ?? graph.nodes.find((node) => path.resolve(node.file) === path.resolve(layer))?.id ?? null;
}

function placeLine(sector: number, place: PlaceFacts): string {
  const steps = place.depth === 0 ? 'the image itself' : `${place.depth} below`;
  const stored = place.file === null || place.offset === null ? '' : ` at ${place.offset} of ${place.file}`;
  const kinds = {
    data: 'data',
    encrypted: 'encrypted data',
    packed: 'compressed data',
    zero: 'zeroes that are written down',
    unallocated: 'nothing in any layer: zeroes',
    unreadable: `cannot be read: ${place.fault?.text ?? ''}`,
  } as const;
  return `sector ${sector} (byte ${sector * sectorSize}): ${place.layer} (${steps}): ${kinds[place.kind]}${stored}`;
}
