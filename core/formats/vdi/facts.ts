// What a VDI says of itself.
import type { BackingReference } from '../../block/node.ts';
import type { ImageFacts } from '../driver.ts';
import { showVersion } from './header.ts';
import type { VdiNode } from './node.ts';
import { changedParent, parentIdentity } from './parent.ts';
import { imageType } from './spec.ts';

/** Facts of an open VDI. The identity stands under `further`: `uuid`, `modify-uuid`, and for the parent `parent` → the same. */
export function vdiFacts(node: VdiNode): ImageFacts {
  const { values } = node.header;
  const parent = parentIdentity(node.header);
  return {
    clusterSize: values.block_size,
    encrypted: false,
    dirty: false,
    backing: backingOf(node),
    specific: null,
    snapshots: [],
    further: {
      subformat: subformatOf(values.image_type),
      version: showVersion(node.header),
      'header-size': values.header_size,
      text: node.header.fileInfo,
      comment: values.comment,
      uuid: values.uuid_create,
      'modify-uuid': values.uuid_modify,
      'block-size': values.block_size,
      'block-extra': values.block_extra,
      blocks: values.blocks_in_image,
      'blocks-allocated': values.blocks_allocated,
      ...(node.differencing ? { parent: { uuid: parent.uuid, 'modify-uuid': parent.modification } } : {}),
    },
  };
}

function subformatOf(type: number): string {
  const known = Object.entries(imageType).find(([, value]) => value === type);
  return known === undefined ? String(type) : known[0];
}

/** A parent that was not looked for goes by the name that VirtualBox gives to disks of snapshots. */
function backingOf(node: VdiNode): BackingReference | null {
  if (!node.differencing) return null;
  const known = node.parentPath ?? changedParent(node.header, node.name, node.gate);
  return { path: known ?? `{${parentIdentity(node.header).uuid}}.vdi`, format: 'vdi' };
}
