// What images may pull in, as it was decided once and is kept in the catalogue: the window only asks and writes down the answer.
import path from 'node:path';
import { leadsTo, standsBelow } from '../block/host/names.ts';
import type { Catalogue } from '../catalogue/catalogue.ts';
import { readSetting, writeSetting } from '../catalogue/settings.ts';
import { ImageError } from '../errors/image-error.ts';
import { ownFile, refuseOutside, type GatePolicy, type Reference } from '../formats/gate.ts';

/**
 * Of layers below: `ask` about each that is in no allowed folder; `folder`: those in the folder of their image or below it need no question;
 * `allow`: none does. An image's own files (extents, a data file) need none in the image's folder, and one elsewhere under every rule: whoever
 * writes to the image would write to them.
 */
export const gateRules = ['ask', 'folder', 'allow'] as const;
export type GateRule = (typeof gateRules)[number];

/** Plain data, so that it crosses to threads. Paths are absolute and free of links: a file, or a folder with all that is below. */
export interface KeptGate {
  readonly rule: GateRule;
  readonly allowed: readonly string[];
  /** Never opened, whatever is said otherwise. */
  readonly denied: readonly string[];
}

/** Nothing that an image names is opened before somebody has seen it. */
export const cautious: KeptGate = { rule: 'ask', allowed: [], denied: [] };

/** Decisions of each kind that are kept at most. */
export const mostDecisions = 1000;

const settingName = 'gate.policy';

/** What was decided; `cautious` until something was. */
export function readGate(catalogue: Catalogue): KeptGate {
  return (readSetting(catalogue, settingName) as KeptGate | null) ?? cautious;
}

/** Keeps it. Throws `gate/decisions` for more than can be kept. */
export function writeGate(catalogue: Catalogue, gate: KeptGate): KeptGate {
  const clean = (paths: readonly string[]): string[] => [...new Set(paths.map(plainPath))].sort();
  const kept: KeptGate = { rule: gate.rule, allowed: clean(gate.allowed), denied: clean(gate.denied) };
  if (Math.max(kept.allowed.length, kept.denied.length) > mostDecisions) {
    throw new ImageError('gate/decisions', { allowed: mostDecisions });
  }
  writeSetting(catalogue, settingName, kept);
  return kept;
}

/** `folder`: what lies where this file lies, and below, from now on; `never`: this file under no circumstances. */
export type GateDecision = 'folder' | 'never';

/** Keeps a decision about a file. A later one takes the place of an earlier one about the same place. */
export function decide(catalogue: Catalogue, file: string, decision: GateDecision): KeptGate {
  return catalogue.database.transaction(() => {
    const { rule, allowed, denied } = readGate(catalogue);
    const real = plainPath(file);
    const folder = path.dirname(real);
    const without = (paths: readonly string[], one: string): string[] => paths.filter((other) => other !== one);
    return decision === 'folder'
      ? writeGate(catalogue, { rule, allowed: [...allowed, folder], denied: without(denied, real) })
      : writeGate(catalogue, { rule, allowed: without(allowed, real), denied: [...denied, real] });
  });
}

/** Where a path leads, by its words if there is nothing. */
function plainPath(file: string): string {
  return leadsTo(file)?.path ?? path.resolve(file);
}

/** The policy that `gate` makes. `once`: files that may be opened this time, because somebody has just said so or has named them himself. */
export function keptPolicy(gate: KeptGate, once: readonly string[] = []): GatePolicy {
  const now = new Set(once.map(plainPath));
  const isDenied = (real: string): boolean => gate.denied.some((place) => isAt(real, place));
  return {
    maxDepth: 200,
    refuse(reference) {
      const { path: file, role } = reference;
      const target = leadsTo(file);
      // Opening it will say why there is nothing.
      if (target === null) return isDenied(path.resolve(file)) ? never : null;
      if (isDenied(target.path)) return never;
      if (now.has(target.path)) return null;
      if (role === 'head') return target.regular && isBeside(reference) ? null : 'it lies elsewhere';
      if (!target.regular) return 'it is no regular file';
      if (gate.allowed.some((place) => isAt(target.path, place))) return null;
      const what = ownFile(role);
      if (what !== null) return refuseOutside(reference, what);
      if (gate.rule === 'allow') return null;
      if (gate.rule === 'folder') return isBeside(reference) ? null : 'it lies outside of the folder of the image';
      return 'nobody was asked about it yet';
    },
    isQuestion: ({ path: file }) => !isDenied(plainPath(file)),
  };
}

const never = 'it was said that it is never to be opened';

/** In the folder of its image, or below it, wherever links lead. */
function isBeside({ from, path: file }: Reference): boolean {
  return standsBelow(file, path.dirname(path.resolve(from)));
}

/** `real` is that place, or lies below it. */
function isAt(real: string, place: string): boolean {
  return real === place || real.startsWith(place.endsWith(path.sep) ? place : place + path.sep);
}
