// Which text belongs to which value that the engine or a list knows: letters of regions, places, forms of copies, kinds of patterns.
import type { PatternKind, PlaceFacts, RegionFacts } from '../../../core/workbench/contract.ts';
import type { MessageKey } from '../../text/message.svelte.ts';
import type { CopyForm } from './copy-as.ts';

export const regionLetter: Readonly<Record<RegionFacts['kind'], MessageKey>> = {
  data: 'hex.letter.data',
  header: 'hex.letter.header',
  log: 'hex.letter.log',
  lost: 'hex.letter.lost',
  table: 'hex.letter.table',
};

export const placeWords: Readonly<Record<PlaceFacts['kind'], MessageKey>> = {
  data: 'hex.place.data',
  encrypted: 'hex.place.encrypted',
  packed: 'hex.place.packed',
  unallocated: 'hex.place.unallocated',
  unreadable: 'hex.place.unreadable',
  zero: 'hex.place.zero',
};

export const copyWords: Readonly<Record<CopyForm, MessageKey>> = {
  hex: 'hex.copy.hex',
  c: 'hex.copy.c',
  base64: 'hex.copy.base64',
  text: 'hex.copy.text',
};

export const patternKinds = ['utf-8', 'utf-16', 'utf-16be', 'bytes', 'guid', 'uuid'] as const satisfies PatternKind[];

export const patternWords: Readonly<Record<PatternKind, { readonly name: MessageKey; readonly example: MessageKey }>> =
  {
    'utf-8': { name: 'hex.find.utf-8', example: 'hex.find.example.text' },
    'utf-16': { name: 'hex.find.utf-16', example: 'hex.find.example.text' },
    'utf-16be': { name: 'hex.find.utf-16be', example: 'hex.find.example.text' },
    bytes: { name: 'hex.find.bytes', example: 'hex.find.example.bytes' },
    guid: { name: 'hex.find.guid', example: 'hex.find.example.guid' },
    uuid: { name: 'hex.find.uuid', example: 'hex.find.example.guid' },
  };
