// Which foreign programs the tests use, and the Debian package of each. No import of vitest: scripts/test.ts reads it too.
import fs from 'node:fs';
import path from 'node:path';

const packages = {
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-nbd': 'qemu-utils',
  nbdkit: 'nbdkit',
  nbdcopy: 'libnbd-bin',
  nbdinfo: 'libnbd-bin',
  vhdiinfo: 'libvhdi-utils',
  vmdkinfo: 'libvmdk-utils',
  qcowinfo: 'libqcow-utils',
  '7z': 'p7zip-full',
  bzip2: 'bzip2',
  cryptsetup: 'cryptsetup-bin',
  sfdisk: 'fdisk',
  sgdisk: 'gdisk',
  blkid: 'util-linux',
  mkswap: 'util-linux',
  mke2fs: 'e2fsprogs',
  dumpe2fs: 'e2fsprogs',
  debugfs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  'mkfs.fat': 'dosfstools',
  'fsck.fat': 'dosfstools',
  mcopy: 'mtools',
  mdel: 'mtools',
  minfo: 'mtools',
  mkntfs: 'ntfs-3g',
  ntfscp: 'ntfs-3g',
  ntfscat: 'ntfs-3g',
  ntfsfix: 'ntfs-3g',
  ntfsinfo: 'ntfs-3g',
  chromium: 'chromium',
} as const;

export type PeerName = keyof typeof packages;

export const peerNames = Object.keys(packages) as PeerName[];

export function packageOf(name: PeerName): string {
  return packages[name];
}

/** The path of the program on PATH, or null. */
export function findProgram(name: string): string | null {
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    const candidate = path.join(folder, name);
    try {
      fs.accessSync(candidate, fs.constants.X_OK);
      if (fs.statSync(candidate).isFile()) return candidate;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error)) throw error;
    }
  }
  return null;
}

/** The programs that are not installed, and the packages that have them. */
export function missingPeers(): { names: PeerName[]; packages: string[] } {
  const names = peerNames.filter((name) => findProgram(name) === null);
  return { names, packages: [...new Set(names.map(packageOf))] };
}
