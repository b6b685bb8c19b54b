// Which file system a path lies on: the mounts of this machine as the operating system lists them.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

/** A mounted file system. */
export interface Mount {
  readonly mountPoint: string;
  /** What is mounted: a device (`/dev/sda1`), a share (`server:/export`, `//server/share`), a name (`tmpfs`). */
  readonly source: string;
  /** Its type in the system's word: `ext4`, `nfs4`, `cifs`, `apfs`, `NTFS` … */
  readonly fileSystem: string;
  /** `major:minor` where the system has such numbers. */
  readonly device: string | null;
  readonly readOnly: boolean;
}

/** The mount that `folder` (absolute, links resolved) lies on; null where the system does not tell. Never throws. */
export function mountOf(folder: string): Mount | null {
  const mounts = listMounts();
  let best: Mount | null = null;
  for (const mount of mounts) {
    // Of several mounts on one place the last one is seen.
    if (liesIn(folder, mount.mountPoint) && mount.mountPoint.length >= (best?.mountPoint.length ?? 0)) best = mount;
  }
  return best;
}

function liesIn(folder: string, mountPoint: string): boolean {
  const relative = path.relative(mountPoint, folder);
  return relative === '' || (!relative.startsWith('..') && !path.isAbsolute(relative));
}

function listMounts(): Mount[] {
  try {
    if (process.platform === 'linux') return parseMountInfo(fs.readFileSync('/proc/self/mountinfo', 'latin1'));
    if (process.platform === 'darwin') return parseMountList(ask('/sbin/mount', []));
    if (process.platform === 'win32') return parseVolumes(ask('powershell.exe', ['-NoProfile', '-Command', volumes]));
    return [];
  } catch {
    return []; // it only informs: a datastore works without knowing what it lies on
  }
}

const volumes =
  'Get-Volume | Where-Object DriveLetter | Select-Object DriveLetter,FileSystem,DriveType,UniqueId | ConvertTo-Json';

function ask(program: string, args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', timeout: 5000, windowsHide: true });
}

/** The lines of /proc/self/mountinfo (proc(5)): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`. */
export function parseMountInfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ');
    const [, , device, , mountPoint, options] = before?.split(' ') ?? [];
    const [fileSystem, source, superOptions] = after?.split(' ') ?? [];
    if (mountPoint === undefined || fileSystem === undefined || options === undefined) return [];
    const readOnly = [options, superOptions ?? ''].some((list) => list.split(',').includes('ro'));
    return [
      {
        mountPoint: unescape(mountPoint),
        source: unescape(source ?? ''),
        fileSystem,
        device: device ?? null,
        readOnly,
      },
    ];
  });
}

/** Blanks, tabs, line ends and backslashes stand as three octal digits; the bytes are UTF-8. */
function unescape(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/** The lines of macOS's mount(8): `/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled)`. */
export function parseMountList(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(.+) on (.+) \(([^,)]+)((?:, [^,)]+)*)\)$/.exec(line);
    if (match === null) return [];
    const [, source = '', mountPoint = '', fileSystem = '', options = ''] = match;
    return [{ mountPoint, source, fileSystem, device: null, readOnly: options.split(', ').includes('read-only') }];
  });
}

/** What PowerShell's Get-Volume says as JSON; a single volume comes without brackets. */
export function parseVolumes(text: string): Mount[] {
  const parsed: unknown = JSON.parse(text);
  return (Array.isArray(parsed) ? parsed : [parsed]).flatMap((volume: unknown) => {
    if (typeof volume !== 'object' || volume === null || !('DriveLetter' in volume)) return [];
    const { DriveLetter: letter } = volume;
    if (typeof letter !== 'string') return [];
    const fileSystem = 'FileSystem' in volume && typeof volume.FileSystem === 'string' ? volume.FileSystem : '';
    const source = 'UniqueId' in volume && typeof volume.UniqueId === 'string' ? volume.UniqueId : `${letter}:`;
    return [{ mountPoint: `${letter}:\\`, source, fileSystem, device: null, readOnly: false }];
  });
}
