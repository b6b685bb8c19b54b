// How a sheet names an image to a job: its path, what it may pull in, and its passphrase if it has one.

/** Name under which a typed passphrase of an image that is there is handed over. */
const secretName = 'source';

/** Files that images may pull in until this window is closed, because a person said so here. */
export const granted = new Set<string>();

export interface NamedImage {
  readonly image: {
    path: string;
    format: string | null;
    trust: 'policy';
    allow: string[];
    secret: string | null;
  };
  readonly secrets: Record<string, string>;
}

/** `passphrase` empty: none is needed. The format is probed unless given. */
export function nameImage(path: string, passphrase = '', format: string | null = null): NamedImage {
  const secret = passphrase === '' ? null : secretName;
  return {
    image: { path, format, trust: 'policy', allow: [...granted], secret },
    secrets: secret === null ? {} : { [secret]: passphrase },
  };
}
