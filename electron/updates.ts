// Whether a newer version is out: asked only where a feed is configured, and by itself only when the user has turned that on.
import { net } from 'electron';
import fs from 'node:fs';
import * as v from 'valibot';
import type { Preferences } from './preferences.ts';

const version = v.pipe(v.string(), v.regex(/^\d{1,6}\.\d{1,6}\.\d{1,6}$/));
/** What a feed answers with. */
const release = v.object({ version, page: v.optional(v.pipe(v.string(), v.maxLength(1000), v.url())) });

export interface Release {
  readonly version: string;
  /** Where it can be had: on the host of the feed; null: the feed does not say. */
  readonly page: string | null;
}

const day = 24 * 60 * 60 * 1000;
const patience = 15_000;
const mostRead = 64 * 1024;

/** The address of the feed: PLATTER_UPDATE_FEED, or `updateFeed` of package.json; null: there is none, or it is not HTTPS. */
export function feedAddress(packageFile: string, environment: NodeJS.ProcessEnv = process.env): string | null {
  const named = environment.PLATTER_UPDATE_FEED ?? readFeed(packageFile);
  if (typeof named !== 'string' || !URL.canParse(named)) return null;
  return new URL(named).protocol === 'https:' ? named : null;
}

function readFeed(packageFile: string): unknown {
  const facts: unknown = JSON.parse(fs.readFileSync(packageFile, 'utf8'));
  return typeof facts === 'object' && facts !== null && 'updateFeed' in facts ? facts.updateFeed : null;
}

/** What the feed names as the newest version. Rejects with a plain error that says why not. */
export async function newestRelease(feed: string): Promise<Release> {
  const answer = await net.fetch(feed, {
    redirect: 'error',
    credentials: 'omit',
    cache: 'no-store',
    signal: AbortSignal.timeout(patience),
    headers: { Accept: 'application/json' },
  });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const parsed = v.parse(release, JSON.parse(await readSome(answer)));
  const { page } = parsed;
  const trusted =
    page !== undefined && new URL(page).protocol === 'https:' && new URL(page).host === new URL(feed).host;
  return { version: parsed.version, page: trusted ? page : null };
}

async function readSome(answer: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const body: AsyncIterable<Uint8Array> | null = answer.body;
  for await (const part of body ?? []) {
    length += part.length;
    if (length > mostRead) throw new Error(`more than ${mostRead} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** True when `other` comes after `own`. */
export function isNewer(other: string, own: string): boolean {
  const numbers = (text: string): number[] => (text.split('-')[0] ?? '').split('.').map(Number);
  const [a, b] = [numbers(other), numbers(own)];
  for (let i = 0; i < 3; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/** Asks once a day while the user wants that; `found` hears of a newer version. A feed that cannot be reached is asked again later. */
export function watchReleases(
  feed: string,
  own: string,
  preferences: Preferences,
  found: (release: Release) => void,
): void {
  const look = async (): Promise<void> => {
    const { checkUpdates, updatesCheckedAt } = preferences.now;
    if (!checkUpdates || Math.abs(Date.now() - updatesCheckedAt) < day) return;
    try {
      const newest = await newestRelease(feed);
      preferences.write({ updatesCheckedAt: Date.now() });
      if (isNewer(newest.version, own)) found(newest);
    } catch {
      return;
    }
  };
  void look();
  setInterval(() => void look(), day / 24).unref();
}
