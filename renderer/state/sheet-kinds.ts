// The sheets there are.

/** Sheets that need no image, and those that are about one. */
export const freeSheets = ['convert', 'create', 'batch', 'compare', 'add-datastore'] as const;
export const imageSheets = [
  'overlay',
  'resize',
  'compact',
  'commit',
  'merge',
  'rebase',
  'migrate',
  'move',
  'digest',
  'export-ova',
  'amend',
  'bitmaps',
  'undo',
  'delete',
] as const;

export type FreeSheet = (typeof freeSheets)[number];
export type ImageSheet = (typeof imageSheets)[number];
export type SheetKind = FreeSheet | ImageSheet;
