// The component of every sheet: a new sheet is a line here, a name in state/sheet-kinds.ts and a verb in state/verbs.ts.
import type { Component } from 'svelte';
import AmendSheet from './features/change/AmendSheet.svelte';
import BitmapsSheet from './features/change/BitmapsSheet.svelte';
import UndoSheet from './features/change/UndoSheet.svelte';
import CompactSheet from './features/compact/CompactSheet.svelte';
import CompareSheet from './features/content/CompareSheet.svelte';
import DigestSheet from './features/content/DigestSheet.svelte';
import BatchSheet from './features/convert/BatchSheet.svelte';
import ConvertSheet from './features/convert/ConvertSheet.svelte';
import CreateSheet from './features/create/CreateSheet.svelte';
import DeleteSheet from './features/files/DeleteSheet.svelte';
import MigrateSheet from './features/files/MigrateSheet.svelte';
import MoveSheet from './features/files/MoveSheet.svelte';
import CommitSheet from './features/layers/CommitSheet.svelte';
import MergeSheet from './features/layers/MergeSheet.svelte';
import RebaseSheet from './features/layers/RebaseSheet.svelte';
import AddDatastore from './features/library/AddDatastore.svelte';
import OverlaySheet from './features/overlay/OverlaySheet.svelte';
import ResizeSheet from './features/resize/ResizeSheet.svelte';
import type { SheetKind } from './state/sheets.svelte.ts';

export const sheetComponents: Readonly<Record<SheetKind, Component>> = {
  convert: ConvertSheet,
  'export-ova': ConvertSheet,
  batch: BatchSheet,
  create: CreateSheet,
  compare: CompareSheet,
  digest: DigestSheet,
  'add-datastore': AddDatastore,
  overlay: OverlaySheet,
  commit: CommitSheet,
  merge: MergeSheet,
  rebase: RebaseSheet,
  resize: ResizeSheet,
  compact: CompactSheet,
  amend: AmendSheet,
  bitmaps: BitmapsSheet,
  undo: UndoSheet,
  migrate: MigrateSheet,
  move: MoveSheet,
  delete: DeleteSheet,
};
