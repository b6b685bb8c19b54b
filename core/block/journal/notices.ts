// What happens to journals beside the result of a verb: told to whoever listens, as coded sentences.
import type { ImageError } from '../../errors/image-error.ts';

/** Hears a notice; it is information and ends nothing. */
export type NoticeListener = (notice: ImageError) => void;

let listener: NoticeListener = () => {};

/** From now on `hear` is told: `undo/rolled-back`, `undo/set-aside`, `undo/foreign`, `undo/not-kept`, `undo/left`. One at a time. */
export function listenToJournals(hear: NoticeListener): void {
  listener = hear;
}

export function notice(what: ImageError): void {
  listener(what);
}
