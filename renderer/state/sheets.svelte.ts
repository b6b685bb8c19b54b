// Which sheet is open over the page, and for which image.

/** The image that a sheet is about. */
export interface SheetImage {
  readonly file: string;
  readonly format: string | null;
  readonly virtualSize: number | null;
  readonly encrypted: boolean;
  readonly children: number;
}

export type SheetKind = 'convert' | 'create' | 'resize' | 'overlay' | 'compact' | 'add-datastore';

export const sheets = $state<{ open: { kind: SheetKind; image: SheetImage | null } | null }>({ open: null });

export function openSheet(kind: SheetKind, image: SheetImage | null = null): void {
  sheets.open = { kind, image };
}

export function closeSheet(): void {
  sheets.open = null;
}
