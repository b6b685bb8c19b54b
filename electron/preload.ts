// Runs in the sandboxed window before its page: hands over the port and a short fixed list of calls, and only to our own page.
import { contextBridge, ipcRenderer, webUtils } from 'electron';
import type { ShellCallName, ShellInPage, ShellRequest } from '../core/workbench/shell.ts';
import {
  callChannel,
  connectChannel,
  originArgument,
  portChannel,
  portMessage,
  requestChannel,
  shellGlobal,
} from './channels.ts';

/** The little of the page's world that is used here. */
declare const window: { postMessage(message: unknown, origin: string, ports: readonly unknown[]): void };
declare const location: { readonly origin: string };

/** Complete by its type: a call that is not here cannot be made. */
const names: Readonly<Record<ShellCallName, true>> = {
  pickFile: true,
  pickFolder: true,
  pickTarget: true,
  showInFolder: true,
  startDrag: true,
  openPaths: true,
  setAppearance: true,
  ready: true,
};

const origin = process.argv.find((argument) => argument.startsWith(originArgument))?.slice(originArgument.length);

if (origin !== undefined && origin !== '' && location.origin === origin) {
  ipcRenderer.on(portChannel, ({ ports }) => window.postMessage(portMessage, origin, ports));
  const shell: ShellInPage = {
    connect: () => ipcRenderer.send(connectChannel),
    call: (name, input) =>
      Object.hasOwn(names, name)
        ? (ipcRenderer.invoke(callChannel, name, input) as ReturnType<ShellInPage['call']> as never)
        : Promise.reject(new Error('there is no such call')),
    pathsOf: (files) =>
      files.map((file) => webUtils.getPathForFile(file as Parameters<typeof webUtils.getPathForFile>[0])),
    onRequest: (listener) => {
      ipcRenderer.on(requestChannel, (_event, request: ShellRequest) => listener(request));
    },
  };
  contextBridge.exposeInMainWorld(shellGlobal, shell);
}
