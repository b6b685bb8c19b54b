// Asking a person about files that an image names: what is allowed is granted here or kept by the program, and what was refused is tried again.
import type { ListedReference } from '../../core/workbench/contract.ts';
import { askWith, unasked, type Fault } from '../bridge.ts';
import { granted, type NamedImage } from './image-argument.ts';

type ImageArgument = NamedImage['image'];

/** A question that is open: which files which image names. */
export interface Question {
  readonly file: string;
  readonly references: readonly ListedReference[];
  readonly more: number;
}

/** `once`: until this window is closed; `folder`: whatever lies in their folders, from now on; `never`; null: not now. */
export type Decision = 'once' | 'folder' | 'never' | null;

export const references = $state<{ question: Question | null }>({ question: null });

let answer: (decision: Decision) => void = () => {};
/** Questions are asked one after another. */
let before: Promise<unknown> = Promise.resolve();

/** The answer to the question that is open. */
export function decideReferences(decision: Decision): void {
  references.question = null;
  answer(decision);
}

/** What an image would pull in. Throws what the call throws. */
export async function referencesOf(image: ImageArgument, secrets: Record<string, string>): Promise<Question> {
  const asked = { ...image, trust: 'policy' as const, allow: [...granted] };
  const { references: list, more } = await unasked.images.references({ image: asked, secrets });
  return { file: image.path, references: list, more };
}

/** Carries out what was decided about a question. Throws what keeping it throws. */
export async function settleQuestion({ references: list }: Question, decision: Decision): Promise<void> {
  const asked = [...new Set(list.filter(({ verdict }) => verdict === 'asked').map(({ path }) => path))];
  if (decision === 'once') for (const path of asked) granted.add(path);
  else if (decision !== null) for (const path of asked) await unasked.gate.decide({ path, decision });
}

/** True when the person has decided something: it is worth another try. */
async function ask(image: ImageArgument, secrets: Record<string, string>): Promise<boolean> {
  const question = await referencesOf(image, secrets);
  // Somebody has decided meanwhile, or a question before this one.
  if (!question.references.some(({ verdict }) => verdict === 'asked')) return true;
  const decision = await new Promise<Decision>((resolve) => {
    answer = resolve;
    references.question = question;
  });
  await settleQuestion(question, decision);
  return decision !== null;
}

function inTurn(image: ImageArgument, secrets: Record<string, string>): Promise<boolean> {
  const turn = before.then(() => ask(image, secrets));
  before = turn.catch(() => false);
  return turn;
}

function isImage(value: unknown): value is ImageArgument {
  return typeof value === 'object' && value !== null && 'path' in value && ('trust' in value || 'secret' in value);
}

/** The same parameters with everything in them that was granted. */
function withGrants(params: unknown): unknown {
  if (typeof params !== 'object' || params === null) return params;
  const renewed = Object.entries(params).map(([name, value]: [string, unknown]) => [
    name,
    isImage(value) ? { ...value, allow: [...granted] } : value,
  ]);
  const whole = Object.fromEntries(renewed) as Record<string, unknown>;
  return 'trust' in whole ? { ...whole, allow: [...granted] } : whole;
}

/** Asks about every image that the parameters of a refused work name. Null: nothing was decided; else the parameters to try again with. */
export async function askForJob(params: unknown, secrets: Record<string, string>): Promise<unknown> {
  if (typeof params !== 'object' || params === null) return null;
  let decided = false;
  for (const image of Object.values(params).filter(isImage)) decided = (await inTurn(image, secrets)) || decided;
  return decided ? withGrants(params) : null;
}

/** Hears of every call that is refused for want of a decision. */
export function answerQuestions(): void {
  askWith(async (_path: readonly string[], input: unknown, _fault: Fault) => {
    if (typeof input !== 'object' || input === null) return null;
    const { secrets } = input as { secrets?: Record<string, string> };
    return askForJob(input, secrets ?? {});
  });
}
