// What a VHD says of itself.
import type { BackingReference } from '../../block/node.ts';
import type { FactTree, ImageFacts } from '../driver.ts';
import { showVersion } from './footer.ts';
import { showTime } from './identity.ts';
import { unicodeName } from './locators.ts';
import { DynamicNode, type VhdNode } from './node.ts';
import { claimOf } from './parent.ts';
import { diskType } from './spec.ts';

/** Facts of an open VHD. The identity stands under `further`: `unique-id`, and for the parent `parent` → `unique-id`. */
export function vhdFacts(node: VhdNode): ImageFacts {
  const dynamic = node instanceof DynamicNode ? node : null;
  return {
    clusterSize: dynamic?.layout.blockSize ?? null,
    encrypted: false,
    dirty: false,
    backing: dynamic === null ? null : backingOf(dynamic),
    specific: null,
    snapshots: [],
    further: {
      subformat: subformatOf(node.footer.disk_type),
      'unique-id': node.footer.unique_id,
      created: showTime(node.footer.time_stamp),
      'creator-application': node.footer.creator_application,
      'creator-version': showVersion(node.footer.creator_version),
      'creator-host-os': node.footer.creator_host_os,
      'current-size': node.footer.current_size,
      'original-size': node.footer.original_size,
      'size-from': node.sizeFrom === 'chs' ? 'geometry' : 'current size',
      geometry: {
        cylinders: node.footer.cylinders,
        heads: node.footer.heads,
        'sectors-per-track': node.footer.sectors_per_track,
      },
      'saved-state': node.footer.saved_state !== 0,
      ...(dynamic === null ? {} : dynamicFacts(dynamic)),
    },
  };
}

function subformatOf(type: number): string {
  const known = Object.entries(diskType).find(([, value]) => value === type);
  return known === undefined ? String(type) : known[0];
}

function backingOf(node: DynamicNode): BackingReference | null {
  if (!node.differencing) return null;
  const claim = claimOf(node.header, node.headerBytes, node.locators, node.footer);
  return { path: claim.name, format: 'vpc' };
}

function dynamicFacts(node: DynamicNode): FactTree {
  const { header } = node;
  const facts: FactTree = {
    'block-size': node.layout.blockSize,
    'table-entries': header.max_table_entries,
  };
  if (!node.differencing) return facts;
  return {
    ...facts,
    parent: {
      'unique-id': header.parent_unique_id,
      ...(header.parent_time_stamp === 0 ? {} : { 'time-stamp': showTime(header.parent_time_stamp) }),
      name: unicodeName(node.headerBytes) ?? '',
      locators: node.locators.map(({ entry, name }) => ({ platform: entry.platform_code, name: name ?? '' })),
    },
  };
}
