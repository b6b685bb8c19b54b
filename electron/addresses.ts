// The addresses of the program: `platter://window/` is where the window's own files are, `platter://image/` what others link to.

export const scheme = 'platter';
/** The origin of the window. */
export const windowOrigin = `${scheme}://window`;

/** What a link asks for: an image of the library, a tab of its page, and a byte in it. */
export interface ImageLink {
  /** Its id, its path, or its name: what `platter image show` takes. */
  readonly image: string;
  readonly view: string | null;
  /** Which bytes are meant: `guest`, `snapshot:ID`, or the role of a file; null: those that the tab shows by itself. */
  readonly of: string | null;
  /** Bytes; null: nowhere in particular. */
  readonly at: number | null;
}

/** True for what the system hands over as a link, sound or not. */
export function isLink(text: string): boolean {
  return text.toLowerCase().startsWith(`${scheme}:`);
}

/** `platter://image/ID?view=hex&of=guest&at=0x200`; null: it is no such thing. Links may stand on any web page: nothing in them is believed. */
export function parseImageLink(text: string): ImageLink | null {
  if (text.length > 8192 || !URL.canParse(text)) return null;
  const url = new URL(text);
  if (url.protocol !== `${scheme}:` || url.hostname !== 'image') return null;
  let image: string;
  try {
    image = decodeURIComponent(url.pathname.slice(1));
  } catch {
    return null;
  }
  if (image === '' || image.length > 4096 || image.includes('\0')) return null;
  const view = url.searchParams.get('view');
  const at = url.searchParams.get('at');
  if (view !== null && !/^[a-z]{1,40}$/.test(view)) return null;
  const of = url.searchParams.get('of');
  if (of !== null && !/^[\w:.-]{1,80}$/.test(of)) return null;
  if (at !== null && !/^(0x[0-9a-f]{1,14}|\d{1,16})$/i.test(at)) return null;
  const offset = at === null ? null : Number(at);
  if (offset !== null && !Number.isSafeInteger(offset)) return null;
  return { image, view, of, at: offset };
}

/** The address of an image's page in the window. */
export function imageAddress(id: string, link: Pick<ImageLink, 'view' | 'of' | 'at'> | null = null): string {
  const query = new URLSearchParams();
  if (link !== null && link.of !== null) query.set('view', link.of);
  if (link !== null && link.at !== null) query.set('at', `0x${link.at.toString(16)}`);
  return `#/image/${encodeURIComponent(id)}/${link?.view ?? 'overview'}${query.size === 0 ? '' : `?${query}`}`;
}
