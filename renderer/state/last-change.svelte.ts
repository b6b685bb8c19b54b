// What can be taken back of an image: asked for as soon as its verbs are shown, so that taking back is offered where there is something.
import { SvelteMap } from 'svelte/reactivity';
import type { ImageEntry, LastVerb } from '../../core/workbench/contract.ts';
import { client } from '../bridge.ts';
import { messageOf } from '../text/message.svelte.ts';
import { catalogue } from './catalogue.svelte.ts';

/** By the file of the image; null: nothing can be taken back. */
const known = new SvelteMap<string, LastVerb | null>();
/** Files of which that is kept. */
const most = 100;
/** Milliseconds that an image is selected before anything is asked: keys move over many. */
const rest = 150;

/** Asks in an effect, and again whenever images may have changed; of several images nothing can be taken back at once. */
export function wantLastChange(images: readonly ImageEntry[]): (() => void) | undefined {
  const [image] = images;
  void catalogue.version;
  if (image === undefined || images.length > 1 || image.gone) return undefined;
  const { file } = image;
  const ask = async (): Promise<void> => {
    let last: LastVerb | null;
    try {
      last = await client.images.undo({ path: file });
    } catch {
      last = null; // out of reach now: then nothing can be taken back either
    }
    if (known.size >= most) known.clear();
    known.set(file, last);
  };
  const timer = setTimeout(() => void ask(), rest);
  return () => clearTimeout(timer);
}

/** Null: nothing, or nothing that is known yet. */
export function lastChangeOf({ file }: ImageEntry): LastVerb | null {
  return known.get(file) ?? null;
}

/** The verb that would be taken back, in words. */
export function lastChangeText(image: ImageEntry): string | null {
  const last = lastChangeOf(image);
  return last === null ? null : (messageOf(`work.${last.verb}`) ?? last.verb);
}
