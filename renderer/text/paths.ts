// Names and folders of paths, whichever way the host writes them.

export function baseName(path: string): string {
  return path.split(/[/\\]/).pop() ?? path;
}

export function folderOf(path: string): string {
  const cut = path.search(/[/\\][^/\\]*$/);
  return cut <= 0 ? path.slice(0, 1) : path.slice(0, cut);
}

/** Joins with the separator that the folder uses. */
export function join(folder: string, name: string): string {
  const separator = folder.includes('\\') && !folder.includes('/') ? '\\' : '/';
  return /[/\\]$/.test(folder) ? folder + name : folder + separator + name;
}

/** `disk.vmdk` in the same folder becomes `disk.qcow2`. */
export function withEnding(path: string, ending: string): string {
  const name = baseName(path);
  const stem = name.replace(/\.[^.]{1,8}$/, '');
  return join(folderOf(path), `${stem === '' ? name : stem}.${ending}`);
}

/** `disk.qcow2` becomes `disk-work.qcow2`. */
export function withSuffix(path: string, suffix: string): string {
  const name = baseName(path);
  const [, stem = name, ending = ''] = /^(.+?)(\.[^.]{1,8})?$/.exec(name) ?? [];
  return join(folderOf(path), `${stem}${suffix}${ending}`);
}

/** The name of `file` as an image at `from` records it: relative where it lies in the same folder or below, so that both can move together. */
export function seenFrom(from: string, file: string): string {
  const folder = folderOf(from);
  const within = join(folder, '');
  return file.startsWith(within) && file.length > within.length ? file.slice(within.length) : file;
}
