// What the overview asks an open image: how much of the disk it has data for, and who else has it open.
import { client, unasked } from '../../bridge.ts';
import { nameImage } from '../../state/image-argument.ts';

export interface Looked {
  /** Bytes of the guest's disk that the image itself holds; null: not to be had. */
  readonly referenced: number | null;
  /** There may be more: the count was given up before the end. */
  readonly atLeast: boolean;
  readonly holders: readonly { readonly pid: number; readonly command: string }[];
}

/** Classes of the map that are bytes in the image's own files. */
const stored = ['data', 'packed'];
/** Times that the count is asked for, and milliseconds between. */
const mostAsked = 20;
const pause = 250;

/** Tells `hear` what is known, again as more is; ends with the count or after a while. Throws what opening throws. */
export async function lookInto(file: string, signal: AbortSignal, hear: (looked: Looked) => void): Promise<void> {
  const session = await unasked.sessions.open({ ...nameImage(file), lenient: true });
  try {
    const { id, guestSize, mapUnits, reduced } = session;
    const holders = await client.sessions.holders({ session: id });
    if (signal.aborted) return;
    hear({ referenced: null, atLeast: false, holders });
    if (reduced !== null || guestSize === 0) return;
    const level = Math.max(0, Math.ceil(Math.log2(guestSize / mapUnits.guest)));
    const view = { session: id, view: 'guest', layer: 'state', level, first: 0, cells: 1 } as const;
    for (let asked = 0; asked < mostAsked; asked += 1) {
      const { classes, totals, surveyed, size } = await client.sessions.map(view, { signal });
      const referenced = stored.reduce((sum, name) => sum + (totals[classes.indexOf(name)] ?? 0), 0);
      hear({ referenced, atLeast: surveyed < size, holders });
      if (surveyed >= size || signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  } finally {
    await client.sessions.close({ session: session.id });
  }
}
