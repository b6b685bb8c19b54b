// The contract over a message port: one port for each load of the window, answered by the workbench in this process.
import { RPCHandler } from '@orpc/server/message-port';
import { MessageChannelMain, type MessagePortMain, type WebContents } from 'electron';
import type { CallContext, Workbench } from '../core/workbench/workbench.ts';
import { portChannel } from './channels.ts';

/** The largest message that a window may send, in bytes or characters: as over the WebSocket. */
const mostReceived = 4 * 1024 * 1024;

export class Transport {
  readonly #handler: RPCHandler<CallContext>;
  readonly #workbench: Workbench;
  #port: MessagePortMain | null = null;

  constructor(workbench: Workbench) {
    this.#workbench = workbench;
    this.#handler = new RPCHandler(workbench.router);
  }

  /** Hands the window a port of its own. The one that it had before is closed: what still listens there is of a page that is gone. */
  connect(contents: WebContents): void {
    this.#port?.close();
    const { port1, port2 } = new MessageChannelMain();
    this.#port = port1;
    const connection = this.#workbench.connect();
    port1.on('close', () => connection.close());
    const port = {
      postMessage: (data: unknown) => port1.postMessage(data),
      on: (event: string, callback: (event?: { data: unknown }) => void) => {
        if (event === 'close') port1.on('close', () => callback());
        if (event !== 'message') return;
        port1.on('message', ({ data }: { data: unknown }) => {
          if (isMessage(data)) callback({ data });
          else port1.close();
        });
      },
    };
    this.#handler.upgrade(port, { context: { connection } });
    port1.start();
    contents.postMessage(portChannel, null, [port2]);
  }
}

/** Text or bytes of a bearable length; objects, which the port could carry too, are not spoken here. */
function isMessage(data: unknown): boolean {
  if (typeof data === 'string') return data.length <= mostReceived;
  return (data instanceof Uint8Array || data instanceof ArrayBuffer) && data.byteLength <= mostReceived;
}
