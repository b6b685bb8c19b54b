// The images that windows look into: opened, asked, set aside while nobody asks, closed with the connection that opened them.
import crypto from 'node:crypto';
import { ImageError } from '../../errors/image-error.ts';
import type { ImageReferences, ImageSession, ProfileReport } from '../contract.ts';
import { requireWithin, type Fence } from '../fence.ts';
import { cautious, type KeptGate } from '../kept-gate.ts';
import type { ImageArgument } from '../jobs/image-argument.ts';
import { ask, isBusy, startThread, type Thread } from './asking.ts';
import type { ImageTask, Questions } from './image-thread.ts';

/** A window's line to the program; what was opened over it is closed when it ends. Compared by identity. */
export interface Connection {
  close(): void;
}

interface Session {
  readonly id: string;
  readonly task: ImageTask;
  /** Null: nobody belongs to it but this program. */
  owner: Connection | null;
  /** Null: set aside; opened again with the next question. */
  quick: Thread | null;
  /** For what may take a while; started when that is first asked for. */
  slow: Thread | null;
  /** When it was last asked something, and when its owner went away (null: it is there). Milliseconds of this process. */
  usedAt: number;
  orphanedAt: number | null;
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
  'snapshots',
  'guestOf',
  'holders',
];

/** Sessions at most, with those that are set aside, which hold no thread and no file. */
const mostSessions = 4096;

/** How much is kept open, and how long, in milliseconds. */
export interface ImageBounds {
  /** Images open at once: for one more, that which was not asked for the longest time is set aside. */
  readonly open: number;
  /** An image that nobody asks is set aside. */
  readonly idle: number;
  /** What a lost connection opened waits for the window to come back over another one. */
  readonly orphan: number;
  /** Between two looks. */
  readonly look: number;
}

const ordinary: ImageBounds = { open: 64, idle: 10 * 60_000, orphan: 60_000, look: 30_000 };

export class ImageHost {
  readonly #fence: Fence;
  readonly #gate: () => KeptGate;
  readonly #bounds: ImageBounds;
  readonly #sessions = new Map<string, Session>();
  readonly #closed = new WeakSet<Connection>();
  readonly #timer: NodeJS.Timeout;
  #ended = false;

  /** `gate` says what was decided about references at the time when an image is opened. */
  constructor(fence: Fence, gate: () => KeptGate = () => cautious, bounds: ImageBounds = ordinary) {
    this.#fence = fence;
    this.#gate = gate;
    this.#bounds = bounds;
    this.#timer = setInterval(() => this.#look(), bounds.look);
    this.#timer.unref();
  }

  /** A new connection. When it is closed, its images are set aside at once, and closed unless another connection asks them soon. */
  connect(): Connection {
    const connection: Connection = {
      close: () => {
        this.#closed.add(connection);
        for (const session of this.#sessions.values()) {
          if (session.owner !== connection) continue;
          void setAside(session);
          session.orphanedAt ??= performance.now();
        }
      },
    };
    return connection;
  }

  /** Whoever asks an image has it from now on: a window comes back over another connection. */
  claim(id: string, connection: Connection): void {
    const session = this.#sessions.get(id);
    if (session === undefined || this.#closed.has(connection)) return;
    session.owner = connection;
    session.orphanedAt = null;
  }

  /**
   * Opens an image for the window behind `owner`; `lenient`: as far as it goes, down to its plain bytes. Throws `access/outside`,
   * `session/too-many`, `gate/ask`, and what opening throws.
   */
  async open(
    image: ImageArgument,
    secrets: Readonly<Record<string, string>>,
    lenient = false,
    owner: Connection | null = null,
  ): Promise<ImageSession> {
    const session = this.#start(image, secrets, lenient, owner);
    const { id } = session;
    try {
      const facts = (await ask(threadFor(session, 'open'), 'open', [])) as Omit<ImageSession, 'id'>;
      if (owner !== null && this.#closed.has(owner)) this.close(id);
      // Whoever opens leniently looks at the structures next: the thread for that starts meanwhile.
      else if (lenient) threadFor(session, 'annotations');
      return { id, ...facts };
    } catch (error) {
      this.close(id);
      throw error;
    }
  }

  /** What an image would pull in. Throws as `open`, but for what it names. */
  async references(image: ImageArgument, secrets: Readonly<Record<string, string>>): Promise<ImageReferences> {
    const session = this.#start(image, secrets);
    try {
      return (await ask(threadFor(session, 'references'), 'references', [])) as ImageReferences;
    } finally {
      this.close(session.id);
    }
  }

  /** What the platform called `profile` (null: each) would say of an image. Throws as `references`, `profile/unknown`. */
  async profiles(
    image: ImageArgument,
    secrets: Readonly<Record<string, string>>,
    profile: string | null,
  ): Promise<ProfileReport> {
    const session = this.#start(image, secrets);
    try {
      return (await ask(threadFor(session, 'profiles'), 'profiles', [profile])) as ProfileReport;
    } finally {
      this.close(session.id);
    }
  }

  /** Asks an open image. Throws `session/unknown`, `session/died`, and what the question throws. */
  ask<Name extends keyof Questions>(id: string, name: Name, ...args: Parameters<Questions[Name]>): Promise<unknown> {
    return this.askUntil(undefined, id, name, ...args);
  }

  /** The same, unless `signal` says before its turn comes that nobody wants to know any more. Throws `request/cancelled` then. */
  async askUntil<Name extends keyof Questions>(
    signal: AbortSignal | undefined,
    id: string,
    name: Name,
    ...args: Parameters<Questions[Name]>
  ): Promise<unknown> {
    const session = this.#sessions.get(id);
    if (session === undefined) throw new ImageError('session/unknown', { id });
    session.usedAt = performance.now();
    if (!isOpen(session)) this.#makeRoom();
    return await ask(threadFor(session, name), name, args, signal);
  }

  /** Closes it; one that is not open is closed already. */
  close(id: string): void {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    if (session !== undefined) void setAside(session);
  }

  /** Closes every image, and opens none from then on: a window that asks on is told `request/cancelled`. */
  async closeAll(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#timer);
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.all(sessions.map(setAside));
  }

  #start(
    image: ImageArgument,
    secrets: Readonly<Record<string, string>>,
    lenient = false,
    owner: Connection | null = null,
  ): Session {
    if (this.#ended) throw new ImageError('request/cancelled');
    requireWithin(this.#fence, image.path);
    if (this.#sessions.size >= mostSessions) throw new ImageError('session/too-many', { allowed: mostSessions });
    this.#makeRoom();
    const id = crypto.randomUUID();
    const task: ImageTask = { image, secrets, fence: this.#fence, gate: this.#gate(), lenient };
    const session = { id, task, owner, quick: null, slow: null, usedAt: performance.now(), orphanedAt: null };
    this.#sessions.set(id, session);
    return session;
  }

  /** Sets an image aside if as many are open as may be. Throws `session/too-many` when all of them are being asked. */
  #makeRoom(): void {
    const open = [...this.#sessions.values()].filter(isOpen);
    if (open.length < this.#bounds.open) return;
    const [longest] = open.filter((session) => !isAsked(session)).sort((a, b) => a.usedAt - b.usedAt);
    if (longest === undefined) throw new ImageError('session/too-many', { allowed: this.#bounds.open });
    void setAside(longest);
  }

  #look(): void {
    const now = performance.now();
    for (const session of this.#sessions.values()) {
      const { id, orphanedAt, usedAt } = session;
      if (orphanedAt !== null && now - orphanedAt >= this.#bounds.orphan) this.close(id);
      else if (isOpen(session) && !isAsked(session) && now - usedAt >= this.#bounds.idle) void setAside(session);
    }
  }
}

function isOpen({ quick, slow }: Session): boolean {
  return quick !== null || slow !== null;
}

function isAsked({ quick, slow }: Session): boolean {
  return [quick, slow].some((thread) => thread !== null && isBusy(thread));
}

/** Gives its threads and files back; the next question opens them again. */
async function setAside(session: Session): Promise<void> {
  const threads = [session.quick, session.slow].flatMap((thread) => (thread === null ? [] : [thread]));
  session.quick = null;
  session.slow = null;
  await Promise.all(threads.map(({ worker }) => worker.terminate()));
}

/** The thread that answers questions of this name. */
function threadFor(session: Session, name: keyof Questions): Thread {
  const { id, task } = session;
  if (!slowQuestions.includes(name)) return (session.quick ??= startThread(task, `image ${id}`));
  return (session.slow ??= startThread(task, `image ${id}, what takes a while`));
}
