// Answers the window: who asks is looked at first, then what is asked, then it is done.
import { ipcMain, shell, type BrowserWindow, type IpcMainEvent, type IpcMainInvokeEvent } from 'electron';
import fs from 'node:fs';
import * as v from 'valibot';
import { shellCalls, type ShellCallInput, type ShellCallName, type ShellCallOutput } from '../core/workbench/shell.ts';
import { callChannel, connectChannel } from './channels.ts';
import { pickFile, pickFolder, pickTarget } from './dialogs.ts';
import { startDrag } from './drag-out.ts';
import { isWithin } from './guards.ts';

export interface Answering {
  readonly origin: string;
  readonly window: () => BrowserWindow | null;
  readonly connect: (window: BrowserWindow) => void;
  readonly openPaths: (paths: readonly string[]) => void;
  readonly setAppearance: (appearance: ShellCallInput<'setAppearance'>) => void;
  readonly ready: () => void;
}

type Answers = {
  readonly [Name in ShellCallName]: (
    input: ShellCallInput<Name>,
    window: BrowserWindow,
  ) => ShellCallOutput[Name] | Promise<ShellCallOutput[Name]>;
};

export function answerWindow(answering: Answering): void {
  const answers = answersOf(answering);
  ipcMain.on(connectChannel, (event) => {
    const window = senderOf(event, answering);
    if (window !== null) answering.connect(window);
  });
  ipcMain.handle(callChannel, (event, name: unknown, input: unknown) => {
    const window = senderOf(event, answering);
    if (window === null) throw new Error('not from the window');
    if (typeof name !== 'string' || !Object.hasOwn(shellCalls, name)) throw new Error('there is no such call');
    const call = name as ShellCallName;
    const parsed = v.safeParse(shellCalls[call], input);
    if (!parsed.success) throw new Error(`${call}: ${parsed.issues[0].message}`);
    return (answers[call] as (given: unknown, from: BrowserWindow) => unknown)(parsed.output, window);
  });
}

/** The window, if it is its own page's main frame that speaks; null: somebody else. */
function senderOf(event: IpcMainEvent | IpcMainInvokeEvent, { origin, window }: Answering): BrowserWindow | null {
  const current = window();
  const { senderFrame } = event;
  if (current === null || event.sender !== current.webContents || senderFrame === null) return null;
  return senderFrame.parent === null && isWithin(senderFrame.url, origin) ? current : null;
}

function answersOf(answering: Answering): Answers {
  return {
    pickFile: (input, window) => pickFile(window, input),
    pickFolder: (input, window) => pickFolder(window, input),
    pickTarget: (input, window) => pickTarget(window, input),
    showInFolder: ({ path }) => {
      if (fs.existsSync(path)) shell.showItemInFolder(path);
      return null;
    },
    startDrag: async ({ paths }, window) => {
      await startDrag(window.webContents, paths);
      return null;
    },
    openPaths: ({ paths }) => {
      answering.openPaths(paths);
      return null;
    },
    setAppearance: (appearance) => {
      answering.setAppearance(appearance);
      return null;
    },
    ready: () => {
      answering.ready();
      return null;
    },
  };
}
