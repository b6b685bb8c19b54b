// ova: packages of virtual machines (OVF, in an archive or beside its files), each of whose disks is an image of another format.
import type { BlockNode } from '../../block/node.ts';
import { StorageWindow } from '../../block/storage-window.ts';
import { MemoryStorage } from '../../block/memory.ts';
import type { FormatDriver } from '../driver.ts';
import { checkOva, verifyOva } from './check.ts';
import { createOva, measureOva, optionRows } from './create.ts';
import { ovaFacts } from './facts.ts';
import { OvaNode } from './node.ts';
import { openOva, startsAsDescriptor } from './open.ts';
import type { FindDriver } from './package.ts';
import { ovaRegions } from './regions.ts';
import { startsWithDescriptor } from './tar.ts';

function ours(node: BlockNode): OvaNode {
  if (!(node instanceof OvaNode)) throw new Error(`not a package: ${node.format}`);
  return node;
}

/** The driver. `find` leads to those of the disks: no format knows another one. */
export function ovaDriver(find: FindDriver): FormatDriver {
  return {
    id: 'ova',
    label: 'OVA/OVF package',
    extensions: ['ova', 'ovf'],
    hasBacking: false,
    options: optionRows,
    probe: (head, _tail, size) => startsAsDescriptor(head) || startsWithDescriptor(head, size ?? head.length),
    open: (storage, request) => openOva(storage, request, find),
    create: (request) => createOva(request, find),
    onlyConverted: true,
    compresses: true,
    identity(node) {
      const { chosen } = ours(node);
      if (chosen === null || chosen.node === null) return { disk: null, options: {} };
      const identity = chosen.driver?.identity?.(chosen.node) ?? { disk: null, options: {} };
      const { cid, uuid } = identity.options;
      return {
        disk: identity.disk,
        options: { ...(cid === undefined ? {} : { cid }), ...(uuid === undefined ? {} : { uuid }) },
      };
    },
    diskIdOption: 'uuid',
    facts: (node) => ovaFacts(ours(node)),
    regions: (node, role = 'file') => ovaRegions(ours(node), role),
    check: (node, job) => checkOva(ours(node), job),
    verify: (node, job) => verifyOva(ours(node), job),
    measure: (request) =>
      measureOva(request, (format) => find(new StorageWindow(new MemoryStorage(), 0, 0, ''), format)),
  };
}
