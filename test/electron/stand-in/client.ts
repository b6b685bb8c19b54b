// A client of the contract over the program's port, without a browser in between.
import { createORPCClient } from '@orpc/client';
import { RPCLink } from '@orpc/client/message-port';
import type { ContractRouterClient } from '@orpc/contract';
import type { Contract } from '../../../core/workbench/contract.ts';
import type { Program } from './program.ts';

export interface PortClient {
  readonly client: ContractRouterClient<Contract>;
  /** Sends what no client would. */
  readonly send: (data: unknown) => void;
}

/** Asks for a port as the page does, and speaks over it. */
export async function clientOf(program: Program): Promise<PortClient> {
  let hear: (event: { data: unknown }) => void = () => {};
  const port = new Promise<number>((resolve) => {
    program.onWindow((message) => {
      if (message.kind === 'port') resolve(message.id);
      else if (message.kind === 'to-page') hear({ data: message.data });
    });
  });
  await program.within((stand) => stand.ipcMain.say('platter:connect', []));
  const id = await port;
  const send = (data: unknown): void => program.fromPage(id, data);
  const link = new RPCLink({
    port: {
      postMessage: send,
      on: (event: string, callback: (event?: { data: unknown }) => void) => {
        if (event === 'message') hear = callback;
      },
    },
  });
  return { client: createORPCClient(link), send };
}
