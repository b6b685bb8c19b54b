// The component of every sheet: a new sheet is a line here and a name in state/sheets.svelte.ts.
import type { Component } from 'svelte';
import CompactSheet from './features/compact/CompactSheet.svelte';
import ConvertSheet from './features/convert/ConvertSheet.svelte';
import CreateSheet from './features/create/CreateSheet.svelte';
import AddDatastore from './features/library/AddDatastore.svelte';
import OverlaySheet from './features/overlay/OverlaySheet.svelte';
import ResizeSheet from './features/resize/ResizeSheet.svelte';
import type { SheetKind } from './state/sheets.svelte.ts';

export const sheetComponents: Partial<Record<SheetKind, Component>> = {
  convert: ConvertSheet,
  create: CreateSheet,
  'add-datastore': AddDatastore,
  overlay: OverlaySheet,
  resize: ResizeSheet,
  compact: CompactSheet,
};
