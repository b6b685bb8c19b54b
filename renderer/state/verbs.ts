// Everything that a person can do here, once: its name, its key, what it needs, what it does. Palette, menus, tool bars and keys are drawn from it.
import type { FormatFacts, ImageEntry } from '../../core/workbench/contract.ts';
import { faultOf } from '../bridge.ts';
import { t, type MessageKey } from '../text/message.svelte.ts';
import { toast } from '../ui/toasts.svelte.ts';
import { checkAll, digestAll } from './batch.svelte.ts';
import { catalogue, formatOf, looseStoreOf, refreshCatalogue } from './catalogue.svelte.ts';
import { showSteps } from './first-steps.svelte.ts';
import { scanNow } from './jobs.svelte.ts';
import { lastChangeOf, lastChangeText } from './last-change.svelte.ts';
import { openPanel } from './panels.svelte.ts';
import { goTo } from './route.svelte.ts';
import { isReadable } from './selection.svelte.ts';
import { openSheet, type FreeSheet, type ImageSheet } from './sheets.svelte.ts';

type Images = readonly ImageEntry[];

export interface Verb {
  readonly id: string;
  readonly label: MessageKey;
  readonly group: 'library' | 'image' | 'change' | 'go';
  /** As `isKey` reads it. */
  readonly key?: string;
  /** How many images it acts on. */
  readonly takes: 'none' | 'one' | 'some';
  /** Its images need not be readable. */
  readonly anyState?: boolean;
  /** A further condition. */
  readonly fits?: (images: Images) => boolean;
  /** It is left out of menus where that condition is not met. */
  readonly rare?: boolean;
  /** What it would be about, behind its name. */
  readonly hint?: (images: Images) => string | null;
  run(images: Images): void;
}

/** Every one of them is of a format that can do this. */
const formatsHave =
  (has: (format: FormatFacts) => boolean) =>
  (images: Images): boolean =>
    images.every((image) => {
      const format = formatOf(image.format);
      return format !== null && has(format);
    });

/** A sheet about one image. */
const sheet = (kind: ImageSheet) => (images: Images) => openSheet(kind, images[0] ?? null);
const free = (kind: FreeSheet) => () => openSheet(kind);
const tab =
  (name: string) =>
  ([image]: Images) => {
    if (image !== undefined) goTo({ page: 'image', id: image.id, tab: name });
  };
const hasParent = (images: Images): boolean => images.every(({ parentState }) => parentState !== null);

export const verbs: readonly Verb[] = [
  {
    id: 'palette',
    label: 'palette.open',
    group: 'go',
    key: 'Mod+k',
    takes: 'none',
    run: () => openPanel({ kind: 'palette' }),
  },
  { id: 'new', label: 'action.new-image', group: 'library', key: 'n', takes: 'none', run: free('create') },
  {
    id: 'open-file',
    label: 'action.open-file',
    group: 'library',
    key: 'o',
    takes: 'none',
    run: () => openPanel({ kind: 'open', name: null }),
  },
  { id: 'batch', label: 'verb.batch', group: 'library', takes: 'none', run: free('batch') },
  {
    id: 'samples',
    label: 'samples.make',
    group: 'library',
    takes: 'none',
    run: () => openPanel({ kind: 'samples' }),
  },
  { id: 'add-datastore', label: 'datastores.add', group: 'library', takes: 'none', run: free('add-datastore') },
  {
    id: 'refresh',
    label: 'action.refresh',
    group: 'library',
    key: 'u',
    takes: 'none',
    run: () => void refreshEverything(),
  },
  {
    id: 'open',
    label: 'action.open',
    group: 'image',
    key: 'Enter',
    takes: 'one',
    anyState: true,
    run: tab('overview'),
  },
  {
    id: 'convert',
    label: 'action.convert',
    group: 'image',
    key: 'c',
    takes: 'some',
    run(images) {
      if (images.length > 1) openSheet('batch', null, { images });
      else openSheet('convert', images[0] ?? null);
    },
  },
  {
    id: 'compare',
    label: 'verb.compare',
    group: 'image',
    key: 'Shift+c',
    takes: 'some',
    fits: ({ length }) => length <= 2,
    run: ([first = null, second]) => openSheet('compare', first, second === undefined ? {} : { other: second.file }),
  },
  {
    id: 'overlay',
    label: 'action.overlay',
    group: 'image',
    key: 'l',
    takes: 'one',
    run: sheet('overlay'),
  },
  {
    id: 'check',
    label: 'action.check',
    group: 'image',
    key: 'k',
    takes: 'some',
    run: (images) => (images.length === 1 ? tab('check')(images) : void checkAll(images)),
  },
  {
    id: 'digest',
    label: 'verb.digest',
    group: 'image',
    key: 'd',
    takes: 'some',
    run: (images) => (images.length === 1 ? openSheet('digest', images[0]) : void digestAll(images)),
  },
  {
    id: 'migrate',
    label: 'verb.migrate',
    group: 'image',
    key: 'm',
    takes: 'some',
    run: (images) =>
      images.length === 1 ? openSheet('migrate', images[0]) : openPanel({ kind: 'migrate', images, datastore: null }),
  },
  {
    id: 'tag',
    label: 'action.tag',
    group: 'image',
    key: 't',
    takes: 'some',
    anyState: true,
    run: (images) => openPanel({ kind: 'tag', images }),
  },
  {
    id: 'export-ova',
    label: 'verb.export-ova',
    group: 'image',
    takes: 'one',
    run: sheet('export-ova'),
  },
  {
    id: 'resize',
    label: 'action.resize',
    group: 'change',
    key: 'r',
    takes: 'one',
    run: sheet('resize'),
  },
  {
    id: 'compact',
    label: 'action.compact',
    group: 'change',
    key: 'p',
    takes: 'one',
    run: sheet('compact'),
  },
  {
    id: 'snapshots',
    label: 'action.snapshots',
    group: 'change',
    key: 's',
    takes: 'one',
    fits: formatsHave(({ hasSnapshots }) => hasSnapshots),
    run: tab('snapshots'),
  },
  {
    id: 'commit',
    label: 'verb.commit',
    group: 'change',
    takes: 'one',
    fits: hasParent,
    run: sheet('commit'),
  },
  {
    id: 'merge',
    label: 'verb.merge',
    group: 'change',
    takes: 'one',
    fits: hasParent,
    run: sheet('merge'),
  },
  {
    id: 'rebase',
    label: 'verb.rebase',
    group: 'change',
    takes: 'one',
    fits: formatsHave(({ hasBacking }) => hasBacking),
    run: sheet('rebase'),
  },
  {
    id: 'amend',
    label: 'verb.amend',
    group: 'change',
    takes: 'one',
    fits: formatsHave(({ amendOptions }) => amendOptions.length > 0),
    run: sheet('amend'),
  },
  {
    id: 'bitmaps',
    label: 'verb.bitmaps',
    group: 'change',
    takes: 'one',
    fits: formatsHave(({ hasBitmaps }) => hasBitmaps),
    run: sheet('bitmaps'),
  },
  { id: 'rename', label: 'verb.move', group: 'change', key: 'F2', takes: 'one', run: sheet('move') },
  {
    id: 'undo',
    label: 'verb.undo',
    group: 'change',
    takes: 'one',
    anyState: true,
    rare: true,
    fits: ([image]) => image !== undefined && lastChangeOf(image) !== null,
    hint: ([image]) => (image === undefined ? null : lastChangeText(image)),
    run: sheet('undo'),
  },
  {
    id: 'forget',
    label: 'verb.forget',
    group: 'change',
    takes: 'some',
    anyState: true,
    rare: true,
    fits: (images) => images.every(({ file }) => looseStoreOf(file) !== null),
    run: (images) => openPanel({ kind: 'forget', images }),
  },
  {
    id: 'delete',
    label: 'action.delete',
    group: 'change',
    key: 'Delete',
    takes: 'some',
    anyState: true,
    run: (images) => (images.length === 1 ? openSheet('delete', images[0]) : openPanel({ kind: 'delete', images })),
  },
  {
    id: 'library',
    label: 'datastores.all',
    group: 'go',
    key: '1',
    takes: 'none',
    run: () => goTo({ page: 'library', datastore: null, tag: null }),
  },
  {
    id: 'chains',
    label: 'page.chains',
    group: 'go',
    key: '5',
    takes: 'none',
    run: () => goTo({ page: 'chains', image: null }),
  },
  {
    id: 'problems',
    label: 'page.problems',
    group: 'go',
    key: '2',
    takes: 'none',
    run: () => goTo({ page: 'problems' }),
  },
  { id: 'jobs', label: 'page.jobs', group: 'go', key: '3', takes: 'none', run: () => goTo({ page: 'jobs' }) },
  {
    id: 'settings',
    label: 'page.settings',
    group: 'go',
    key: '4',
    takes: 'none',
    run: () => goTo({ page: 'settings' }),
  },
  { id: 'first-steps', label: 'steps.title', group: 'go', takes: 'none', run: () => showSteps(true) },
  { id: 'keys', label: 'keys.title', group: 'go', key: '?', takes: 'none', run: () => openPanel({ kind: 'keys' }) },
];

/** Verbs that begin without an image too: they ask for it. */
const canAsk = ['convert', 'compare'];

/** Why there is nothing to stop it: the images are as many as it takes, and as it needs them. */
export function canRun(verb: Verb, images: Images): boolean {
  if (verb.takes === 'none') return true;
  if (images.length === 0) return canAsk.includes(verb.id);
  if (verb.takes === 'one' && images.length > 1) return false;
  return (verb.anyState === true || images.every(isReadable)) && (verb.fits?.(images) ?? true);
}

export function verbOf(id: string): Verb {
  const verb = verbs.find((one) => one.id === id);
  if (verb === undefined) throw new Error(`there is no verb '${id}'`);
  return verb;
}

/** It belongs into a menu for these images, if only to be seen there. */
export function isOffered(verb: Verb, images: Images): boolean {
  return verb.rare !== true || canRun(verb, images);
}

/** Looks through every datastore that can be reached, and asks for everything anew. */
async function refreshEverything(): Promise<void> {
  await refreshCatalogue();
  try {
    await Promise.all(catalogue.datastores.map(({ id }) => scanNow(id)));
  } catch (error) {
    toast('bad', t('toast.scan-failed'), faultOf(error));
  }
}
