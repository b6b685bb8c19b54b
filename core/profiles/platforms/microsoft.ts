// Azure, Hyper-V and WSL.
import { GiB, MiB, TiB } from '../../block/units.ts';
import type { Profile, Rule, RuleSource } from '../profile.ts';

const azureLinux: RuleSource = {
  title: 'Azure: Prepare Linux for imaging in Azure',
  url: 'https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic',
};
const azureSize: RuleSource = {
  title: 'Azure Storage Explorer issue 3029: what the upload of a disk accepts',
  url: 'https://github.com/microsoft/AzureStorageExplorer/issues/3029',
};
const generations: RuleSource = {
  title: 'Hyper-V: Should I create a generation 1 or 2 virtual machine?',
  url: 'https://learn.microsoft.com/windows-server/virtualization/hyper-v/plan/should-i-create-a-generation-1-or-2-virtual-machine-in-hyper-v',
};
const notSparse: RuleSource = {
  title: 'WSL issue 4103: virtual hard disk files must be uncompressed and unencrypted and must not be sparse',
  url: 'https://github.com/microsoft/WSL/issues/4103',
};
const wslImport: RuleSource = {
  title: 'WSL: Basic commands, import a distribution in place',
  url: 'https://learn.microsoft.com/windows/wsl/basic-commands',
};

const vhdLimit = 2040 * GiB;

export const azure: Profile = {
  id: 'azure',
  label: 'Microsoft Azure',
  target: {
    format: 'vpc',
    options: { subformat: 'fixed', force_size: true },
    archivedAs: null,
    extension: 'vhd',
  },
  rules: [
    {
      id: 'azure/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'vpc', subformats: ['fixed'] }] },
      source: azureLinux,
    },
    { id: 'azure/whole-mib', severity: 'refuses', demand: { kind: 'size-multiple', of: MiB }, source: azureLinux },
    {
      id: 'azure/exact-size',
      severity: 'refuses',
      demand: { kind: 'exact-size' },
      onlyFor: 'vpc',
      source: azureLinux,
    },
    { id: 'azure/least-size', severity: 'refuses', demand: { kind: 'size-least', bytes: 20 * MiB }, source: azureSize },
    {
      id: 'azure/vhd-limit',
      severity: 'refuses',
      demand: { kind: 'size-most', bytes: vhdLimit },
      source: generations,
    },
  ],
};

const hyperv = (id: string): Rule[] => [
  {
    id: `${id}/vhd-limit`,
    severity: 'refuses',
    demand: { kind: 'size-most', bytes: vhdLimit },
    onlyFor: 'vpc',
    source: generations,
  },
  {
    id: `${id}/vhdx-limit`,
    severity: 'refuses',
    demand: { kind: 'size-most', bytes: 64 * TiB },
    onlyFor: 'vhdx',
    source: generations,
  },
  { id: `${id}/not-sparse`, severity: 'refuses', demand: { kind: 'not-sparse' }, source: notSparse },
];

const vhdx = {
  format: 'vhdx',
  options: { subformat: 'dynamic' },
  archivedAs: null,
  extension: 'vhdx',
} as const;

export const hypervGeneration1: Profile = {
  id: 'hyperv-gen1',
  label: 'Hyper-V generation 1',
  target: vhdx,
  rules: [
    {
      id: 'hyperv-gen1/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'vhdx' }, { format: 'vpc' }] },
      source: generations,
    },
    ...hyperv('hyperv-gen1'),
    {
      id: 'hyperv-gen1/boot-limit',
      severity: 'warns',
      demand: { kind: 'size-most', bytes: 2 * TiB },
      onlyFor: 'vhdx',
      source: generations,
    },
    {
      id: 'hyperv-gen1/firmware',
      severity: 'warns',
      demand: { kind: 'firmware', firmware: 'bios' },
      source: generations,
    },
  ],
};

export const hypervGeneration2: Profile = {
  id: 'hyperv-gen2',
  label: 'Hyper-V generation 2',
  target: vhdx,
  rules: [
    {
      id: 'hyperv-gen2/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'vhdx' }] },
      source: generations,
    },
    ...hyperv('hyperv-gen2'),
    {
      id: 'hyperv-gen2/firmware',
      severity: 'warns',
      demand: { kind: 'firmware', firmware: 'uefi' },
      source: generations,
    },
  ],
};

export const wsl: Profile = {
  id: 'wsl',
  label: 'Windows Subsystem for Linux 2',
  target: vhdx,
  rules: [
    {
      id: 'wsl/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'vhdx', subformats: ['dynamic', 'fixed'] }] },
      source: wslImport,
    },
    {
      id: 'wsl/ext4',
      severity: 'refuses',
      demand: { kind: 'file-system', fileSystem: 'ext4' },
      source: wslImport,
    },
    { id: 'wsl/not-sparse', severity: 'refuses', demand: { kind: 'not-sparse' }, source: notSparse },
  ],
};
