// Which sheet is open over the page, for which image, and with what filled in.
import { freeSheets, type SheetKind } from './sheet-kinds.ts';

export type { FreeSheet, ImageSheet, SheetKind } from './sheet-kinds.ts';

/** The image that a sheet is about; `id`: the catalogue knows it. */
export interface SheetImage {
  readonly id?: string;
  readonly file: string;
  readonly format: string | null;
  readonly virtualSize: number | null;
  readonly encrypted: boolean;
  readonly children: number;
}

/** What is filled in when a sheet opens. */
export interface Preset {
  /** Internal snapshot to be read. */
  readonly snapshot?: string;
  readonly format?: string;
  readonly target?: string;
  /** Id of a target profile, and of the datastore to go to. */
  readonly profile?: string;
  readonly datastore?: string;
  /** The second image of a comparison, or the layer below of an overlay. */
  readonly other?: string;
  /** The folder that is to become a datastore. */
  readonly folder?: string;
  /** The images of a batch. */
  readonly images?: readonly SheetImage[];
}

export interface OpenSheet {
  readonly kind: SheetKind;
  readonly image: SheetImage | null;
  readonly preset: Preset;
}

export const sheets = $state<{ open: OpenSheet | null }>({ open: null });

/** Opens a sheet in place of one that is open; a sheet about an image is not opened without one. */
export function openSheet(kind: SheetKind, image: SheetImage | null = null, preset: Preset = {}): void {
  if (image === null && !(freeSheets as readonly string[]).includes(kind)) return;
  sheets.open = { kind, image, preset };
}

export function closeSheet(): void {
  sheets.open = null;
}
