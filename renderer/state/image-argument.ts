// How a sheet names an image to a job: its path, how far its references are followed, and its passphrase if it has one.
import { settings } from './settings.svelte.ts';

/** Name under which a typed passphrase of an image that is there is handed over. */
const secretName = 'source';

export interface NamedImage {
  readonly image: {
    path: string;
    format: string | null;
    trust: 'nothing' | 'folder' | 'files';
    secret: string | null;
  };
  readonly secrets: Record<string, string>;
}

/** `passphrase` empty: none is needed. The format is probed unless given. */
export function nameImage(path: string, passphrase = '', format: string | null = null): NamedImage {
  const secret = passphrase === '' ? null : secretName;
  return {
    image: { path, format, trust: settings.trust, secret },
    secrets: secret === null ? {} : { [secret]: passphrase },
  };
}
