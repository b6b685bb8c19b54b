// The passphrases that a sheet asks for: of which files, one for all of them or one each, and how jobs and commands are told.
import { client, type Fault } from '../bridge.ts';
import { nameImage, type NamedImage } from './image-argument.ts';
import { layersBelow } from './lineage.ts';

/** Name under which one passphrase for all is handed over. */
const forAll = 'source';

/** Codes that say that a passphrase was not given. */
const wanted = ['crypto/secret-required', 'crypto/no-secret'];

export class Passphrases {
  /** Files that the catalogue knows to be encrypted, and those that a refusal named. */
  #known = $state<readonly string[]>([]);
  #refused = $state<readonly string[]>([]);
  /** One passphrase opens all of them. */
  same = $state(true);
  one = $state('');
  /** By file, where each has its own. */
  own = $state<Record<string, string>>({});

  /** Files that want one, the uppermost first. */
  get files(): readonly string[] {
    return [...new Set([...this.#known, ...this.#refused])];
  }

  get #each(): boolean {
    return !this.same && this.files.length > 1;
  }

  /** Name of the passphrase for every file that has none of its own; null: there is none. */
  get fallback(): string | null {
    return this.#each || this.one === '' ? null : forAll;
  }

  /** By the names that the program knows: `file:PATH` is for one file. */
  get secrets(): Readonly<Record<string, string>> {
    if (!this.#each) return this.one === '' ? {} : { [forAll]: this.one };
    const typed = this.files.map((file) => [`file:${file}`, this.own[file] ?? ''] as const);
    return Object.fromEntries(typed.filter(([, text]) => text !== ''));
  }

  /** The image as jobs and sessions take it, with what was typed up to now. */
  name(file: string): NamedImage {
    const { image } = nameImage(file);
    return { image: { ...image, secret: this.fallback }, secrets: { ...this.secrets } };
  }

  /** Looks up which of these images, and of the layers below them, are encrypted. */
  async of(files: readonly string[], isWanted: () => boolean): Promise<void> {
    const found: string[] = [];
    for (const file of files) found.push(...(await lockedLayers(file)));
    if (isWanted()) this.#known = found;
  }

  alsoOf(file: string): void {
    if (!this.files.includes(file)) this.#refused = [...this.#refused, file];
  }

  /** The words with which a command is given them, each from a file. `taken`: another passphrase of that command has the plain name. */
  words(taken: boolean): string[] {
    const { files } = this;
    const place = taken ? 'SOURCE-PASSPHRASE-FILE' : 'PASSPHRASE-FILE';
    const words = (id: string, image: string, file: string): string[] => [
      '--object',
      `secret,id=${id},image=${image.replaceAll(',', ',,')},file=${file}`,
    ];
    if (this.#each) return files.flatMap((file, index) => words(`key${index + 1}`, file, `${place}-${index + 1}`));
    const [first] = files;
    return first === undefined ? [] : words('key', files.length === 1 ? first : '*', place);
  }
}

/** The image and the layers below that are encrypted, as far as the catalogue knows them. */
async function lockedLayers(file: string): Promise<string[]> {
  try {
    const record = await client.images.find({ text: file });
    const layers = await layersBelow(record);
    const below = layers.filter((layer) => layer.record?.encrypted === true).map((layer) => layer.file);
    return record.encrypted ? [record.file, ...below] : below;
  } catch {
    return []; // in no datastore: the refusal will name what wants a passphrase
  }
}

/** The file that was refused for want of a passphrase; null: it was another fault. */
export function lockedFile({ code, detail, where }: Fault): string | null {
  const because = typeof detail?.because === 'string' ? detail.because : (code ?? '');
  return wanted.includes(because) ? (where.file ?? null) : null;
}
