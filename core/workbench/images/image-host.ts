// The images that windows look into: one thread each, opened, asked, closed.
import crypto from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { ImageError } from '../../errors/image-error.ts';
import type { ImageReferences, ImageSession, ProfileReport } from '../contract.ts';
import { requireWithin, type Fence } from '../fence.ts';
import { cautious, type KeptGate } from '../kept-gate.ts';
import type { ImageArgument } from '../jobs/image-argument.ts';
import type { Answer, ImageTask, Question, Questions } from './image-thread.ts';

interface Asked {
  readonly question: Question;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A thread that has the image open. */
interface Thread {
  readonly worker: Worker;
  /** The thread has one question at a time; the others wait here, where they can still be taken back. */
  asked: Asked | null;
  readonly queue: Asked[];
  next: number;
  fault: ImageError | null;
}

interface Session {
  readonly task: ImageTask;
  readonly quick: Thread;
  /** For what may take a while; started when that is first asked for. */
  slow: Thread | null;
}

/** Questions whose answer may take a while: they are put to a thread of their own, so that bytes come at once. */
const slowQuestions: readonly (keyof Questions)[] = [
  'regions',
  'annotations',
  'locate',
  'find',
  'compare',
  'map',
  'describe',
];

/** Images open at once at most. */
const mostSessions = 64;
const resourceLimits = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 32 };

export class ImageHost {
  readonly #fence: Fence;
  readonly #gate: () => KeptGate;
  readonly #sessions = new Map<string, Session>();

  /** `gate` says what was decided about references at the time when an image is opened. */
  constructor(fence: Fence, gate: () => KeptGate = () => cautious) {
    this.#fence = fence;
    this.#gate = gate;
  }

  /**
   * Opens an image; `lenient`: as far as it goes, down to its plain bytes. Throws `access/outside`, `session/too-many`, `gate/ask`, and
   * what opening throws.
   */
  async open(image: ImageArgument, secrets: Readonly<Record<string, string>>, lenient = false): Promise<ImageSession> {
    const { id, session } = this.#start(image, secrets, lenient);
    try {
      const facts = (await ask(session.quick, 'open', [])) as Omit<ImageSession, 'id'>;
      // Whoever opens leniently looks at the structures next: the thread for that starts meanwhile.
      if (lenient) threadFor(session, id, 'annotations');
      return { id, ...facts };
    } catch (error) {
      this.close(id);
      throw error;
    }
  }

  /** What an image would pull in. Throws as `open`, but for what it names. */
  async references(image: ImageArgument, secrets: Readonly<Record<string, string>>): Promise<ImageReferences> {
    const { id, session } = this.#start(image, secrets);
    try {
      return (await ask(session.quick, 'references', [])) as ImageReferences;
    } finally {
      this.close(id);
    }
  }

  /** What the platform called `profile` (null: each) would say of an image. Throws as `references`, `profile/unknown`. */
  async profiles(
    image: ImageArgument,
    secrets: Readonly<Record<string, string>>,
    profile: string | null,
  ): Promise<ProfileReport> {
    const { id, session } = this.#start(image, secrets);
    try {
      return (await ask(session.quick, 'profiles', [profile])) as ProfileReport;
    } finally {
      this.close(id);
    }
  }

  /** Asks an open image. Throws `session/unknown`, `session/died`, and what the question throws. */
  ask<Name extends keyof Questions>(id: string, name: Name, ...args: Parameters<Questions[Name]>): Promise<unknown> {
    const session = this.#sessions.get(id);
    if (session === undefined) return Promise.reject(new ImageError('session/unknown', { id }));
    return ask(threadFor(session, id, name), name, args);
  }

  /** The same, unless `signal` says before its turn comes that nobody wants to know any more. Throws `request/cancelled` then. */
  askUntil<Name extends keyof Questions>(
    signal: AbortSignal | undefined,
    id: string,
    name: Name,
    ...args: Parameters<Questions[Name]>
  ): Promise<unknown> {
    const session = this.#sessions.get(id);
    if (session === undefined) return Promise.reject(new ImageError('session/unknown', { id }));
    return ask(threadFor(session, id, name), name, args, signal);
  }

  /** Closes it; one that is not open is closed already. */
  close(id: string): void {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    void session?.quick.worker.terminate();
    void session?.slow?.worker.terminate();
  }

  async closeAll(): Promise<void> {
    const threads = [...this.#sessions.values()].flatMap(({ quick, slow }) =>
      slow === null ? [quick] : [quick, slow],
    );
    this.#sessions.clear();
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
  }

  #start(
    image: ImageArgument,
    secrets: Readonly<Record<string, string>>,
    lenient = false,
  ): { id: string; session: Session } {
    requireWithin(this.#fence, image.path);
    if (this.#sessions.size >= mostSessions) throw new ImageError('session/too-many', { allowed: mostSessions });
    const id = crypto.randomUUID();
    const task: ImageTask = { image, secrets, fence: this.#fence, gate: this.#gate(), lenient };
    const session: Session = { task, quick: startThread(task, `image ${id}`), slow: null };
    this.#sessions.set(id, session);
    return { id, session };
  }
}

function startThread(task: ImageTask, name: string): Thread {
  const file = import.meta.url.endsWith('.ts') ? './image-thread.ts' : './image-thread.js';
  const worker = new Worker(new URL(file, import.meta.url), { workerData: task, resourceLimits, name });
  const thread: Thread = { worker, asked: null, queue: [], next: 1, fault: null };
  const die = (reason: string): void => {
    thread.fault ??= new ImageError('session/died', { reason }, { file: task.image.path });
    thread.asked?.reject(thread.fault);
    thread.asked = null;
    for (const { reject } of thread.queue.splice(0)) reject(thread.fault);
  };
  worker.on('message', (answer: Answer) => {
    const { asked } = thread;
    thread.asked = null;
    askNext(thread);
    if ('error' in answer) asked?.reject(ImageError.fromWire(answer.error));
    else if ('bug' in answer) asked?.reject(new Error(answer.bug));
    else asked?.resolve(answer.result);
  });
  worker.on('error', (error: Error) => die(error.message));
  worker.on('exit', (code) => die(`exit code ${code}`));
  return thread;
}

/** The thread that answers questions of this name. */
function threadFor(session: Session, id: string, name: keyof Questions): Thread {
  if (!slowQuestions.includes(name)) return session.quick;
  session.slow ??= startThread(session.task, `image ${id}, what takes a while`);
  return session.slow;
}

function ask(thread: Thread, name: keyof Questions, args: readonly unknown[], signal?: AbortSignal): Promise<unknown> {
  if (thread.fault !== null) return Promise.reject(thread.fault);
  const number = thread.next++;
  return new Promise((resolve, reject) => {
    const asked: Asked = { question: { number, name, args }, resolve, reject };
    thread.queue.push(asked);
    signal?.addEventListener('abort', () => {
      const at = thread.queue.indexOf(asked);
      if (at < 0) return;
      thread.queue.splice(at, 1);
      reject(new ImageError('request/cancelled'));
    });
    askNext(thread);
  });
}

function askNext(thread: Thread): void {
  if (thread.asked !== null) return;
  thread.asked = thread.queue.shift() ?? null;
  if (thread.asked !== null) thread.worker.postMessage(thread.asked.question);
}
