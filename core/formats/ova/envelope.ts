// The text of the OVF descriptor that we write: a machine with one disk, as little as VirtualBox and VMware take.
import { envelopeNamespace, rasdNamespace, streamOptimizedUri, vmwareNamespace, vssdNamespace } from './spec.ts';

/** How the disk is attached. Resource types and subtypes of CIM_ResourceAllocationSettingData, spelled as the two programs do. */
export const controllers = {
  lsilogic: { type: 6, subtype: 'lsilogic', name: 'SCSI Controller', adapter: 'lsilogic' },
  lsilogicsas: { type: 6, subtype: 'lsilogicsas', name: 'SCSI Controller', adapter: 'lsilogic' },
  sata: { type: 20, subtype: 'AHCI', name: 'SATA Controller', adapter: 'ide' },
  'sata-vmware': { type: 20, subtype: 'vmware.sata.ahci', name: 'SATA Controller', adapter: 'ide' },
  ide: { type: 5, subtype: 'PIIX4', name: 'IDE Controller', adapter: 'ide' },
} as const;
export type ControllerName = keyof typeof controllers;

/** What is installed: the value of CIM_OperatingSystem.OSType, VMware's name for it, and the words that VirtualBox looks at. */
export const systems = {
  other: { id: 1, vmware: 'otherGuest', description: 'Other' },
  other64: { id: 102, vmware: 'otherGuest64', description: 'Other_64' },
  linux: { id: 36, vmware: 'otherLinuxGuest', description: 'Linux' },
  linux64: { id: 101, vmware: 'otherLinux64Guest', description: 'Linux_64' },
} as const;
export type SystemName = keyof typeof systems;

export interface EnvelopeFacts {
  /** The file of the disk and its bytes. */
  readonly file: string;
  readonly fileSize: number;
  /** Bytes of the disk, and of what is stored of it. */
  readonly capacity: number;
  readonly populated: number;
  readonly id: string;
  readonly name: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly controller: ControllerName;
  readonly os: SystemName;
}

function escape(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => names[character] ?? character);
}

interface Item {
  readonly address?: number;
  readonly addressOnParent?: number;
  readonly units?: string;
  readonly description: string;
  readonly name: string;
  readonly hostResource?: string;
  readonly id: number;
  readonly parent?: number;
  readonly subtype?: string;
  readonly type: number;
  readonly quantity?: number;
}

/** The elements of an item stand in the order of the alphabet (sequence of the schema). */
function itemText(item: Item): string {
  const rows: readonly (readonly [string, string | number | undefined])[] = [
    ['Address', item.address],
    ['AddressOnParent', item.addressOnParent],
    ['AllocationUnits', item.units],
    ['Description', item.description],
    ['ElementName', item.name],
    ['HostResource', item.hostResource],
    ['InstanceID', item.id],
    ['Parent', item.parent],
    ['ResourceSubType', item.subtype],
    ['ResourceType', item.type],
    ['VirtualQuantity', item.quantity],
  ];
  const lines = rows.flatMap(([name, value]) =>
    value === undefined ? [] : [`        <rasd:${name}>${escape(String(value))}</rasd:${name}>`],
  );
  return ['      <Item>', ...lines, '      </Item>'].join('\n');
}

/** The descriptor. */
export function envelope(facts: EnvelopeFacts): string {
  const controller = controllers[facts.controller];
  const system = systems[facts.os];
  const items: Item[] = [
    {
      units: 'hertz * 10^6',
      description: 'Number of virtual CPUs',
      name: `${facts.cpus} virtual CPU(s)`,
      id: 1,
      type: 3,
      quantity: facts.cpus,
    },
    {
      units: 'byte * 2^20',
      description: 'Memory size',
      name: `${facts.memoryMiB} MB of memory`,
      id: 2,
      type: 4,
      quantity: facts.memoryMiB,
    },
    {
      address: 0,
      description: controller.name,
      name: `${controller.name} 0`,
      id: 3,
      subtype: controller.subtype,
      type: controller.type,
    },
    {
      addressOnParent: 0,
      description: 'Disk image',
      name: 'Disk 1',
      hostResource: 'ovf:/disk/vmdisk1',
      id: 4,
      parent: 3,
      type: 17,
    },
  ];
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="${envelopeNamespace}" xmlns:ovf="${envelopeNamespace}" xmlns:rasd="${rasdNamespace}" xmlns:vmw="${vmwareNamespace}" xmlns:vssd="${vssdNamespace}">
  <References>
    <File ovf:href="${escape(facts.file)}" ovf:id="file1" ovf:size="${facts.fileSize}"/>
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
    <Disk ovf:capacity="${facts.capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="${streamOptimizedUri}" ovf:populatedSize="${facts.populated}"/>
  </DiskSection>
  <VirtualSystem ovf:id="${escape(facts.id)}">
    <Info>A virtual machine</Info>
    <Name>${escape(facts.name)}</Name>
    <OperatingSystemSection ovf:id="${system.id}" vmw:osType="${system.vmware}">
      <Info>The kind of the operating system that is installed</Info>
      <Description>${system.description}</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>${escape(facts.id)}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
${items.map(itemText).join('\n')}
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`;
}

/** The same descriptor with the two sizes that are known at the end only. */
export function withSizes(text: string, fileSize: number, populated: number): string {
  return text
    .replace(/ ovf:size="[0-9]*"/, ` ovf:size="${fileSize}"`)
    .replace(/ ovf:populatedSize="[0-9]*"/, ` ovf:populatedSize="${populated}"`);
}
