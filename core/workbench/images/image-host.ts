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

interface Session {
  readonly worker: Worker;
  /** The thread has one question at a time; the others wait here, where they can still be taken back. */
  asked: Asked | null;
  readonly queue: Asked[];
  next: number;
  fault: ImageError | null;
}

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

  /** Opens an image. Throws `access/outside`, `session/too-many`, `gate/ask`, and what opening throws. */
  async open(image: ImageArgument, secrets: Readonly<Record<string, string>>): Promise<ImageSession> {
    const { id, session } = this.#start(image, secrets);
    try {
      const facts = (await this.#ask(session, 'open', [])) as Omit<ImageSession, 'id'>;
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
      return (await this.#ask(session, 'references', [])) as ImageReferences;
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
      return (await this.#ask(session, 'profiles', [profile])) as ProfileReport;
    } finally {
      this.close(id);
    }
  }

  /** Asks an open image. Throws `session/unknown`, `session/died`, and what the question throws. */
  ask<Name extends keyof Questions>(id: string, name: Name, ...args: Parameters<Questions[Name]>): Promise<unknown> {
    const session = this.#sessions.get(id);
    if (session === undefined) return Promise.reject(new ImageError('session/unknown', { id }));
    return this.#ask(session, name, args);
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
    return this.#ask(session, name, args, signal);
  }

  /** Closes it; one that is not open is closed already. */
  close(id: string): void {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    void session?.worker.terminate();
  }

  async closeAll(): Promise<void> {
    const workers = [...this.#sessions.values()].map(({ worker }) => worker.terminate());
    this.#sessions.clear();
    await Promise.all(workers);
  }

  #start(image: ImageArgument, secrets: Readonly<Record<string, string>>): { id: string; session: Session } {
    requireWithin(this.#fence, image.path);
    if (this.#sessions.size >= mostSessions) throw new ImageError('session/too-many', { allowed: mostSessions });
    const id = crypto.randomUUID();
    const task: ImageTask = { image, secrets, fence: this.#fence, gate: this.#gate() };
    const file = import.meta.url.endsWith('.ts') ? './image-thread.ts' : './image-thread.js';
    const worker = new Worker(new URL(file, import.meta.url), {
      workerData: task,
      resourceLimits,
      name: `image ${id}`,
    });
    const session: Session = { worker, asked: null, queue: [], next: 1, fault: null };
    this.#sessions.set(id, session);
    const die = (reason: string): void => {
      session.fault ??= new ImageError('session/died', { reason }, { file: image.path });
      session.asked?.reject(session.fault);
      session.asked = null;
      for (const { reject } of session.queue.splice(0)) reject(session.fault);
    };
    worker.on('message', (answer: Answer) => {
      const { asked } = session;
      session.asked = null;
      askNext(session);
      if ('error' in answer) asked?.reject(ImageError.fromWire(answer.error));
      else if ('bug' in answer) asked?.reject(new Error(answer.bug));
      else asked?.resolve(answer.result);
    });
    worker.on('error', (error: Error) => die(error.message));
    worker.on('exit', (code) => die(`exit code ${code}`));
    return { id, session };
  }

  #ask(session: Session, name: keyof Questions, args: readonly unknown[], signal?: AbortSignal): Promise<unknown> {
    if (session.fault !== null) return Promise.reject(session.fault);
    const number = session.next++;
    return new Promise((resolve, reject) => {
      const asked: Asked = { question: { number, name, args }, resolve, reject };
      session.queue.push(asked);
      signal?.addEventListener('abort', () => {
        const at = session.queue.indexOf(asked);
        if (at < 0) return;
        session.queue.splice(at, 1);
        reject(new ImageError('request/cancelled'));
      });
      askNext(session);
    });
  }
}

function askNext(session: Session): void {
  if (session.asked !== null) return;
  session.asked = session.queue.shift() ?? null;
  if (session.asked !== null) session.worker.postMessage(session.asked.question);
}
