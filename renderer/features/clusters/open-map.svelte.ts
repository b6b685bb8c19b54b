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

export class OpenMap {
  session = $state.raw<ImageSession | null>(null);
  fault = $state.raw<Fault | null>(null);
  readonly keys = new Passphrases();
  findings = $state.raw<readonly PlacedFinding[]>([]);
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

  close(): void {
    this.#turn += 1;
    if (this.session !== null) void client.sessions.close({ session: this.session.id });
  }
}
