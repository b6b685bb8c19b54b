// What every sheet holds: its image, passphrase and consents, the job that it starts and what comes of it at once.
import type { JobEntry, WorkName, WorkParams } from '../../core/workbench/contract.ts';
import { faultOf, faultOfJob, type Fault } from '../bridge.ts';
import { t } from '../text/message.svelte.ts';
import { toast } from '../ui/toasts.svelte.ts';
import type { NamedImage } from './image-argument.ts';
import { forgetJob, isOver, jobs, startJob, steerJob, tellEnd, whenMoving, whenOver } from './jobs.svelte.ts';
import { lockedFile, Passphrases } from './passphrases.svelte.ts';
import { closeSheet, sheets, type OpenSheet, type Preset, type SheetImage, type SheetKind } from './sheets.svelte.ts';

/** Codes of a refusal because others read through the image. */
const dependentsCodes = ['in-place/dependents', 'image/has-dependents'];

export class Sheet<Image extends SheetImage | null> {
  readonly image: Image;
  readonly preset: Preset;
  readonly kind: SheetKind | null;
  readonly #open: OpenSheet | null;
  readonly keys = new Passphrases();
  /** Do it although images stand on this one. */
  force = $state(false);
  /** Replace a file that is there. */
  overwrite = $state(false);
  busy = $state(false);
  fault = $state<Fault | null>(null);
  /** The job whose result the sheet waits for. */
  #job = $state<string | null>(null);
  readonly #shown = $derived(jobs.list.find(({ entry }) => entry.id === this.#job)?.entry ?? null);

  constructor(open: OpenSheet | null, image: Image) {
    this.#open = open;
    this.image = image;
    this.kind = open?.kind ?? null;
    this.preset = open?.preset ?? {};
  }

  /** How far the job is that the sheet waits for (0 to 1); null: it waits for none. */
  get share(): number | null {
    if (this.#job === null) return null;
    const progress = this.#shown?.progress ?? null;
    return progress === null || progress.total === 0 ? 0 : progress.done / progress.total;
  }

  get passphrase(): string {
    return this.keys.one;
  }

  set passphrase(text: string) {
    this.keys.one = text;
  }

  get refusedForDependents(): boolean {
    return dependentsCodes.includes(this.fault?.code ?? '');
  }

  get targetExists(): boolean {
    return this.fault?.code === 'image/target-exists';
  }

  /** The image as jobs take it, with the passphrases that were typed for it and for the layers below. */
  named(file: string = this.image?.file ?? ''): NamedImage {
    return this.keys.name(file);
  }

  /**
   * Starts the job that the sheet is for and closes the sheet once it is at work or done. What refuses it before that is shown in the
   * sheet, with everything still filled in.
   */
  async start<Name extends WorkName>(
    work: Name,
    params: WorkParams<Name>,
    secrets: Record<string, string> = {},
  ): Promise<void> {
    await this.#guarded(async () => {
      const id = await startJob(work, params, { secrets, quiet: true });
      const entry = await Promise.race([whenOver(id), whenMoving(id)]);
      if (entry?.state === 'failed') {
        this.#refuse(faultOfJob(entry));
        return;
      }
      tellEnd(id);
      if (entry === null) toast('plain', t('toast.started'));
      this.close();
    });
  }

  /**
   * Runs a job whose result the sheet itself shows. Null: it failed, which is shown, or was cancelled. `keep` false: it only looks, and
   * leaves no line among the jobs.
   */
  async ask<Name extends WorkName>(
    work: Name,
    params: WorkParams<Name>,
    secrets: Record<string, string> = {},
    keep = true,
  ): Promise<JobEntry | null> {
    return this.#guarded(async () => {
      const id = await startJob(work, params, { secrets, quiet: true });
      this.#job = id;
      try {
        const entry = await whenOver(id);
        if (entry.state === 'failed') this.#refuse(faultOfJob(entry));
        if (!keep) await forgetJob(entry.id);
        return entry.state === 'done' ? entry : null;
      } finally {
        this.#job = null;
      }
    });
  }

  /** Asks something else of the program; a fault is shown in the sheet. */
  async attempt<Result>(work: () => Promise<Result>): Promise<Result | null> {
    return this.#guarded(work);
  }

  /** Cancels what the sheet waits for. */
  stop(): void {
    if (this.#job !== null) void steerJob(this.#job, 'cancel');
  }

  /** Closes the sheet, if it is still the one that is open, and stops what only it would show. */
  close(): void {
    if (this.#shown !== null && !isOver(this.#shown)) this.stop();
    if (sheets.open === this.#open) closeSheet();
  }

  /** A file that wants a passphrase which nobody foresaw gets its field. */
  #refuse(fault: Fault | null): void {
    this.fault = fault;
    const locked = fault === null ? null : lockedFile(fault);
    if (locked !== null) this.keys.alsoOf(locked);
  }

  async #guarded<Result>(work: () => Promise<Result>): Promise<Result | null> {
    if (this.busy) return null;
    this.busy = true;
    this.fault = null;
    try {
      return await work();
    } catch (error) {
      this.#refuse(faultOf(error));
      return null;
    } finally {
      this.busy = false;
    }
  }
}

/** The sheet that has just been opened; asked once, when its component begins. */
export function openedSheet(): Sheet<SheetImage | null> {
  return new Sheet(sheets.open, sheets.open?.image ?? null);
}

/** The same for a sheet that is about an image. */
export function openedImageSheet(): Sheet<SheetImage> {
  const { open } = sheets;
  if (open === null || open.image === null) throw new Error('a sheet about an image was opened without one');
  return new Sheet(open, open.image);
}
