// The only mention of the transport: typed calls to the workbench over the desktop shell's port where there is one, else over a WebSocket,
// which is opened again when it was lost.
import { createORPCClient, ORPCError, type ClientLink } from '@orpc/client';
import { RPCLink as PortLink } from '@orpc/client/message-port';
import { RPCLink } from '@orpc/client/websocket';
import type { ContractRouterClient } from '@orpc/contract';
import { errorText as translated } from './text/error-text.svelte.ts';
import type { Contract, JobEntry, SaidFault, ShellInPage, WireError } from '../core/workbench/contract.ts';

/** The desktop shell; null: this is a browser. */
export const desktop: ShellInPage | null = (globalThis as { platterShell?: ShellInPage }).platterShell ?? null;

/** A fault as it is shown: its sentence, its code, and where it lies. */
export interface Fault {
  readonly text: string;
  /** Null: no fault of an image or of what was asked (the connection, a bug). */
  readonly code: string | null;
  readonly where: WireError['where'];
  readonly cause: string | null;
  /** Programs that have the file open, where it is in use. */
  readonly holders?: Holders;
  /** What the sentence is filled with. */
  readonly detail?: WireError['detail'];
}

type Holders = readonly { readonly pid: number; readonly command: string }[];

/** How it stands with the server; `refused`: it is there, but it is another run of it, which this window has not been let into. */
export type Connection = 'opening' | 'open' | 'lost' | 'refused';

/** Milliseconds between two attempts to reach the server again: soon at first, then less often. */
const pauses = [250, 500, 1000, 2000, 4000];

type Link = ClientLink<Record<never, never>>;

const listeners = new Set<(connection: Connection) => void>();
let connection: Connection = 'opening';
let attempts = 0;
let link: Link = desktop === null ? connect() : connectDesktop(desktop);

/** The port comes as a message from the page to itself; calls made before wait for it. The shell and the workbench end together. */
function connectDesktop(shell: ShellInPage): Link {
  const arrived = new Promise<Link>((resolve) => {
    const listen = (event: MessageEvent): void => {
      const [port] = event.ports;
      if (event.source !== window || event.origin !== location.origin) return;
      if (event.data !== 'platter:port' || port === undefined) return;
      window.removeEventListener('message', listen);
      port.addEventListener('close', () => tell('lost'));
      port.start();
      tell('open');
      resolve(new PortLink({ port }));
    };
    window.addEventListener('message', listen);
  });
  shell.connect();
  return { call: async (path, input, options) => (await arrived).call(path, input, options) };
}

function connect(): Link {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const socket = new WebSocket(`${scheme}://${location.host}/rpc`);
  socket.addEventListener('open', () => {
    attempts = 0;
    tell('open');
  });
  socket.addEventListener('close', () => {
    if (connection !== 'refused') tell('lost');
    void whyRefused();
    const pause = pauses[Math.min(attempts, pauses.length - 1)];
    attempts += 1;
    setTimeout(() => {
      link = connect();
    }, pause);
  });
  return new RPCLink({ websocket: socket });
}

/** A browser does not say why a WebSocket was refused; a plain request does. */
async function whyRefused(): Promise<void> {
  if (!location.protocol.startsWith('http')) return;
  try {
    const { status } = await fetch('./', { method: 'HEAD', cache: 'no-store' });
    if (connection === 'open') return;
    tell(status === 401 || status === 403 ? 'refused' : 'lost');
  } catch {
    if (connection === 'refused') tell('lost'); // nothing answers at all
  }
}

function tell(now: Connection): void {
  connection = now;
  for (const listener of listeners) listener(now);
}

/** Hears how the connection stands, at once and whenever that changes. */
export function onConnection(listener: (connection: Connection) => void): () => void {
  listeners.add(listener);
  listener(connection);
  return () => listeners.delete(listener);
}

const current: Link = { call: (path, input, options) => link.call(path, input, options) };

/** Every call of the contract, refused as the program refuses it. */
export const unasked: ContractRouterClient<Contract> = createORPCClient(current);

/** What is asked of a person when a call was refused for want of a decision: the input to try again with; null: it stays refused. */
export type Asker = (path: readonly string[], input: unknown, fault: Fault) => Promise<unknown>;
let asker: Asker | null = null;

/** From now on `askWith` hears of every such refusal. */
export function askWith(ask: Asker): void {
  asker = ask;
}

/** Decisions in a row that one call may want: a chain of images shows its layers one by one. */
const mostQuestions = 50;

const asking: Link = {
  async call(path, input, options) {
    let given = input;
    for (let asked = 0; ; asked += 1) {
      try {
        return await link.call(path, given, options);
      } catch (error) {
        const fault = faultOf(error);
        if (fault.code !== 'gate/ask' || asker === null || asked === mostQuestions) throw error;
        given = await asker(path, given, fault);
        if (given === null) throw error;
      }
    }
  },
};

/** Every call of the contract; where one is refused until somebody decides, the person is asked and the call made again. */
export const client: ContractRouterClient<Contract> = createORPCClient(asking);

function isWire(data: unknown): data is WireError {
  return typeof data === 'object' && data !== null && 'code' in data && 'where' in data;
}

function holdersIn({ holders }: WireError['detail']): Holders {
  if (!Array.isArray(holders)) return [];
  return holders.map(({ pid, command }) => ({ pid: Number(pid), command: String(command) }));
}

/** What a call threw, for showing. */
export function faultOf(error: unknown): Fault {
  if (error instanceof ORPCError && isWire(error.data)) {
    const { code, where, cause, detail } = error.data;
    const text = translated(code, detail, error.message);
    return { text, code, where, cause, holders: holdersIn(detail), detail };
  }
  const text = error instanceof Error ? error.message : String(error);
  return { text, code: null, where: {}, cause: null };
}

/** A fault that is part of an answer, for showing. */
export function faultSaid({ error: { code, where, cause, detail }, text }: SaidFault): Fault {
  return { text: translated(code, detail, text), code, where, cause, holders: holdersIn(detail), detail };
}

/** Why a job failed; null: it did not. */
export function faultOfJob({ error, errorText }: JobEntry): Fault | null {
  if (error === null) return null;
  const { code, where, cause, detail } = error;
  const text = translated(code, detail, errorText ?? code);
  return { text, code, where, cause, holders: holdersIn(detail), detail };
}
