// The imports of Amazon and Google.
import { GiB, TiB } from '../../block/units.ts';
import type { Profile, RuleSource } from '../profile.ts';

const awsFormats: RuleSource = {
  title: 'AWS VM Import/Export: image formats',
  url: 'https://docs.aws.amazon.com/vm-import/latest/userguide/prerequisites.html',
};
const awsLimits: RuleSource = {
  title: 'AWS VM Import/Export: limitations of imported resources',
  url: 'https://docs.aws.amazon.com/vm-import/latest/userguide/limitations-image-importing.html',
};
const ebsLimits: RuleSource = {
  title: 'Amazon EBS volume constraints',
  url: 'https://docs.aws.amazon.com/ebs/latest/userguide/volume_constraints.html',
};
const googleImport: RuleSource = {
  title: 'Compute Engine: Import boot disk images manually',
  url: 'https://cloud.google.com/compute/docs/import/import-existing-image',
};
const googleImages: RuleSource = {
  title: 'Compute Engine: Image management best practices',
  url: 'https://cloud.google.com/solutions/image-management-best-practices',
};

export const aws: Profile = {
  id: 'aws',
  label: 'Amazon EC2 (VM Import)',
  target: {
    format: 'vmdk',
    options: { subformat: 'streamOptimized', adapter_type: 'lsilogic' },
    archivedAs: null,
    extension: 'vmdk',
  },
  rules: [
    {
      id: 'aws/format',
      severity: 'refuses',
      demand: {
        kind: 'format',
        taken: [
          { format: 'vmdk', subformats: ['streamOptimized'] },
          { format: 'raw' },
          { format: 'vpc', subformats: ['fixed', 'dynamic'] },
          { format: 'vhdx', subformats: ['fixed', 'dynamic'] },
          { format: 'ova' },
        ],
      },
      source: awsFormats,
    },
    {
      id: 'aws/no-guest-encryption',
      severity: 'refuses',
      demand: { kind: 'no-guest-encryption' },
      source: awsLimits,
    },
    { id: 'aws/largest', severity: 'refuses', demand: { kind: 'size-most', bytes: 64 * TiB }, source: ebsLimits },
    { id: 'aws/table', severity: 'warns', demand: { kind: 'table-reaches' }, source: ebsLimits },
  ],
};

export const google: Profile = {
  id: 'gcp',
  label: 'Google Compute Engine',
  target: { format: 'raw', options: {}, archivedAs: 'disk.raw', extension: 'tar.gz' },
  rules: [
    {
      id: 'gcp/format',
      severity: 'refuses',
      demand: { kind: 'format', taken: [{ format: 'raw' }] },
      source: googleImport,
    },
    { id: 'gcp/whole-gib', severity: 'refuses', demand: { kind: 'size-multiple', of: GiB }, source: googleImport },
    { id: 'gcp/name', severity: 'refuses', demand: { kind: 'file-name', name: 'disk.raw' }, source: googleImport },
    { id: 'gcp/partitions', severity: 'warns', demand: { kind: 'partitioned' }, source: googleImages },
  ],
};
