// Who may talk to the server: the one who has the token, from a page that we served, under a name that is ours.
import crypto from 'node:crypto';
import type http from 'node:http';

export interface Guard {
  /** In the address that is printed; good for one visit after the other while the server runs. */
  readonly token: string;
  /** The names and ports under which the server may be spoken to, as they stand in `Host`. */
  readonly hosts: ReadonlySet<string>;
}

/** Why a request is refused: the status and a sentence. */
export interface Refusal {
  readonly status: number;
  readonly text: string;
}

const cookieName = 'platter-session';

export function makeGuard(hosts: Iterable<string>): Guard {
  return { token: crypto.randomBytes(24).toString('base64url'), hosts: new Set(hosts) };
}

/** The value of the cookie: known only to those who showed the token, and worth nothing on another server. */
function cookieValue({ token }: Guard): string {
  return crypto.createHmac('sha256', token).update(cookieName).digest('base64url');
}

/** The header that gives a browser the cookie; pages of other sites cannot send it, scripts cannot read it. */
export function cookieHeader(guard: Guard): string {
  return `${cookieName}=${cookieValue(guard)}; HttpOnly; SameSite=Strict; Path=/`;
}

/**
 * A name that is not ours in `Host` is a page of another site whose name was made to lead here (DNS rebinding); an `Origin` that is not
 * ours is a page of another site that talks to us. Null: neither.
 */
export function refuseStranger(guard: Guard, { headers }: http.IncomingMessage): Refusal | null {
  if (!guard.hosts.has(headers.host ?? '')) return { status: 421, text: 'This server does not go by that name.' };
  const { origin } = headers;
  if (origin !== undefined && origin !== `http://${headers.host}`) {
    return { status: 403, text: 'Pages of other sites may not talk to this server.' };
  }
  return null;
}

/** True for the token of the address that was printed. */
export function isToken(guard: Guard, given: string | null): boolean {
  return given !== null && equal(given, guard.token);
}

export function hasCookie(guard: Guard, { headers }: http.IncomingMessage): boolean {
  const pairs = (headers.cookie ?? '').split(';').map((pair) => pair.trim());
  const found = pairs.find((pair) => pair.startsWith(`${cookieName}=`));
  return found !== undefined && equal(found.slice(cookieName.length + 1), cookieValue(guard));
}

function equal(a: string, b: string): boolean {
  const digest = (text: string): Buffer => crypto.createHash('sha256').update(text).digest();
  return crypto.timingSafeEqual(digest(a), digest(b));
}
