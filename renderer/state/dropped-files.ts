// Where a file lies that was dropped into the window: the desktop shell can say it, a browser cannot.

interface Desktop {
  pathOfFile?(file: File): string;
}

/** Null: only its name is known. */
export function pathOfDropped(file: File): string | null {
  const { platter } = window as unknown as { platter?: Desktop };
  const path = platter?.pathOfFile?.(file) ?? '';
  return path === '' ? null : path;
}
