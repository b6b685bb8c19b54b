// What there is to copy: the sources' runs, cut into chunks that are aligned for the target.
import type { BlockNode } from '../node.ts';
import { resolveOne, type Run } from '../read.ts';
import { alignDown, type GuestOffset } from '../units.ts';

/** One source and where it begins in the target; several follow each other without gap. */
export interface CopyPart {
  readonly source: BlockNode;
  readonly start: GuestOffset;
  /** Bytes of the target it fills: its size, rounded up to whole sectors when another follows. */
  readonly length: number;
}

export interface PlanRules {
  readonly chunk: number;
  /** Bytes that the layer below the target supplies; runs that come from below the sources' top are left to it. 0: none. */
  readonly targetBacking: number;
  /** Write zeroes as data (`-S 0`). */
  readonly fully: boolean;
  /** Runs that the target is left with as it is. Absent: none. */
  readonly leaves?: ((run: Run) => boolean) | undefined;
}

/** A stretch of a chunk. `run` null: zeroes. `keep`: left to the layer below the target. Offsets count from the chunk's start. */
export interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly run: Run | null;
  readonly keep: boolean;
}

/** What to do next, in target order. */
export type Step =
  | { readonly kind: 'zero' | 'keep'; readonly start: GuestOffset; readonly length: number }
  | { readonly kind: 'chunk'; readonly start: GuestOffset; readonly length: number; readonly pieces: readonly Piece[] };

type Answer =
  | { readonly kind: 'zero' | 'keep'; readonly length: number }
  | { readonly kind: 'run'; readonly length: number; readonly run: Run };

/** The steps of a copy, lazily. Throws what the sources' maps throw; `onDamage` may take that over and supply zeroes instead. */
export function* plan(
  parts: readonly CopyPart[],
  rules: PlanRules,
  onDamage: ((start: GuestOffset, error: unknown) => number) | null,
): Generator<Step, void, void> {
  const last = parts.at(-1);
  const end = last === undefined ? 0 : last.start + last.length;
  let index = 0;

  const answerAt = (start: GuestOffset, limit: number): Answer => {
    let part = parts[index];
    while (part !== undefined && start >= part.start + part.length) part = parts[++index];
    if (part === undefined) return { kind: 'zero', length: limit };
    const within = start - part.start;
    const available = Math.min(limit, part.start + part.length - start);
    const stored = Math.min(available, part.source.size - within);
    if (stored <= 0) return { kind: 'zero', length: available };
    let run: Run;
    try {
      run = resolveOne(part.source, { start: within, length: stored });
    } catch (error) {
      if (onDamage === null) throw error;
      return { kind: 'zero', length: Math.min(stored, onDamage(start, error)) };
    }
    return classify(run, start, rules);
  };

  let position = 0;
  while (position < end) {
    const first = answerAt(position, end - position);
    const chunkEnd = Math.min(end, alignDown(position, rules.chunk) + rules.chunk);
    if (first.kind !== 'run' && position + first.length >= chunkEnd && !(rules.fully && first.kind === 'zero')) {
      const stop = position + first.length === end ? end : alignDown(position + first.length, rules.chunk);
      yield { kind: first.kind, start: position, length: stop - position };
      position = stop;
      continue;
    }
    const pieces: Piece[] = [];
    let at = position;
    let answer: Answer = first;
    for (;;) {
      const length = Math.min(answer.length, chunkEnd - at);
      const run = answer.kind === 'run' ? answer.run : null;
      pieces.push({ offset: at - position, length, run, keep: answer.kind === 'keep' });
      at += length;
      if (at >= chunkEnd) break;
      answer = answerAt(at, chunkEnd - at);
    }
    yield { kind: 'chunk', start: position, length: chunkEnd - position, pieces };
    position = chunkEnd;
  }
}

function classify(run: Run, start: GuestOffset, rules: PlanRules): Answer {
  const { mapping } = run;
  if (rules.leaves?.(run) === true) return { kind: 'keep', length: run.length };
  const fromBelow = run.depth > 0 || (mapping.kind === 'zero' && !mapping.explicit);
  if (fromBelow && start < rules.targetBacking) {
    return { kind: 'keep', length: Math.min(run.length, rules.targetBacking - start) };
  }
  if (mapping.kind === 'zero') return { kind: 'zero', length: run.length };
  return { kind: 'run', length: run.length, run };
}
