// What a VMDK image says of itself, in qemu-img's words, and what else it knows.
import type { FactTree, FactValue, ImageFacts } from '../driver.ts';
import { cidText } from './descriptor.ts';
import type { Extent } from './extent.ts';
import type { VmdkNode } from './node.ts';

/** The facts of an open image (section v.4 of the compatibility document). */
export function vmdkFacts(node: VmdkNode): ImageFacts {
  const { descriptor } = node;
  return {
    clusterSize: clusterSizeOf(node.extents),
    encrypted: false,
    dirty: false,
    backing: descriptor.parentHint === null ? null : { path: descriptor.parentHint, format: 'vmdk' },
    specific: {
      type: 'vmdk',
      data: {
        cid: descriptor.cid,
        'parent-cid': descriptor.parentCid,
        'create-type': node.createType,
        extents: node.extents.map(extentFacts),
      },
    },
    snapshots: [],
    further: furtherFacts(node),
  };
}

/** Only where all extents are stored alike, as with QEMU; flat ones have none. */
function clusterSizeOf(extents: readonly Extent[]): number | null {
  const [first] = extents;
  if (first?.kind !== 'sparse') return null;
  const alike = extents.every(
    (extent) =>
      extent.kind === 'sparse' && extent.grainSize === first.grainSize && extent.compressed === first.compressed,
  );
  return alike ? first.grainSize : null;
}

function extentFacts(extent: Extent): FactTree {
  return {
    ...(extent.kind === 'sparse' && extent.compressed ? { compressed: true } : {}),
    'virtual-size': extent.size,
    filename: extent.storage?.name ?? '',
    ...(extent.kind === 'sparse' ? { 'cluster-size': extent.grainSize } : {}),
    format: extent.type,
  };
}

/** Keys of the descriptor that people look for. */
const interesting: Readonly<Record<string, string>> = {
  'ddb.adaptertype': 'adapter-type',
  'ddb.virtualhwversion': 'hardware-version',
  'ddb.toolsversion': 'tools-version',
  'ddb.uuid': 'uuid',
  'ddb.uuid.image': 'uuid-image',
  'ddb.uuid.parent': 'uuid-parent',
  'ddb.longcontentid': 'long-content-id',
  'ddb.thinprovisioned': 'thin-provisioned',
  changetrackpath: 'change-track-path',
  encoding: 'encoding',
};

function furtherFacts({ descriptor, extents }: VmdkNode): FactTree {
  const facts: Record<string, FactValue> = {
    'cid-hex': cidText(descriptor.cid),
    'parent-cid-hex': cidText(descriptor.parentCid),
    'descriptor-create-type': descriptor.createType,
  };
  for (const [key, name] of Object.entries(interesting)) {
    const value = descriptor.values.get(key);
    if (value !== undefined && value !== '') facts[name] = value;
  }
  const hosted = extents.flatMap((extent) =>
    extent.kind === 'sparse' && extent.form.id === 'hosted' ? [{ extent, form: extent.form }] : [],
  );
  const [first] = hosted;
  if (first !== undefined) {
    facts.version = first.form.header.version;
    facts['zeroed-grains'] = first.extent.zeroedGrains;
    facts['directory-at-end'] = first.form.atEnd;
    facts['redundant-tables'] = first.extent.redundantOffset !== null;
    facts['unclean-shutdown'] = hosted.some(({ form }) => form.header.uncleanShutdown !== 0);
  }
  return facts;
}
