// What storage a mount stands for: a local disk, a share, a LUN, something removable, something distributed.
import fs from 'node:fs';
import path from 'node:path';
import type { Mount } from './mounts.ts';

export type ResourceKind = 'local' | 'nas' | 'san' | 'removable' | 'distributed' | 'memory' | 'other';
export type DeviceKind = 'disk' | 'share' | 'lun' | 'pool' | 'memory' | 'other';

/** A storage device, and the storage resource that it belongs to. */
export interface StorageDevice {
  readonly kind: DeviceKind;
  readonly resource: ResourceKind;
  /** The name of the resource: the server of a share, `local disks` … */
  readonly resourceName: string;
  readonly source: string;
  readonly fileSystem: string;
  readonly model: string | null;
  /** Spinning; null: not known. */
  readonly rotational: boolean | null;
  readonly removable: boolean | null;
}

const shares = ['nfs', 'nfs3', 'nfs4', 'cifs', 'smb2', 'smb3', 'smbfs', 'afpfs', 'webdav', '9p', 'virtiofs', 'ncpfs'];
const fuseShares = ['fuse.sshfs', 'fuse.smbnetfs', 'fuse.rclone', 'fuse.s3fs', 'vboxsf', 'fuse.vmhgfs-fuse', 'prl_fs'];
const distributed = [
  'ceph',
  'fuse.ceph',
  'fuse.glusterfs',
  'glusterfs',
  'lustre',
  'beegfs',
  'ocfs2',
  'gfs2',
  'moosefs',
];
const inMemory = ['tmpfs', 'ramfs', 'hugetlbfs', 'devtmpfs'];
const pools = ['zfs', 'btrfs', 'apfs', 'bcachefs', 'ReFS'];

/** The device behind a mount. `sysfs` is where Linux describes its devices (another folder in tests). Never throws. */
export function deviceOf(mount: Mount, sysfs = '/sys'): StorageDevice {
  const { source, fileSystem } = mount;
  const plain = { source, fileSystem, model: null, rotational: null, removable: null };
  const type = fileSystem.toLowerCase();
  if (shares.includes(type) || fuseShares.includes(type) || source.startsWith('//') || source.startsWith('\\\\')) {
    return { ...plain, kind: 'share', resource: 'nas', resourceName: serverOf(source) };
  }
  if (distributed.includes(type)) {
    return { ...plain, kind: 'pool', resource: 'distributed', resourceName: serverOf(source) };
  }
  if (inMemory.includes(type)) return { ...plain, kind: 'memory', resource: 'memory', resourceName: 'memory' };
  const facts = blockFacts(mount, sysfs);
  const kind = pools.includes(fileSystem) ? 'pool' : 'disk';
  if (facts === null) {
    const known = source.startsWith('/dev/') || source.startsWith('\\\\?\\') || pools.includes(fileSystem);
    return {
      ...plain,
      kind: known ? kind : 'other',
      resource: known ? 'local' : 'other',
      resourceName: known ? locals : source,
    };
  }
  const measured = { ...plain, model: facts.model, rotational: facts.rotational, removable: facts.removable };
  if (facts.fabric !== null) return { ...measured, kind: 'lun', resource: 'san', resourceName: facts.fabric };
  if (facts.removable)
    return { ...measured, kind, resource: 'removable', resourceName: facts.model ?? 'removable disks' };
  return { ...measured, kind, resource: 'local', resourceName: locals };
}

const locals = 'local disks';

/** `server` of `server:/export`, `//server/share`, `\\server\share`, `user@server:/folder`; the source itself where it names none. */
function serverOf(source: string): string {
  const unc = /^[\\/]{2}([^\\/]+)/.exec(source);
  if (unc?.[1] !== undefined) return unc[1];
  const remote = /^(?:[^@/]*@)?(\[[^\]]+\]|[^:/,]+):/.exec(source);
  return remote?.[1] ?? source;
}

interface BlockFacts {
  readonly model: string | null;
  readonly rotational: boolean;
  readonly removable: boolean;
  /** How a LUN is reached; null: it is not on a fabric. */
  readonly fabric: 'iSCSI' | 'Fibre Channel' | 'NVMe over fabrics' | null;
}

/** What Linux knows of a block device: of the disk below partitions, and of the first disk below stacked devices. */
function blockFacts(mount: Mount, sysfs: string): BlockFacts | null {
  try {
    let folder = fs.realpathSync(path.join(sysfs, 'dev', 'block', deviceNumber(mount)));
    for (let depth = 0; depth < 8; depth++) {
      if (fs.existsSync(path.join(folder, 'partition'))) folder = path.dirname(folder);
      const below = list(path.join(folder, 'slaves'))[0];
      if (below === undefined) break;
      folder = fs.realpathSync(path.join(folder, 'slaves', below));
    }
    const flag = (name: string): boolean => text(path.join(folder, name)) === '1';
    return {
      model: text(path.join(folder, 'device', 'model')),
      rotational: flag('queue/rotational'),
      removable: flag('removable') || /\/usb\d+\//.test(folder),
      fabric: fabricOf(folder),
    };
  } catch {
    return null;
  }
}

function fabricOf(folder: string): BlockFacts['fabric'] {
  if (/\/session\d+\//.test(folder)) return 'iSCSI';
  if (/\/rport-/.test(folder)) return 'Fibre Channel';
  if (/nvme-fabrics/.test(folder)) return 'NVMe over fabrics';
  const transport = text(path.join(folder, 'device', 'transport'));
  return transport !== null && ['tcp', 'rdma', 'fc'].includes(transport) ? 'NVMe over fabrics' : null;
}

/** File systems over several devices have a number of their own (`0:…`): then that of the device they name. */
function deviceNumber(mount: Mount): string {
  if (mount.device !== null && !mount.device.startsWith('0:')) return mount.device;
  const { rdev } = fs.statSync(mount.source);
  const major = ((rdev >> 8) & 0xfff) | ((rdev / 2 ** 32) & ~0xfff);
  return `${major}:${(rdev & 0xff) | ((rdev >> 12) & ~0xff)}`;
}

function text(file: string): string | null {
  try {
    const content = fs.readFileSync(file, 'utf8').trim();
    return content === '' ? null : content;
  } catch {
    return null;
  }
}

function list(folder: string): string[] {
  try {
    return fs.readdirSync(folder).sort();
  } catch {
    return [];
  }
}
