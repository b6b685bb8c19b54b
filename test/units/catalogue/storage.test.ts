// What lies under a folder: lists of mounts as systems print them, devices as Linux describes them, and what a file system can do.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { probeCapabilities } from '../../../core/catalogue/storage/capabilities.ts';
import { deviceOf } from '../../../core/catalogue/storage/devices.ts';
import {
  mountOf,
  parseMountInfo,
  parseMountList,
  parseVolumes,
  type Mount,
} from '../../../core/catalogue/storage/mounts.ts';
import { scratchFolder } from '../../scratch.ts';

const mounted = (fileSystem: string, source: string): Mount => ({
  mountPoint: '/x',
  source,
  fileSystem,
  device: null,
  readOnly: false,
});

describe('mounts', () => {
  it('of Linux are read with their escapes and options', () => {
    const text =
      '36 35 98:0 / /mnt/with\\040blank ro,noatime shared:1 master:2 - ext4 /dev/sda1 rw\n' +
      '40 35 0:50 / /mnt/nas rw - nfs4 server:/export/vm rw,vers=4.2\nbroken line\n';
    expect(parseMountInfo(text)).toEqual([
      { mountPoint: '/mnt/with blank', source: '/dev/sda1', fileSystem: 'ext4', device: '98:0', readOnly: true },
      { mountPoint: '/mnt/nas', source: 'server:/export/vm', fileSystem: 'nfs4', device: '0:50', readOnly: false },
    ]);
  });

  it('of macOS are read', () => {
    const text =
      '/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled)\n//me@nas/vm on /Volumes/vm (smbfs, nodev, read-only)\n';
    expect(parseMountList(text)).toMatchObject([
      { mountPoint: '/System/Volumes/Data', fileSystem: 'apfs', readOnly: false },
      { mountPoint: '/Volumes/vm', source: '//me@nas/vm', fileSystem: 'smbfs', readOnly: true },
    ]);
  });

  it('of Windows are read, one or many', () => {
    const one = '{"DriveLetter":"C","FileSystem":"NTFS","DriveType":3,"UniqueId":"volume-1"}';
    expect(parseVolumes(one)).toMatchObject([{ mountPoint: 'C:\\', fileSystem: 'NTFS', source: 'volume-1' }]);
    expect(parseVolumes(`[${one},{"DriveLetter":null}]`)).toHaveLength(1);
  });

  it.skipIf(process.platform !== 'linux')('are those that findmnt names', () => {
    const said = execFileSync('findmnt', ['-n', '-o', 'TARGET,FSTYPE', '-T', '/tmp'], { encoding: 'utf8' }).trim();
    const found = mountOf(fs.realpathSync('/tmp'));
    expect(said.split(/\s+/)).toEqual([found?.mountPoint, found?.fileSystem]);
  });
});

describe('devices', () => {
  it('are told apart by file system and source', () => {
    const kinds = [
      mounted('nfs4', 'server:/export'),
      mounted('cifs', '//nas/share'),
      mounted('9p', 'share0'),
      mounted('fuse.sshfs', 'me@host:/srv'),
      mounted('ceph', '10.0.0.1:6789:/'),
      mounted('fuse.glusterfs', 'node1:/vol'),
      mounted('tmpfs', 'tmpfs'),
      mounted('zfs', 'tank/vm'),
      mounted('overlay', 'overlay'),
    ].map((mount) => deviceOf(mount));
    expect(kinds.map(({ resource, kind, resourceName }) => [resource, kind, resourceName])).toEqual([
      ['nas', 'share', 'server'],
      ['nas', 'share', 'nas'],
      ['nas', 'share', 'share0'],
      ['nas', 'share', 'host'],
      ['distributed', 'pool', '10.0.0.1'],
      ['distributed', 'pool', 'node1'],
      ['memory', 'memory', 'memory'],
      ['local', 'pool', 'local disks'],
      ['other', 'other', 'overlay'],
    ]);
  });

  it('behind partitions and mappers are found in sysfs: local, removable, and LUNs by how they are reached', () => {
    const root = scratchFolder('sysfs');
    const disk = (number: string, folder: string, facts: Record<string, string>): Mount => {
      const real = path.join(root, 'devices', folder);
      for (const [name, value] of Object.entries({ 'queue/rotational': '0', removable: '0', ...facts })) {
        fs.mkdirSync(path.dirname(path.join(real, name)), { recursive: true });
        fs.writeFileSync(path.join(real, name), `${value}\n`);
      }
      fs.mkdirSync(path.join(root, 'dev', 'block'), { recursive: true });
      fs.symlinkSync(real, path.join(root, 'dev', 'block', number));
      return { ...mounted('ext4', `/dev/${number}`), device: number };
    };
    const local = disk('8:0', 'pci0/ata1/block/sda', { 'queue/rotational': '1', 'device/model': 'ST4000' });
    const stick = disk('8:16', 'pci0/usb1/1-2/block/sdb', {});
    const iscsi = disk('8:32', 'platform/host3/session1/target/block/sdc', {});
    const fibre = disk('8:48', 'pci0/host4/rport-4:0-1/block/sdd', {});
    const fabric = disk('259:0', 'virtual/nvme-fabrics/ctl/nvme1/nvme1n1', {});
    fs.mkdirSync(path.join(root, 'devices', 'pci0/ata1/block/sda', 'sda1'));
    fs.writeFileSync(path.join(root, 'devices', 'pci0/ata1/block/sda', 'sda1', 'partition'), '1\n');
    fs.symlinkSync(path.join(root, 'devices', 'pci0/ata1/block/sda', 'sda1'), path.join(root, 'dev', 'block', '8:1'));
    const mapper = disk('253:0', 'virtual/block/dm-0', {});
    fs.mkdirSync(path.join(root, 'devices', 'virtual/block/dm-0', 'slaves'));
    fs.symlinkSync(
      path.join(root, 'devices', 'pci0/host4/rport-4:0-1/block/sdd'),
      path.join(root, 'devices', 'virtual/block/dm-0', 'slaves', 'sdd'),
    );
    const seen = [local, { ...local, device: '8:1' }, stick, iscsi, fibre, fabric, mapper].map((mount) =>
      deviceOf(mount, root),
    );
    expect(seen.map(({ resource, kind }) => `${resource} ${kind}`)).toEqual([
      'local disk',
      'local disk',
      'removable disk',
      'san lun',
      'san lun',
      'san lun',
      'san lun',
    ]);
    expect(seen[1]).toMatchObject({ model: 'ST4000', rotational: true });
    expect(seen[3]?.resourceName).toBe('iSCSI');
    expect(seen[6]?.resourceName).toBe('Fibre Channel');
  });
});

describe('capabilities', () => {
  it('are found by trying, and nothing is left behind', () => {
    const folder = scratchFolder('capabilities');
    const found = probeCapabilities(folder, null);
    expect(fs.readdirSync(folder)).toEqual([]);
    expect(found.writable).toBe(true);
    if (process.platform !== 'linux') return;
    expect(found).toMatchObject({ sparse: true, atomicReplace: true, caseSensitive: true });
    // The same questions put to other programs.
    const file = path.join(folder, 'probe');
    execFileSync('truncate', ['-s', '16M', file]);
    const largest = found.maxFileSize ?? 0;
    execFileSync('truncate', ['-s', String(largest), file]);
    let reflink = true;
    try {
      execFileSync('cp', ['--reflink=always', file, `${file}-b`], { stdio: 'ignore' });
    } catch {
      reflink = false;
    }
    expect(found.reflink).toBe(reflink);
  });

  it('of a folder that cannot be written say so', () => {
    expect(probeCapabilities(path.join(scratchFolder('nowhere'), 'nothing'), null)).toMatchObject({
      writable: false,
      sparse: null,
    });
  });
});
