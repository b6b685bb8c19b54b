// What no page may do, whatever it shows: go elsewhere, open windows, ask for devices, reach the network.
import type { Session, WebContents } from 'electron';
import { openOutside } from './external-links.ts';

/** The one permission that is given: to put text into the clipboard (not to read it), for the copying of command lines. */
const given = 'clipboard-sanitized-write';

/** For everything that is loaded: only `origin` is reached, no permission but one is given, no dictionary is fetched. */
export function guardSession(session: Session, origin: string): void {
  session.setPermissionRequestHandler((contents, permission, answer) =>
    answer(permission === given && isWithin(contents.getURL(), origin)),
  );
  session.setPermissionCheckHandler(
    (_contents, permission, asking) => permission === given && sameOrigin(asking, origin),
  );
  session.setDevicePermissionHandler(() => false);
  session.setSpellCheckerEnabled(false);
  session.webRequest.onBeforeRequest(({ url }, answer) => answer({ cancel: !mayLoad(url, origin) }));
  // Pictures and lists that the window made itself are saved through the system's dialog; anything else is no business of it.
  session.on('will-download', (event, item) => {
    if (!isOwnData(item.getURL(), origin)) event.preventDefault();
  });
}

/** For each page of the program: it stays where it is. */
export function guardContents(contents: WebContents, origin: string): void {
  const stay = (event: { preventDefault(): void; readonly url: string }): void => {
    if (event.url.replace(/#.*$/s, '') === `${origin}/`) return; // its own page, loaded anew
    event.preventDefault();
    openOutside(event.url);
  };
  contents.on('will-navigate', stay);
  contents.on('will-frame-navigate', (event) => {
    if (!event.isMainFrame) event.preventDefault();
  });
  contents.on('will-redirect', stay);
  contents.on('will-attach-webview', (event) => event.preventDefault());
  contents.setWindowOpenHandler(({ url }) => {
    openOutside(url);
    return { action: 'deny' };
  });
}

/** True for an address in the window itself. */
export function isWithin(address: string, origin: string): boolean {
  return address === origin || address.startsWith(`${origin}/`);
}

function sameOrigin(asking: string, origin: string): boolean {
  return asking === origin || asking === `${origin}/`;
}

function isOwnData(address: string, origin: string): boolean {
  return address.startsWith(`blob:${origin}/`) || address.startsWith('data:');
}

function mayLoad(address: string, origin: string): boolean {
  if (isWithin(address, origin) || isOwnData(address, origin) || address.startsWith('devtools:')) return true;
  // While the window is worked on, its server tells it of changes over a WebSocket.
  return origin.startsWith('http://') && address.startsWith(`${origin.replace('http:', 'ws:')}/`);
}
