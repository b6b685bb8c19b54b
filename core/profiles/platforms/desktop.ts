// VMware ESXi, Workstation and Fusion, and VirtualBox.
import { TiB } from '../../block/units.ts';
import type { Profile, RuleSource } from '../profile.ts';

const diskTypes: RuleSource = {
  title: 'Types of supported virtual disks on ESXi hosts (VMware KB 1022242)',
  url: 'https://kb.vmware.com/s/article/1022242',
};
const diskType7: RuleSource = {
  title: 'LMeve issue 45: ESXi says "Unsupported or invalid disk type 7" of a Workstation disk',
  url: 'https://github.com/roxlukas/lmeve/issues/45',
};
const adapters: RuleSource = {
  title: 'Home Assistant OS pull request 1695: use the LSI Logic adapter',
  url: 'https://github.com/home-assistant/operating-system/pull/1695',
};
const provisioning: RuleSource = {
  title: 'vSphere API: disk provisioning types, and which of them other VMware products take',
  url: 'https://developer.broadcom.com/xapis/virtual-infrastructure-json-api/latest/data-structures/OvfCreateImportSpecParamsDiskProvisioningType_enum',
};
const workstationSize: RuleSource = {
  title: 'Workstation: virtual hard disks can be up to 8 TB',
  url: 'http://pubs.vmware.com/workstation-10/topic/com.vmware.ws.using.doc/GUID-ECA0BA58-1E49-42EB-9B94-7F1E5FF728DE.html',
};
const virtualBoxFormats: RuleSource = {
  title: 'VirtualBox user manual 5.2: disk image files (VDI, VMDK, VHD, HDD)',
  url: 'https://docs.oracle.com/en/virtualization/virtualbox/6.0/user/vdidetails.html',
};

export const esxi: Profile = {
  id: 'esxi',
  label: 'VMware ESXi',
  target: {
    format: 'vmdk',
    options: { subformat: 'vmfs', adapter_type: 'lsilogic' },
    archivedAs: null,
    extension: 'vmdk',
  },
  rules: [
    {
      id: 'esxi/format',
      severity: 'refuses',
      demand: {
        kind: 'format',
        taken: [
          {
            format: 'vmdk',
            subformats: [
              'vmfs',
              'vmfsThin',
              'vmfsPreallocated',
              'vmfsEagerZeroedThick',
              'vmfsSparse',
              'seSparse',
              'monolithicFlat',
            ],
          },
        ],
      },
      source: diskType7,
    },
    {
      id: 'esxi/native',
      severity: 'warns',
      demand: {
        kind: 'format',
        taken: [
          {
            format: 'vmdk',
            subformats: ['vmfs', 'vmfsThin', 'vmfsPreallocated', 'vmfsEagerZeroedThick', 'vmfsSparse', 'seSparse'],
          },
        ],
      },
      onlyFor: 'vmdk',
      source: diskTypes,
    },
    {
      id: 'esxi/adapter',
      severity: 'warns',
      demand: { kind: 'adapter', allowed: ['lsilogic', 'buslogic', 'pvscsi'] },
      onlyFor: 'vmdk',
      source: adapters,
    },
  ],
};

export const workstation: Profile = {
  id: 'workstation',
  label: 'VMware Workstation and Fusion',
  target: {
    format: 'vmdk',
    options: { subformat: 'monolithicSparse', adapter_type: 'lsilogic' },
    archivedAs: null,
    extension: 'vmdk',
  },
  rules: [
    {
      id: 'workstation/format',
      severity: 'refuses',
      demand: {
        kind: 'format',
        taken: [
          {
            format: 'vmdk',
            subformats: [
              'monolithicSparse',
              'monolithicFlat',
              'twoGbMaxExtentSparse',
              'twoGbMaxExtentFlat',
              '2GbMaxExtentSparse',
              '2GbMaxExtentFlat',
            ],
          },
        ],
      },
      source: provisioning,
    },
    {
      id: 'workstation/largest',
      severity: 'refuses',
      demand: { kind: 'size-most', bytes: 8 * TiB },
      source: workstationSize,
    },
  ],
};

export const virtualBox: Profile = {
  id: 'virtualbox',
  label: 'VirtualBox',
  target: { format: 'vdi', options: {}, archivedAs: null, extension: 'vdi' },
  rules: [
    {
      id: 'virtualbox/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'vdi' }, { format: 'vmdk' }, { format: 'vpc' }] },
      source: virtualBoxFormats,
    },
  ],
};
