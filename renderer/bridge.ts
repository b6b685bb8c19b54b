// The only mention of the transport: typed calls to the workbench over the desktop shell's port where there is one, else over a WebSocket,
// which is opened again when it was lost.
import { createORPCClient, ORPCError, type ClientLink } from '@orpc/client';
import { RPCLink as PortLink } from '@orpc/client/message-port';
import { RPCLink } from '@orpc/client/websocket';
import type { ContractRouterClient } from '@orpc/contract';
import type { Contract, JobEntry, ShellInPage, WireError } from '../core/workbench/contract.ts';

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
}

type Holders = readonly { readonly pid: number; readonly command: string }[];

/** How it stands with the server. */
export type Connection = 'opening' | 'open' | 'lost';

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
    tell('lost');
    const pause = pauses[Math.min(attempts, pauses.length - 1)];
    attempts += 1;
    setTimeout(() => {
      link = connect();
    }, pause);
  });
  return new RPCLink({ websocket: socket });
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

/** Every call of the contract. */
export const client: ContractRouterClient<Contract> = createORPCClient(current);

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
    return { text: error.message, code, where, cause, holders: holdersIn(detail) };
  }
  const text = error instanceof Error ? error.message : String(error);
  return { text, code: null, where: {}, cause: null };
}

/** Why a job failed; null: it did not. */
export function faultOfJob({ error, errorText }: JobEntry): Fault | null {
  if (error === null) return null;
  const { code, where, cause, detail } = error;
  return { text: errorText ?? code, code, where, cause, holders: holdersIn(detail) };
}
