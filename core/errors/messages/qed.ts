// Codes and sentences of qed.
import type { Sentence } from '../sentence.ts';

const names: Readonly<Record<string, string>> = {
  cluster_size: 'cluster size',
  table_size: 'table size',
  header_size: 'header size',
  image_size: 'image size',
  l1_table_offset: 'table offset',
  backing_filename_size: 'backing filename offset',
};

export const qedMessages = {
  'qed/magic': 'Image not in QED format',
  'qed/features': (d) => `Unsupported QED features: ${d.found}`,
  'qed/header': (d) => `QED ${names[String(d.field)] ?? d.field} is invalid`,
  'qed/table-offset': (d) => `Invalid argument: L1 entry ${d.index} leads to ${d.found}, where no L2 table can be`,
  'qed/cluster-offset': (d) =>
    `Invalid argument: the L2 entry for guest offset ${d.guest} leads to ${d.found}, where no cluster can be`,
  'qed/too-many-clusters': (d) => `The file has ${d.found} clusters; more than ${d.allowed} are not looked through`,
} as const satisfies Record<string, Sentence>;
