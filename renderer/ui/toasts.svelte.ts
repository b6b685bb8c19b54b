// Short messages at the edge of the window; bad ones stay until they are closed.
import type { Fault } from '../bridge.ts';

export type ToastKind = 'good' | 'bad' | 'plain';

export interface Toast {
  readonly id: number;
  readonly kind: ToastKind;
  readonly text: string;
  readonly fault: Fault | null;
}

export const toasts = $state<{ list: Toast[] }>({ list: [] });

const shownFor = 6000;
const most = 5;
let next = 0;

export function toast(kind: ToastKind, text: string, fault: Fault | null = null): void {
  next += 1;
  const id = next;
  toasts.list = [...toasts.list, { id, kind, text, fault }].slice(-most);
  if (kind !== 'bad') setTimeout(() => dropToast(id), shownFor);
}

export function dropToast(id: number): void {
  toasts.list = toasts.list.filter((shown) => shown.id !== id);
}
