// QEMU and KVM, Proxmox VE, OpenStack, and Huawei's platforms.
import { GiB } from '../../block/units.ts';
import type { Profile, RuleSource } from '../profile.ts';

const qemuImages: RuleSource = {
  title: 'QEMU: Disk images, disk image file formats',
  url: 'https://www.qemu.org/docs/master/system/images.html',
};
const proxmoxFormats: RuleSource = {
  title: 'Proxmox VE: QEMU/KVM virtual machines, image format',
  url: 'https://pve.proxmox.com/pve-docs/chapter-qm.html#qm_hard_disk_formats',
};
const glanceFormats: RuleSource = {
  title: 'Glance: Disk and container formats',
  url: 'https://docs.openstack.org/glance/latest/user/formats.html',
};
const dataFileAdvisory: RuleSource = {
  title: 'CVE-2024-32498 (OSSA-2024-001): files read through QCOW2 external data',
  url: 'https://security.openstack.org/ossa/OSSA-2024-001.html',
};
const glanceSafety: RuleSource = {
  title: 'Glance bug 1996188: no backing files, and VMDK of the kinds allowed only',
  url: 'https://bugs.launchpad.net/glance/+bug/1996188',
};
const cloudStackFormats: RuleSource = {
  title: 'Huawei forum: image formats that HUAWEI CLOUD Stack registers',
  url: 'https://forum.huawei.com/enterprise/en/what-are-the-differences-between-image-formats-on-huawei-cloud-stack/thread/829583-893',
};
const imsConstraints: RuleSource = {
  title: 'Huawei Cloud Image Management Service: constraints',
  url: 'https://support.huaweicloud.com/intl/en-us/productdesc-ims/ims_01_0005.html',
};

const qcow2 = { format: 'qcow2', options: {}, archivedAs: null, extension: 'qcow2' } as const;

export const kvm: Profile = {
  id: 'kvm',
  label: 'QEMU/KVM',
  target: qcow2,
  rules: [
    {
      id: 'kvm/format',
      severity: 'warns',
      demand: { kind: 'format', taken: [{ format: 'qcow2' }, { format: 'raw' }, { format: 'luks' }] },
      source: qemuImages,
    },
  ],
};

export const proxmox: Profile = {
  id: 'proxmox',
  label: 'Proxmox VE',
  target: qcow2,
  rules: [
    {
      id: 'proxmox/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'qcow2' }, { format: 'raw' }, { format: 'vmdk' }] },
      source: proxmoxFormats,
    },
    {
      id: 'proxmox/own-format',
      severity: 'warns',
      demand: { kind: 'format', taken: [{ format: 'qcow2' }, { format: 'raw' }] },
      onlyFor: 'vmdk',
      source: proxmoxFormats,
    },
  ],
};

export const openstack: Profile = {
  id: 'openstack',
  label: 'OpenStack Glance',
  target: qcow2,
  rules: [
    {
      id: 'openstack/format',
      severity: 'refuses',
      demand: {
        kind: 'format',
        taken: ['qcow2', 'raw', 'vpc', 'vhdx', 'vmdk', 'vdi', 'ova'].map((format) => ({ format })),
      },
      source: glanceFormats,
    },
    {
      id: 'openstack/vmdk-kind',
      severity: 'refuses',
      demand: {
        kind: 'format',
        taken: [{ format: 'vmdk', subformats: ['streamOptimized', 'monolithicSparse'] }],
      },
      onlyFor: 'vmdk',
      source: glanceSafety,
    },
    { id: 'openstack/no-backing', severity: 'refuses', demand: { kind: 'no-backing' }, source: glanceSafety },
    { id: 'openstack/no-data-file', severity: 'refuses', demand: { kind: 'no-data-file' }, source: dataFileAdvisory },
  ],
};

export const fusionCompute: Profile = {
  id: 'fusioncompute',
  label: 'Huawei FusionCompute and Cloud Stack',
  target: qcow2,
  rules: [
    {
      id: 'fusioncompute/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'qcow2' }, { format: 'vpc' }, { format: 'vmdk' }] },
      source: cloudStackFormats,
    },
  ],
};

export const huaweiCloud: Profile = {
  id: 'huawei-cloud',
  label: 'Huawei Cloud (Image Management Service)',
  target: qcow2,
  rules: [
    {
      id: 'huawei-cloud/format',
      severity: 'refuses',
      demand: {
        kind: 'format',
        taken: ['qcow2', 'raw', 'vpc', 'vhdx', 'vmdk', 'vdi', 'qcow', 'qed'].map((format) => ({ format })),
      },
      source: imsConstraints,
    },
    {
      id: 'huawei-cloud/largest-file',
      severity: 'refuses',
      demand: { kind: 'file-most', bytes: 1024 * GiB },
      source: imsConstraints,
    },
    {
      id: 'huawei-cloud/plain-import',
      severity: 'warns',
      demand: { kind: 'file-most', bytes: 128 * GiB },
      source: imsConstraints,
    },
  ],
};
