// undo: takes back the last verb that changed an image in place, as long as nothing else has written to it since.
import { openFile } from '../block/file.ts';
import { realPath } from '../block/journal/place.ts';
import { lastVerb, takeBack, type TakenBack } from '../block/journal/take-back.ts';
import type { Storage } from '../block/storage.ts';
import { followFiles, requireAllowed, type GatePolicy } from '../formats/gate.ts';
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
    if (!params.dryRun) refuseOthers(params);
    return takeBack(params.path, { dryRun: params.dryRun, ...opening(params) });
  });
}

function opening(params: UndoParams): Omit<Parameters<typeof takeBack>[1], 'dryRun'> {
  const { policy = followFiles } = params;
  const writable = !params.dryRun;
  const lock = writable ? 'write' : 'read';
  const openOther = (from: string, file: string, role: string): Storage => {
    requireAllowed(policy, { from, path: file, role });
    return openFile(file, { writable, lock });
  };
  return {
    openOther,
    openImage: (file) => openFile(file, { writable, lock }),
  };
}

/** Images that were changed together are taken back together: only others that read through them count. */
function refuseOthers({ path, dependents, force }: UndoParams): void {
  const together = lastVerb(path)?.together ?? [];
  const own = new Set(together.map(realPath));
  const others = (of: string): readonly string[] => (dependents?.(of) ?? []).filter((name) => !own.has(realPath(name)));
  for (const image of together.length === 0 ? [path] : together) refuseDependents(image, { dependents: others, force });
}
