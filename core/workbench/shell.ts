// What a desktop shell does for the window beyond the contract: a short fixed list of calls, and the few things that it asks of the window.
import * as v from 'valibot';
import { filePath } from './jobs/image-argument.ts';

const title = v.pipe(v.string(), v.maxLength(200));
/** Where a dialog begins: a path that is there, or the one that is proposed. */
const start = v.nullable(filePath);

/** The calls by name, each with the shape of what it takes. The shell checks it; there are no others. */
export const shellCalls = {
  /** A file that is there; null: the user thought better of it. */
  pickFile: v.strictObject({ title, start }),
  pickFolder: v.strictObject({ title, start }),
  /** The name of a file to be made. */
  pickTarget: v.strictObject({ title, start }),
  /** Marks a file in the system's file manager. */
  showInFolder: v.strictObject({ path: filePath }),
  /** Lets the user drag files out of the window; asked while a drag begins. */
  startDrag: v.strictObject({ paths: v.pipe(v.array(filePath), v.minLength(1), v.maxLength(1000)) }),
  /** Files that were dropped onto the window. */
  openPaths: v.strictObject({ paths: v.pipe(v.array(filePath), v.maxLength(100)) }),
  /** The language and the theme of the window are those of the menus and dialogs too. */
  setAppearance: v.strictObject({
    language: v.picklist(['en', 'zh-CN']),
    theme: v.picklist(['system', 'light', 'dark']),
  }),
  /** The window listens to requests from now on. */
  ready: v.strictObject({}),
} as const;

export type ShellCallName = keyof typeof shellCalls;
export type ShellCallInput<Name extends ShellCallName> = v.InferOutput<(typeof shellCalls)[Name]>;

/** What each call gives. */
export interface ShellCallOutput {
  readonly pickFile: string | null;
  readonly pickFolder: string | null;
  readonly pickTarget: string | null;
  readonly showInFolder: null;
  readonly startDrag: null;
  readonly openPaths: null;
  readonly setAppearance: null;
  readonly ready: null;
}

export type ShellLanguage = ShellCallInput<'setAppearance'>['language'];
export type ShellTheme = ShellCallInput<'setAppearance'>['theme'];

/** What the shell asks of the window: menus, files that were opened, links, and what happened to the window itself. */
export type ShellRequest =
  /** Show the page with this address (`#/image/…`). */
  | { readonly kind: 'page'; readonly address: string }
  /** Open this sheet, about this file if there is one. */
  | {
      readonly kind: 'sheet';
      readonly sheet: 'create' | 'convert' | 'compare' | 'add-datastore';
      readonly path: string | null;
    }
  /** The window had to be begun anew. `reason` is the system's word for why. */
  | { readonly kind: 'restarted'; readonly reason: string };

/** What the preload script puts into the page under `platterShell`. */
export interface ShellInPage {
  /** Asks for the port that carries the contract; it comes as a message named `portMessage` from the page to itself. */
  connect(): void;
  call<Name extends ShellCallName>(name: Name, input: ShellCallInput<Name>): Promise<ShellCallOutput[Name]>;
  /** Where files that were dropped lie. */
  pathsOf(files: readonly unknown[]): string[];
  onRequest(listener: (request: ShellRequest) => void): void;
}
