// Opening a package: an archive or a descriptor, the disk that is meant, and the way to the drivers of the disks.
import type { Storage } from '../../block/storage.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { BlockNode } from '../../block/node.ts';
import type { OpenRequest } from '../driver.ts';
import { FreshOvaNode } from './fresh-node.ts';
import { OvaNode, whichDisk, type DiskView } from './node.ts';
import { archiveFiles, folderFiles } from './package-files.ts';
import { OvaPackage, type FindDriver, type PackageDisk } from './package.ts';

/** The setting of the one who opens that says which disk is meant. */
export const diskSetting = 'disk';

/** Does the file begin as an OVF descriptor? Never throws. */
export function startsAsDescriptor(head: Uint8Array): boolean {
  const start = head.subarray(0, 4096);
  const wide = (start[0] === 0xff && start[1] === 0xfe) || (start[0] === 0xfe && start[1] === 0xff);
  const text = Buffer.from(start)
    .toString('latin1')
    .replaceAll(wide ? '\0' : '\uffff', '');
  return (
    /^(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?\s*<(\?xml\s|!--|([A-Za-z_][\w.-]*:)?Envelope\s)/.test(text) && isEnvelope(text)
  );
}

/** The namespace of every OVF, drafts included, has one of these in it. */
function isEnvelope(text: string): boolean {
  return /<([A-Za-z_][\w.-]*:)?Envelope\s[^>]*\/(ovf|ovf\/envelope|schema\/ovf)\b/s.test(text);
}

/**
 * Opens the package. To be looked at (info, check) all its disks are opened, and one that does not open is told of; otherwise the one
 * that is meant, which must open. Throws `ova/*`, what the disk's driver throws, `request/invalid-option`.
 */
export function openOva(storage: Storage, request: OpenRequest, find: FindDriver): BlockNode {
  const opened: DiskView[] = [];
  try {
    if (request.writable && request.fresh !== true) throw new ImageError('ova/in-place', {}, { file: storage.name });
    const files = isDescriptor(storage) ? folderFiles(storage, request.gate) : archiveFiles(storage);
    const contents = new OvaPackage(files, find);
    if (request.fresh === true && request.writable) return FreshOvaNode.over(storage, contents, request);
    const named = request.runtime[diskSetting];
    const stored = contents.stored();
    const only = stored.length === 1 ? (stored[0] ?? null) : null;
    const meant = named === undefined ? only : contents.diskNamed(named);
    const looks = !request.withBacking && (request.guestData === false || request.forRepair);
    if (meant === null && !looks) throw whichDisk(contents);
    const wanted = looks && named === undefined ? contents.disks : meant === null ? [] : [meant];
    for (const disk of wanted) opened.push(looks ? look(contents, disk, request) : open(contents, disk, request));
    const chosen = opened.find(({ disk }) => disk === meant) ?? null;
    return new OvaNode({ storage, contents, views: opened, chosen });
  } catch (error) {
    for (const { node } of opened) node?.close();
    storage.close();
    throw error;
  }
}

function open(contents: OvaPackage, disk: PackageDisk, request: OpenRequest): DiskView {
  return { disk, ...contents.openDisk(disk, request), problem: null };
}

function look(contents: OvaPackage, disk: PackageDisk, request: OpenRequest): DiskView {
  try {
    // An empty disk has no file, and nothing is wrong with that.
    if (disk.disk.fileRef === null) return { disk, node: null, driver: null, problem: null };
    return open(contents, disk, request);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    return { disk, node: null, driver: null, problem: error };
  }
}

function isDescriptor(storage: Storage): boolean {
  const head = new Uint8Array(Math.min(4096, storage.size));
  storage.readAt(head, 0);
  // A file that was said to be a package and begins as XML is a descriptor, if a bad one.
  return startsAsDescriptor(head) || /^(\xef\xbb\xbf)?\s*</.test(Buffer.from(head.subarray(0, 64)).toString('latin1'));
}
