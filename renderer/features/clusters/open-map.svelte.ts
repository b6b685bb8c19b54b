// The image that a map is of: its session, opened anew when its content is another, and the findings of its last check.
import type { ImageSession } from '../../../core/workbench/contract.ts';
import { client, faultOf, type Fault } from '../../bridge.ts';
import { Passphrases } from '../../state/passphrases.svelte.ts';
import { t } from '../../text/message.svelte.ts';
import { toast } from '../../ui/toasts.svelte.ts';

/** A finding of the last check that names a place. */
export interface PlacedFinding {
  /** In the file, in bytes. */
  readonly at: number;
  readonly severity: string;
  readonly text: string;
  /** null: in the image's own file. */
  readonly file: string | null;
}

/** A finding and a stretch of the disk that it is about. */
export interface DiskFinding {
  readonly at: number;
  readonly length: number;
  readonly severity: string;
  readonly text: string;
}

/** The most stretches that are kept: a damaged table may lead to one place from everywhere. */
const mostOnDisk = 10_000;
/** Findings of one file that are looked for on the disk. */
const mostAsked = 1000;

export class OpenMap {
  session = $state.raw<ImageSession | null>(null);
  fault = $state.raw<Fault | null>(null);
  readonly keys = new Passphrases();
  findings = $state.raw<readonly PlacedFinding[]>([]);
  /** Those that lie on the disk, as far as they were looked for. */
  onDisk = $state.raw<readonly DiskFinding[]>([]);
  #turn = 0;

  /** Opens the image anew; what was seen stays until the new session has answered. True: it was another session before. */
  async open(file: string): Promise<boolean> {
    const turn = ++this.#turn;
    try {
      const { image, secrets } = this.keys.name(file);
      const next = await client.sessions.open({ image, secrets, lenient: true });
      if (turn !== this.#turn) {
        await client.sessions.close({ session: next.id });
        return false;
      }
      const old = this.session;
      this.session = next;
      this.fault = null;
      const locked = next.reduced?.locked ?? null;
      if (locked !== null) this.keys.alsoOf(locked);
      if (old !== null) await client.sessions.close({ session: old.id });
      return old !== null;
    } catch (error) {
      if (turn === this.#turn) this.fault = faultOf(error);
      return false;
    }
  }

  async loadFindings(id: string): Promise<void> {
    try {
      const kept = await client.images.findings({ id });
      this.findings = kept.flatMap(({ place, severity, text }) =>
        place.offset === undefined ? [] : [{ at: place.offset, severity, text, file: place.file ?? null }],
      );
    } catch (error) {
      toast('bad', t('toast.refused'), faultOf(error));
    }
  }

  /** Looks for the findings on the disk, step by step, until `signal`. */
  async findOnDisk(session: ImageSession, signal: AbortSignal): Promise<void> {
    const placed: DiskFinding[] = [];
    try {
      for (const { role, path } of session.files) {
        const here = this.findings.filter(({ file }) => (file === null ? role === 'file' : file === path));
        const asked = here.slice(0, mostAsked);
        if (asked.length === 0) continue;
        for (let from: number | null = 0; from !== null && placed.length < mostOnDisk;) {
          const step = { session: session.id, view: role, at: asked.map(({ at }) => at), from };
          const { found, next } = await client.sessions.guestPlaces(step, { signal });
          if (signal.aborted) return;
          for (const { index, start, length } of found) {
            const finding = asked[index];
            if (finding !== undefined) placed.push({ ...finding, at: start, length });
          }
          if (found.length > 0) this.onDisk = placed.slice(0, mostOnDisk);
          from = next;
        }
      }
      this.onDisk = placed.slice(0, mostOnDisk);
    } catch (error) {
      // Of a session that was replaced meanwhile nobody wants to know.
      if (!signal.aborted && this.session?.id === session.id) this.fault = faultOf(error);
    }
  }

  close(): void {
    this.#turn += 1;
    if (this.session !== null) void client.sessions.close({ session: this.session.id });
  }
}
