// The real built main process in Node with the stand-in for Electron: started, asked, ended.
import { fork, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Asked, MenuItem, Scene, StandIn } from './electron.ts';

const project = path.resolve(import.meta.dirname, '../../..');
export const builtMain = path.join(project, 'dist', 'electron', 'main.js');
export const builtPreload = path.join(project, 'dist', 'electron', 'preload.cjs');

/** Why the shell cannot be tried here; null: it can. */
export function missingShell(): string | null {
  return fs.existsSync(builtMain) ? null : 'the shell is not built (npm run build)';
}

/** What the program says to the window. */
export type ToWindow =
  | { readonly kind: 'load'; readonly address: string; readonly options: Record<string, unknown> }
  | { readonly kind: 'send'; readonly channel: string; readonly args: readonly unknown[] }
  | { readonly kind: 'port'; readonly channel: string; readonly id: number }
  | { readonly kind: 'to-page'; readonly id: number; readonly data: unknown }
  | { readonly kind: 'port-closed'; readonly id: number };

type FromProgram =
  | ToWindow
  | { readonly kind: 'answer'; readonly id: number; readonly result?: unknown; readonly error?: string }
  | { readonly kind: 'asked'; readonly asked: readonly Asked[] };

export class Program {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  readonly #windows: ((message: ToWindow) => void)[] = [];
  readonly #early: ToWindow[] = [];
  #last: readonly Asked[] = [];
  #next = 1;
  stderr = '';
  readonly ended: Promise<number | null>;

  constructor(scene: Scene, argv: readonly string[] = [], environment: NodeJS.ProcessEnv = {}) {
    fs.mkdirSync(scene.folder, { recursive: true });
    this.#child = fork(builtMain, [...argv], {
      cwd: scene.folder,
      execArgv: ['--import', new URL('./register.ts', import.meta.url).href],
      env: {
        ...process.env,
        PLATTER_CATALOGUE: path.join(scene.folder, 'catalogue.db'),
        STAND_IN_SCENE: JSON.stringify(scene),
        ...environment,
      },
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (text: Buffer) => (this.stderr += text.toString()));
    this.#child.on('message', (message) => this.#hear(message as FromProgram));
    this.ended = new Promise((resolve) => {
      this.#child.once('exit', (code) => {
        for (const { reject } of this.#waiting.values())
          reject(new Error(`the program ended with ${code}: ${this.stderr}`));
        resolve(code);
      });
    });
  }

  /** Runs `work` inside the program; it sees nothing but the stand-in and `arg`. */
  within<Arg, Result>(work: (stand: StandIn, arg: Arg) => Result | Promise<Result>, arg?: Arg): Promise<Result> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) return reject(new Error(`the program has ended: ${this.stderr}`));
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.#child.send({ kind: 'within', id, source: work.toString(), arg });
    });
  }

  /** What was asked of Electron under that name so far. */
  async asked(what: string): Promise<readonly (readonly unknown[])[]> {
    const all = this.#child.exitCode === null ? await this.within((stand) => stand.asked) : this.#last;
    return all.filter((entry) => entry.what === what).map(({ args }) => args);
  }

  /** The same, once there is at least one that `wanted` agrees to. */
  async askedFor(
    what: string,
    wanted: (args: readonly unknown[]) => boolean = () => true,
  ): Promise<readonly unknown[]> {
    for (;;) {
      const found = (await this.asked(what)).find(wanted);
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** The menu, without what cannot be told across processes. */
  menu(): Promise<readonly MenuItem[]> {
    return this.within((stand) => JSON.parse(JSON.stringify(stand.Menu.shown)) as MenuItem[]);
  }

  click(id: string, checked = false): Promise<void> {
    return this.within(
      (stand, [wanted, on]) => {
        const all = (items: readonly MenuItem[]): MenuItem[] =>
          items.flatMap((item) => [item, ...all(item.submenu ?? [])]);
        const item = all(stand.Menu.shown).find((known) => known.id === wanted || known.label === wanted);
        if (item?.click === undefined) throw new Error(`no menu item '${wanted}'`);
        item.click({ checked: on });
      },
      [id, checked] as const,
    );
  }

  onWindow(listener: (message: ToWindow) => void): void {
    for (const message of this.#early.splice(0)) listener(message);
    this.#windows.push(listener);
  }

  fromPage(id: number, data: unknown): void {
    this.#child.send({ kind: 'from-page', id, data });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    await this.ended;
  }

  #hear(message: FromProgram): void {
    if (message.kind === 'answer') {
      const asking = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error === undefined) asking?.resolve(message.result);
      else asking?.reject(new Error(message.error));
    } else if (message.kind === 'asked') this.#last = message.asked;
    else if (this.#windows.length === 0) this.#early.push(message);
    else for (const listener of this.#windows) listener(message);
  }
}
