// What the whole window knows of the catalogue: datastores, formats, the number of problems; pages fetch their own lists.
import type { About, Datastore, FormatFacts } from '../../core/workbench/contract.ts';
import { folderOf } from '../text/paths.ts';
import { client, faultOf, type Fault } from '../bridge.ts';

interface CatalogueState {
  /** Goes up whenever images may have changed: who shows some asks again. */
  version: number;
  about: About | null;
  formats: readonly FormatFacts[];
  datastores: readonly Datastore[];
  /** Folders of which only single files are known, which were opened by name. */
  loose: readonly Datastore[];
  problems: number;
  loaded: boolean;
  fault: Fault | null;
}

export const catalogue = $state<CatalogueState>({
  version: 0,
  about: null,
  formats: [],
  datastores: [],
  loose: [],
  problems: 0,
  loaded: false,
  fault: null,
});

/** Asks for everything that the shell shows. */
export async function refreshCatalogue(): Promise<void> {
  try {
    if (catalogue.about === null) {
      const [about, formats] = await Promise.all([client.program.about(), client.program.formats()]);
      catalogue.about = about;
      catalogue.formats = formats;
    }
    const [datastores, problems] = await Promise.all([
      client.datastores.list(),
      client.datastores.problems({ offset: 0, limit: 1 }),
    ]);
    catalogue.datastores = datastores.filter(({ kind }) => kind === 'folder');
    catalogue.loose = datastores.filter(({ kind }) => kind === 'loose');
    catalogue.problems = problems.total;
    catalogue.loaded = true;
    catalogue.fault = null;
    catalogue.version += 1;
  } catch (error) {
    catalogue.fault = faultOf(error);
  }
}

let soon: ReturnType<typeof setTimeout> | null = null;

/** The same shortly; many changes in a row are one. */
export function refreshSoon(): void {
  soon ??= setTimeout(() => {
    soon = null;
    void refreshCatalogue();
  }, 200);
}

/** Hears of changes for as long as the window lives, whoever made them; after a lost connection it begins anew. */
export async function watchCatalogue(): Promise<void> {
  for (;;) {
    try {
      for await (const _ of await client.catalogue.news()) refreshSoon();
    } catch (error) {
      catalogue.fault = faultOf(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** The format of that id, if it is known. */
export function formatOf(id: string | null): FormatFacts | null {
  return catalogue.formats.find((format) => format.id === id) ?? null;
}

/** The datastore or the folder of loose files that a file lies in: what to look through when it has changed. */
export function placeToScan(file: string): Datastore | null {
  return datastoreOf(file) ?? looseStoreOf(file);
}

/** The folder of loose files that a file is known of; null: it lies in a datastore, or is not known. */
export function looseStoreOf(file: string): Datastore | null {
  return catalogue.loose.find(({ path }) => path === folderOf(file)) ?? null;
}

/** The datastore that a file lies in, if any. */
export function datastoreOf(file: string): Datastore | null {
  return catalogue.datastores.find(({ path }) => file.startsWith(path.endsWith('/') ? path : `${path}/`)) ?? null;
}
