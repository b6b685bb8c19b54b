// Which panel of the shell is open over the page: the palette, the keys, or a question about several images at once.
import type { ImageEntry } from '../../core/workbench/contract.ts';

export type Panel =
  | { readonly kind: 'palette' | 'keys' | 'samples' }
  /** `name`: what is known of a file that was dropped here, when its folder is not. */
  | { readonly kind: 'open'; readonly name: string | null }
  | { readonly kind: 'tag' | 'delete' | 'forget'; readonly images: readonly ImageEntry[] }
  | { readonly kind: 'migrate'; readonly images: readonly ImageEntry[]; readonly datastore: string | null };

export const panels = $state<{ open: Panel | null }>({ open: null });

export function openPanel(panel: Panel): void {
  panels.open = panel;
}

export function closePanel(): void {
  panels.open = null;
}
