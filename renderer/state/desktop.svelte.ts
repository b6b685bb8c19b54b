// What passes between the window and a desktop shell around it: menus and opened files from there, language, theme and dropped files from here.
import type { ShellInPage, ShellRequest } from '../../core/workbench/contract.ts';
import { desktop } from '../bridge.ts';
import { t } from '../text/message.svelte.ts';
import { toast } from '../ui/toasts.svelte.ts';
import { settings, shownLanguage } from './settings.svelte.ts';
import { openSheet } from './sheets.svelte.ts';

/** Begins to do what the shell asks; nothing where there is none. To be called once. */
export function followDesktop(): void {
  if (desktop === null) return;
  desktop.onRequest(fulfil);
  void desktop.call('ready', {});
  takeDrops(desktop);
}

/** The menus speak the language of the window, and the system's dialogs have its theme. To be called in an effect. */
export function tellAppearance(): void {
  const appearance = { language: shownLanguage(), theme: settings.theme };
  void desktop?.call('setAppearance', appearance);
}

function fulfil(request: ShellRequest): void {
  switch (request.kind) {
    case 'page':
      location.hash = request.address;
      return;
    case 'sheet': {
      const { sheet, path } = request;
      if (sheet === 'add-datastore') openSheet(sheet, null, path === null ? {} : { folder: path });
      else {
        const image = { file: path ?? '', format: null, virtualSize: null, encrypted: false, children: 0 };
        openSheet(sheet, path === null ? null : image);
      }
      return;
    }
    case 'restarted':
      toast('plain', t('desktop.restarted', { reason: request.reason }));
  }
}

/** Files dropped anywhere but on a field are opened. A page that does not take them would be left for them. */
function takeDrops(shell: ShellInPage): void {
  const isFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') === true;
  window.addEventListener('dragover', (event) => {
    if (isFiles(event)) event.preventDefault();
  });
  window.addEventListener('drop', (event) => {
    if (!isFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    const paths = shell.pathsOf([...(event.dataTransfer?.files ?? [])]).filter((path) => path !== '');
    if (paths.length > 0) void shell.call('openPaths', { paths: paths.slice(0, 100) });
  });
}
