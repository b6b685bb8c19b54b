// A new package: an archive with a descriptor, a manifest and an empty streamOptimized disk, which a convert then fills.
import { StorageWindow } from '../../block/storage-window.ts';
import { MiB } from '../../block/units.ts';
import { ImageError } from '../../errors/image-error.ts';
import type { CreateRequest, Measurement, MeasureRequest, OptionRow, OptionValue } from '../driver.ts';
import { diskStart, finishArchive, roomFor, type ArchivePlan } from './archive-writer.ts';
import {
  controllers,
  envelope,
  systems,
  type ControllerName,
  type EnvelopeFacts,
  type SystemName,
} from './envelope.ts';
import { digestOf } from './manifest.ts';
import type { FindDriver } from './package.ts';
import { blockSize } from './spec.ts';

const defaults = { controller: 'lsilogic', cpus: 1, memory: 1024 * MiB, os: 'other64' } as const;

/** In the order of the line that create prints. */
export const optionRows: readonly OptionRow[] = [
  { name: 'size', type: 'size', meaning: 'Virtual disk size', shown: 'always' },
  { name: 'name', type: 'string', meaning: 'Name of the virtual machine (default: that of the file)', shown: 'given' },
  { name: 'cpus', type: 'number', meaning: 'Number of virtual CPUs', default: defaults.cpus, shown: 'given' },
  { name: 'memory', type: 'size', meaning: 'Memory of the machine', default: defaults.memory, shown: 'given' },
  {
    name: 'controller',
    type: 'string',
    meaning:
      'What the disk is attached to: lsilogic (default), lsilogicsas, sata (as VirtualBox names it), sata-vmware (as VMware does), ide',
    values: Object.keys(controllers),
    shown: 'given',
  },
  {
    name: 'os',
    type: 'string',
    meaning: 'Operating system that the machine is set up for: other64 (default), other, linux64, linux',
    values: Object.keys(systems),
    shown: 'given',
  },
  { name: 'cid', type: 'string', meaning: 'Content identifier of the disk', shown: 'given', hidden: true },
  { name: 'uuid', type: 'string', meaning: 'UUID of the disk', shown: 'given', hidden: true },
];

function refuse(name: string, found: OptionValue): never {
  throw new ImageError('ova/option', { name, found: String(found) });
}

function isController(value: OptionValue): value is ControllerName {
  return typeof value === 'string' && Object.hasOwn(controllers, value);
}

function isSystem(value: OptionValue): value is SystemName {
  return typeof value === 'string' && Object.hasOwn(systems, value);
}

/** What is known before the disk is written. Throws `ova/option`. */
function factsFor(request: Pick<CreateRequest, 'size' | 'options'>, path: string): EnvelopeFacts {
  const {
    name,
    cpus = defaults.cpus,
    memory = defaults.memory,
    controller = defaults.controller,
    os = defaults.os,
  } = request.options;
  const base = path.replace(/^.*[\\/]/s, '').replace(/\.(ova|ovf)$/i, '');
  // Names inside the archive are such that any unpacker, any host and any URI takes them.
  const plain = base
    .replace(/[^A-Za-z0-9._-]+/g, '_')
    .replace(/^[.-]+/, '')
    .slice(0, 80);
  const id = plain === '' ? 'machine' : plain;
  const machine = name ?? (base === '' ? id : base);
  if (typeof machine !== 'string' || machine === '' || machine.length > 255) return refuse('name', machine);
  // XML has no way to write these.
  if (/[\p{Cc}\ufffe\uffff]/u.test(machine) || !machine.isWellFormed()) {
    return refuse('name', machine.toWellFormed());
  }
  if (typeof cpus !== 'number' || !Number.isInteger(cpus) || cpus < 1 || cpus > 1024) return refuse('cpus', cpus);
  if (typeof memory !== 'number' || memory < MiB || memory % MiB !== 0 || memory > 2 ** 50)
    return refuse('memory', memory);
  if (!isController(controller)) return refuse('controller', controller);
  if (!isSystem(os)) return refuse('os', os);
  return {
    file: `${id}-disk1.vmdk`,
    fileSize: 0,
    capacity: request.size,
    populated: 0,
    id,
    name: machine,
    cpus,
    memoryMiB: memory / MiB,
    controller,
    os,
  };
}

function planFor(facts: EnvelopeFacts): ArchivePlan {
  const largest = Number.MAX_SAFE_INTEGER;
  return {
    descriptorName: `${facts.id}.ovf`,
    diskName: facts.file,
    descriptorRoom: roomFor(envelope({ ...facts, fileSize: largest, populated: largest })),
  };
}

/** The options of the disk inside. What a stream cannot do, its driver refuses. */
function diskOptions(
  options: Readonly<Record<string, OptionValue>>,
  controller: ControllerName,
): Record<string, OptionValue> {
  const { preallocation, cid, uuid } = options;
  return {
    subformat: 'streamOptimized',
    adapter_type: controllers[controller].adapter,
    ...(preallocation === undefined ? {} : { preallocation }),
    ...(cid === undefined ? {} : { cid }),
    ...(uuid === undefined ? {} : { uuid }),
  };
}

/** Leaves a whole package with an empty disk. Throws `ova/option`, the codes of the disk's driver, `storage/*`. */
export function createOva(request: CreateRequest, find: FindDriver): void {
  const { storage } = request;
  const facts = factsFor(request, request.name);
  const plan = planFor(facts);
  const window = new StorageWindow(storage, diskStart(plan), 0, `${storage.name}(${plan.diskName})`);
  find(window, 'vmdk').create?.({
    ...request,
    storage: window,
    name: plan.diskName,
    options: diskOptions(request.options, facts.controller),
  });
  const steps = digestOf(window, 'SHA256');
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  const text = envelope({ ...facts, fileSize: window.size });
  finishArchive(storage, plan, { text, diskSize: window.size, diskDigest: step.value });
}

/** As much as the disk can take at most, and what stands around it for a file called `disk.ova`. */
export function measureOva(request: MeasureRequest, find: (format: string) => ReturnType<FindDriver>): Measurement {
  const facts = factsFor(request, 'disk.ova');
  const around = diskStart(planFor(facts)) + 2 * blockSize;
  const disk = find('vmdk').measure?.({ ...request, options: diskOptions(request.options, facts.controller) });
  if (disk === undefined) throw new ImageError('measure/unsupported', { format: 'ova' });
  return { required: around + disk.required, fullyAllocated: around + disk.fullyAllocated };
}
