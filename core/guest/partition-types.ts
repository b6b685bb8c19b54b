// What a partition is for, by the type that its table gives it (UEFI 2.10, Discoverable Partitions Specification, Microsoft's GUIDs, MBR ids).
import type { Partition } from './partitions.ts';

export type PartitionUse =
  | 'efi'
  | 'bios-boot'
  | 'linux'
  | 'linux-root'
  | 'linux-home'
  | 'linux-boot'
  | 'swap'
  | 'lvm'
  | 'raid'
  | 'luks'
  | 'microsoft-data'
  | 'microsoft-reserved'
  | 'microsoft-recovery'
  | 'fat'
  | 'ntfs'
  | 'extended'
  | 'apple'
  | 'bsd';

const gpt: Readonly<Record<string, PartitionUse>> = {
  'c12a7328-f81f-11d2-ba4b-00a0c93ec93b': 'efi',
  '21686148-6449-6e6f-744e-656564454649': 'bios-boot',
  '0fc63daf-8483-4772-8e79-3d69d8477de4': 'linux',
  '4f68bce3-e8cd-4db1-96e7-fbcaf984b709': 'linux-root',
  'b921b045-1df0-41c3-af44-4c6f280d3fae': 'linux-root',
  '933ac7e1-2eb4-4f13-b844-0e14e2aef915': 'linux-home',
  'bc13c2ff-59e6-4262-a352-b275fd6f7172': 'linux-boot',
  '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f': 'swap',
  'e6d6d379-f507-44c2-a23c-238f2a3df928': 'lvm',
  'a19d880f-05fc-4d3b-a006-743f0f84911e': 'raid',
  'ca7d7ccb-63ed-4c53-861c-1742536059cc': 'luks',
  'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7': 'microsoft-data',
  'e3c9e316-0b5c-4db8-817d-f92df00215ae': 'microsoft-reserved',
  'de94bba4-06d1-4d40-a16a-bfd50179d6ac': 'microsoft-recovery',
  '48465300-0000-11aa-aa11-00306543ecac': 'apple',
  '7c3457ef-0000-11aa-aa11-00306543ecac': 'apple',
  '516e7cb6-6ecf-11d6-8ff8-00022d09712b': 'bsd',
  '516e7cba-6ecf-11d6-8ff8-00022d09712b': 'bsd',
};

const mbr: Readonly<Record<string, PartitionUse>> = {
  '01': 'fat',
  '04': 'fat',
  '06': 'fat',
  '0b': 'fat',
  '0c': 'fat',
  '0e': 'fat',
  '05': 'extended',
  '0f': 'extended',
  '85': 'extended',
  '07': 'ntfs',
  '27': 'microsoft-recovery',
  '82': 'swap',
  '83': 'linux',
  '8e': 'lvm',
  a5: 'bsd',
  a6: 'bsd',
  a9: 'bsd',
  af: 'apple',
  ef: 'efi',
  fd: 'raid',
};

/** Null: a type that is not known here. */
export function partitionUse({ table, type }: Partition): PartitionUse | null {
  return (table === 'gpt' ? gpt : mbr)[type] ?? null;
}
