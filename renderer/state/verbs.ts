// What can be done with an image, as menus and the palette offer it: one line per verb that has a sheet.
import type { FormatFacts } from '../../core/workbench/contract.ts';
import type { MessageKey } from '../text/message.svelte.ts';
import { catalogue, formatOf } from './catalogue.svelte.ts';
import type { FreeSheet, ImageSheet, SheetImage, SheetKind } from './sheets.svelte.ts';

/** An image as far as it matters for what can be done with it. */
export interface VerbImage extends SheetImage {
  /** Null: it stands on its own. */
  readonly parentState: string | null;
  readonly gone: boolean;
}

export interface Verb<Kind extends SheetKind> {
  readonly kind: Kind;
  readonly label: MessageKey;
  /** A step over to another group of the menu comes before it. */
  readonly begins?: boolean;
  /** Whether it is possible; absent: always. */
  fits?(image: VerbImage, format: FormatFacts | null): boolean;
}

const readable = ({ gone, virtualSize }: VerbImage): boolean => !gone && virtualSize !== null;
const standing = (image: VerbImage): boolean => readable(image) && image.parentState !== null;
const known = ({ id }: VerbImage): boolean => id !== undefined;

/** Verbs that need no image. */
export const freeVerbs: readonly Verb<FreeSheet>[] = [
  { kind: 'create', label: 'action.new-image' },
  { kind: 'convert', label: 'action.convert' },
  { kind: 'batch', label: 'verb.batch' },
  { kind: 'compare', label: 'verb.compare' },
  { kind: 'add-datastore', label: 'datastores.add' },
];

/** Verbs on one image, in the order of the menu. */
export const imageVerbs: readonly Verb<ImageSheet | 'convert' | 'compare'>[] = [
  { kind: 'convert', label: 'action.convert', fits: readable },
  { kind: 'export-ova', label: 'verb.export-ova', fits: readable },
  {
    kind: 'migrate',
    label: 'verb.migrate',
    fits: (image) => readable(image) && known(image) && catalogue.datastores.length > 0,
  },
  { kind: 'move', label: 'verb.move', fits: (image) => !image.gone && known(image) },
  { kind: 'overlay', label: 'action.overlay', fits: readable, begins: true },
  { kind: 'commit', label: 'verb.commit', fits: standing },
  { kind: 'merge', label: 'verb.merge', fits: (image) => standing(image) && known(image) },
  { kind: 'rebase', label: 'verb.rebase', fits: (image, format) => readable(image) && format?.hasBacking === true },
  { kind: 'resize', label: 'action.resize', fits: readable, begins: true },
  { kind: 'compact', label: 'action.compact', fits: readable },
  {
    kind: 'amend',
    label: 'verb.amend',
    fits: (image, format) => readable(image) && image.format === 'qcow2' && (format?.amendOptions.length ?? 0) > 0,
  },
  { kind: 'bitmaps', label: 'verb.bitmaps', fits: (image, format) => readable(image) && format?.hasBitmaps === true },
  { kind: 'undo', label: 'verb.undo', fits: ({ gone }) => !gone },
  { kind: 'compare', label: 'verb.compare', fits: readable, begins: true },
  { kind: 'digest', label: 'verb.digest', fits: readable },
  { kind: 'delete', label: 'action.delete', fits: known, begins: true },
];

/** Whether a verb is possible with this image now. */
export function fits({ fits: asked }: Verb<SheetKind>, image: VerbImage): boolean {
  return asked?.(image, formatOf(image.format)) ?? true;
}
