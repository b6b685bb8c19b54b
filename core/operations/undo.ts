// undo: takes back the last verb that changed an image in place, as long as nothing else has written to it since.
import { openFile } from '../block/file.ts';
import { lastVerb, takeBack, type TakenBack } from '../block/journal/take-back.ts';
import type { Storage } from '../block/storage.ts';
import { ImageError } from '../errors/image-error.ts';
import { followFiles, type GatePolicy } from '../formats/gate.ts';
import type { Job } from '../job.ts';
import { refuseDependents, type InPlaceOptions } from './in-place.ts';

export interface UndoParams {
  readonly path: string;
  /** Say what would be taken back, and change nothing. */
  readonly dryRun: boolean;
  /** Decides about further files of the image. */
  readonly policy?: GatePolicy | undefined;
  readonly dependents?: InPlaceOptions['dependents'];
  readonly force?: boolean | undefined;
}

export type UndoResult = TakenBack;

/**
 * Takes back, or says what would be. Of a verb that ended early too, as any opening for writing would do. Throws `undo/*`, `in-place/dependents`, `gate/refused`, `storage/*`.
 */
export function undo(params: UndoParams, job: Job): Promise<UndoResult> {
  return Promise.resolve().then(() => {
    job.throwIfCancelled();
    if (!params.dryRun) refuseDependents(params.path, params);
    return takeBack(params.path, { dryRun: params.dryRun, ...opening(params) });
  });
}

function opening(params: UndoParams): Omit<Parameters<typeof takeBack>[1], 'dryRun'> {
  const { policy = followFiles } = params;
  const writable = !params.dryRun;
  const lock = writable ? 'write' : 'read';
  const openOther = (from: string, file: string, role: string): Storage => {
    const reason = policy.refuse({ from, path: file, role });
    if (reason !== null) throw new ImageError('gate/refused', { name: file, reason }, { file: from });
    return openFile(file, { writable, lock });
  };
  return {
    openOther,
    openImage: (file) => openFile(file, { writable, lock }),
  };
}

/** The verb that `undo` would take back, from a quick look; null: there is none. */
export function undoable(path: string): Pick<UndoResult, 'verb' | 'command' | 'time'> | null {
  return lastVerb(path);
}
