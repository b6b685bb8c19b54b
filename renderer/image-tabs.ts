// The tabs of the page of an image, in their order: one row each. A heavy one is fetched when it is first opened.
import type { Component } from 'svelte';
import type { FormatFacts, ImageInfo, ImageRecord } from '../core/workbench/contract.ts';
import Contents from './features/contents/Contents.svelte';
import Check from './features/image/Check.svelte';
import Overview from './features/image/Overview.svelte';
import Snapshots from './features/image/Snapshots.svelte';
import type { MessageKey } from './text/message.svelte.ts';

/** What every tab is given. */
export interface TabProps {
  readonly record: ImageRecord;
  /** Null: not opened yet, or it cannot be opened. */
  readonly info: ImageInfo | null;
  /** Null: no format that is known here. */
  readonly format: FormatFacts | null;
  /** What the address says behind `?`: where in the tab somebody wants to go (`view=file&at=0x10000`). */
  readonly query: Readonly<Record<string, string>>;
}

export interface ImageTab {
  /** Its part of the address. */
  readonly id: string;
  readonly label: MessageKey;
  /** Absent: on every image. */
  readonly shows?: (props: TabProps) => boolean;
  /** The component, or where it is fetched from: `() => import('./features/hex/HexTab.svelte')`. */
  readonly view:
    { readonly now: Component<TabProps> } | { readonly later: () => Promise<{ default: Component<TabProps> }> };
  /** Takes the whole height below the tabs and scrolls by itself. */
  readonly fills?: boolean;
}

export const imageTabs: readonly ImageTab[] = [
  { id: 'overview', label: 'tab.overview', view: { now: Overview } },
  {
    id: 'map',
    label: 'tab.map',
    view: { later: () => import('./features/clusters/ClustersTab.svelte') },
    shows: ({ record }) => !record.gone && record.virtualSize !== null,
    fills: true,
  },
  {
    id: 'snapshots',
    label: 'tab.snapshots',
    view: { now: Snapshots },
    shows: ({ format }) => format?.hasSnapshots === true,
  },
  {
    id: 'contents',
    label: 'tab.contents',
    view: { now: Contents },
    shows: ({ record }) => !record.gone && record.virtualSize !== null,
  },
  { id: 'chain', label: 'tab.chain', view: { later: () => import('./features/chain/ChainTab.svelte') }, fills: true },
  { id: 'check', label: 'tab.check', view: { now: Check }, shows: ({ format }) => format?.canCheck === true },
  { id: 'hex', label: 'tab.hex', view: { later: () => import('./features/hex/HexTab.svelte') }, fills: true },
];
