// Files dragged out of the window into a file manager or another program.
import { app, nativeImage, type NativeImage, type WebContents } from 'electron';
import fs from 'node:fs';
import path from 'node:path';

/** Begins the drag of the files among `paths` that are there; nothing when there is none. */
export async function startDrag(contents: WebContents, paths: readonly string[]): Promise<void> {
  const files = paths.filter((file) => path.isAbsolute(file) && fs.statSync(file, { throwIfNoEntry: false })?.isFile());
  const [first] = files;
  if (first === undefined) return;
  contents.startDrag({ file: first, files: [...files], icon: await iconOf(first) });
}

/** A drag must have a picture: where the system has none for the file, a plain sheet. */
async function iconOf(file: string): Promise<NativeImage> {
  try {
    const icon = await app.getFileIcon(file);
    if (!icon.isEmpty()) return icon;
  } catch {
    return sheet();
  }
  return sheet();
}

function sheet(): NativeImage {
  const [width, height] = [24, 32];
  return nativeImage.createFromBitmap(Buffer.alloc(width * height * 4, 0xc0), { width, height });
}
