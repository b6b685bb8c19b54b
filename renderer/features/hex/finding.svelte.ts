// What is searched for in a view: the walk in both directions with how far it got, the places in sight, all of them as a list.
import type { Match, PatternKind } from '../../../core/workbench/contract.ts';
import { client, faultOf } from '../../bridge.ts';
import { t } from '../../text/message.svelte.ts';
import { sizeText } from '../../text/sizes.ts';
import { keepPattern, keptPatterns, type Asked } from './kept-patterns.ts';
import { MatchSource } from './match-source.svelte.ts';

/** Places that a list holds at most. */
export const mostListed = 1000;

/** The view that is searched. Bytes. */
export interface Searched {
  readonly session: string;
  readonly view: string;
  readonly size: number;
}

export class Finding {
  kind = $state<PatternKind>('utf-8');
  text = $state('');
  ignoreCase = $state(false);
  open = $state(false);
  /** Between 0 and 1 while it searches; null: it does not. */
  progress = $state<number | null>(null);
  said = $state('');
  isFault = $state(false);
  kept = $state.raw<readonly Asked[]>(keptPatterns());
  /** Null: no list was asked for. `whole`: nothing is left out. */
  listed = $state.raw<{ readonly places: readonly Match[]; readonly whole: boolean } | null>(null);
  /** Marks what was searched for last; null: nothing was. */
  marks = $state.raw<MatchSource | null>(null);
  #run = 0;

  constructor() {
    const [last] = this.kept;
    if (last !== undefined) this.take(last);
  }

  get asked(): Asked {
    const isText = this.kind === 'utf-8' || this.kind === 'utf-16' || this.kind === 'utf-16be';
    return { kind: this.kind, text: this.text, ignoreCase: isText && this.ignoreCase };
  }

  take({ kind, text, ignoreCase }: Asked): void {
    [this.kind, this.text, this.ignoreCase] = [kind, text, ignoreCase];
  }

  /** Another view, or none any more: nothing of what was found is true there. */
  forget(): void {
    this.cancel();
    this.marks?.close();
    this.marks = null;
    this.listed = null;
    this.said = '';
  }

  close(): void {
    this.open = false;
    this.forget();
  }

  cancel(): void {
    if (this.progress === null) return;
    this.#run += 1;
    this.progress = null;
    this.said = t('hex.find.cancelled');
  }

  /** Goes to the nearest place behind (before) the cursor; from the other end if there is none. */
  async step(where: Searched, cursor: number, backwards: boolean, go: (match: Match) => void): Promise<void> {
    const mine = this.#begin(where);
    if (mine === null) return;
    const { size } = where;
    let from = backwards ? cursor : cursor + 1;
    let wrapped = false;
    let passed = 0;
    let unread = 0;
    try {
      for (;;) {
        const { matches, next, ...step } = await this.#ask(where, from, backwards, 1);
        if (mine !== this.#run) return;
        unread += step.unread;
        const [found] = matches;
        // Once round, the place under the cursor is the last one that counts.
        const isBeyond = found !== undefined && wrapped && (backwards ? found.start < cursor : found.start > cursor);
        if (found !== undefined && !isBeyond) {
          go(found);
          this.said = [
            ...(wrapped ? [t(backwards ? 'hex.find.wrapped-back' : 'hex.find.wrapped')] : []),
            ...this.#losses(unread),
          ].join(' ');
          break;
        }
        const isRound = wrapped && (next === null || (backwards ? next <= cursor : next > cursor));
        if (isRound || found !== undefined) {
          this.said = [t('hex.find.none'), ...this.#losses(unread)].join(' ');
          break;
        }
        if (next === null) {
          wrapped = true;
          passed += backwards ? from : size - from;
          from = backwards ? size : 0;
        } else {
          passed += Math.abs(next - from);
          from = next;
        }
        this.progress = size === 0 ? 1 : Math.min(1, passed / size);
      }
    } catch (error) {
      this.#fail(mine, error);
    }
    if (mine === this.#run) this.progress = null;
  }

  /** All places from the start on, as many as a list holds. */
  async list(where: Searched): Promise<void> {
    const mine = this.#begin(where);
    if (mine === null) return;
    const places: Match[] = [];
    let unread = 0;
    try {
      for (let from: number | null = 0; from !== null && places.length < mostListed;) {
        const step = await this.#ask(where, from, false, mostListed - places.length);
        if (mine !== this.#run) return;
        places.push(...step.matches);
        unread += step.unread;
        from = step.next;
        this.listed = { places: [...places], whole: from === null };
        this.progress = from === null || where.size === 0 ? 1 : from / where.size;
      }
      this.said = [...(places.length === 0 ? [t('hex.find.none')] : []), ...this.#losses(unread)].join(' ');
    } catch (error) {
      this.#fail(mine, error);
    }
    if (mine === this.#run) this.progress = null;
  }

  /** The number of this search; null: there is nothing to search for. */
  #begin(where: Searched): number | null {
    if (this.text === '') return null;
    this.said = '';
    this.isFault = false;
    this.listed = null;
    this.progress = 0;
    this.kept = keepPattern(this.asked);
    this.marks?.close();
    this.marks = new MatchSource(where.session, where.view, where.size, this.asked);
    return ++this.#run;
  }

  #ask({ session, view }: Searched, from: number, backwards: boolean, limit: number) {
    return client.sessions.find({ session, view, pattern: this.asked, from, backwards, limit });
  }

  #losses(unread: number): string[] {
    return unread === 0 ? [] : [t('hex.find.unread', { size: sizeText(unread) })];
  }

  #fail(mine: number, error: unknown): void {
    if (mine !== this.#run) return;
    this.said = faultOf(error).text;
    this.isFault = true;
    this.marks?.close();
    this.marks = null;
  }
}
