// The graph of one file and what it stands on, read from the files themselves: for files that no catalogue knows.
import path from 'node:path';
import { ImageError } from '../errors/image-error.ts';
import { resolveReference } from '../formats/gate.ts';
import type { GraphEdge, GraphNode, ImageGraph } from './graph.ts';
import { describeFile, type Description } from './scan/describe.ts';
import { statFileNow } from './scan/walk.ts';

/** The deepest chain that is followed. */
const deepest = 200;
/** Internal snapshots of one image that are named at most. */
const mostSnapshots = 8;

/**
 * What the image at `file` stands on, each layer with the state of the reference to it; only heads of files are read. Ids are paths. Throws
 * `image/unknown` for what is no image, and why the file itself cannot be read.
 */
export function graphOfFile(file: string): ImageGraph {
  const top = read(file, null);
  if (top.error !== null) throw top.error;
  if (top.node.kind === 'missing') throw new ImageError('image/unknown', { name: file }, { file });
  const nodes = [top.node];
  const edges: GraphEdge[] = [];
  const seen = new Set([key(file)]);
  let at = { file, description: top.description };
  while (nodes.length < deepest) {
    const parent = at.description?.parent ?? null;
    if (parent === null) break;
    const { reference, names, format, expected } = parent;
    const { found, refused } = lookFor(at.file, names.length === 0 ? [reference] : names);
    const place = found ?? reference;
    const edge = { child: at.file, parent: place, reference, expected };
    if (found !== null && seen.has(key(found))) {
      const again = nodes.find((node) => key(node.id) === key(found))?.id ?? found;
      edges.push({ ...edge, parent: again, found: null, state: 'loop' });
      break;
    }
    const below = read(place, format);
    const own = below.description?.own ?? null;
    const isExpected =
      expected.length === 0 ||
      (own !== null &&
        expected.some(
          ({ id, version }) => id === own.id && (version === null || own.version === null || version === own.version),
        ));
    const missing = below.node.kind === 'missing';
    const state = refused ? 'refused' : missing ? 'missing' : isExpected || below.error !== null ? 'whole' : 'changed';
    nodes.push({ ...below.node, children: 1, above: nodes.length });
    edges.push({ ...edge, found: own, state });
    seen.add(key(place));
    at = { file: place, description: below.description };
  }
  return { nodes, edges, total: nodes.length };
}

/** The first of the names that leads to a file; else where the first was sought. */
function lookFor(from: string, names: readonly string[]): { readonly found: string | null; readonly refused: boolean } {
  let sought: string | null = null;
  for (const name of names) {
    try {
      const file = resolveReference(from, name);
      if (statFileNow(file) !== null) return { found: file, refused: false };
      sought ??= file;
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
    }
  }
  return { found: sought, refused: sought === null };
}

/** One file under two names is one layer. */
function key(file: string): string {
  const stat = statFileNow(file);
  return stat === null ? path.resolve(file) : `${stat.device}:${stat.inode}`;
}

interface Read {
  readonly node: GraphNode;
  readonly description: Description | null;
  readonly error: ImageError | null;
}

/** `recorded`: the format that the layer above has written down for it. */
function read(file: string, recorded: string | null): Read {
  const stat = statFileNow(file);
  const described = stat === null ? null : describeFile(file);
  const description = described?.kind === 'image' ? described.description : null;
  const error = described?.kind === 'problem' ? described.error : null;
  const node: GraphNode = {
    id: file,
    kind: stat === null ? 'missing' : 'outside',
    name: null,
    file,
    datastore: null,
    // A stated format is believed: what a guest wrote to a raw disk is no sign of another one.
    format: recorded ?? description?.format ?? null,
    subformat: description?.subformat ?? null,
    virtualSize: description?.virtualSize ?? null,
    allocated:
      stat === null
        ? null
        : (description?.parts ?? []).reduce((sum, part) => sum + part.stat.allocated, stat.allocated),
    health: stat === null ? 'gone' : error !== null ? 'problem' : description?.dirty === true ? 'dirty' : 'ok',
    problem: error?.message ?? null,
    encrypted: description?.encrypted ?? false,
    snapshots: {
      count: description?.snapshots.length ?? 0,
      first: (description?.snapshots ?? []).slice(0, mostSnapshots).map(({ id, name }) => ({ id, name })),
    },
    children: 0,
    above: 0,
  };
  const isRaw = recorded === 'raw' && description?.format !== 'raw';
  const plain = isRaw ? { ...node, virtualSize: stat?.length ?? null, health: 'ok' as const, problem: null } : node;
  return { node: plain, description: isRaw ? null : description, error: isRaw ? null : error };
}
