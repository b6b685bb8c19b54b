// Where the focus was before a sheet opened, and back there when it closes, also when one sheet or menu led to another.

let before: HTMLElement | null = null;

/** Called before a dialog is shown: keeps what has the focus, unless that is in a dialog itself, which goes. */
export function keepFocus(): void {
  const now = document.activeElement;
  if (!(now instanceof HTMLElement) || now === document.body || now.closest('dialog') !== null) return;
  // An item of a menu is gone by then; the button that opened the menu stays.
  const menu = now.closest('[role=menu]');
  before = menu === null ? now : document.getElementById(menu.getAttribute('aria-labelledby') ?? '');
}

/** Called when a dialog is closed: gives the focus back unless something else has taken it, or another dialog is there. */
export function giveFocusBack(): void {
  queueMicrotask(() => {
    const now = document.activeElement;
    const isLost = now === null || now === document.body || !now.isConnected;
    if (isLost && document.querySelector('dialog[open]') === null && before?.isConnected === true) before.focus();
  });
}
