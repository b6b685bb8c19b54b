// Codes and sentences of qcow.
import type { Sentence } from '../sentence.ts';

export const qcowMessages = {
  'qcow/magic': 'Image not in qcow format',
  'qcow/version': (d) => {
    const version = Number.parseInt(String(d.found), 10);
    const hint = version === 2 || version === 3 ? "\nTry the 'qcow2' driver instead." : '';
    return `qcow (v1) does not support qcow version ${version}${hint}`;
  },
  'qcow/size': 'Image size is too small (must be at least 2 bytes)',
  'qcow/empty': 'Image size is too small, cannot be zero length',
  'qcow/cluster-bits': 'Cluster size must be between 512 and 64k',
  'qcow/l2-bits': 'L2 table size must be between 512 and 64k',
  'qcow/crypt-method': 'invalid encryption method in qcow header',
  'qcow/too-large': 'Image too large',
  'qcow/offset': (d) => `${d.field} is ${d.found}, beyond what a file can hold`,
  'qcow/backing-name': 'Backing file name too long',
  'qcow/backing-place': (d) =>
    `The name of the backing file (${d.length} bytes at offset ${d.offset}) lies outside of the file of ${d.size} bytes`,
  'qcow/table-beyond-file': (d) =>
    `The ${d.table} (${d.length} bytes at offset ${d.offset}) lies outside of the file of ${d.size} bytes`,
  'qcow/table-shared': (d) => `Two L1 entries point to the L2 table at offset ${d.offset}`,
  'qcow/cluster-offset': (d) => `Cluster ${d.cluster} stands at offset ${d.offset}, which is no multiple of 512`,
  'qcow/cluster-beyond-file': (d) =>
    `Cluster ${d.cluster} at offset ${d.offset} lies outside of the file of ${d.size} bytes`,
  'qcow/packed-beyond-file': (d) =>
    `A compressed cluster (${d.length} bytes at offset ${d.offset}) lies outside of the file of ${d.size} bytes`,
  'qcow/file-too-large': (d) => `A qcow file with such clusters cannot grow beyond ${d.allowed} bytes`,
  'qcow/crypto-format': (d) => `Header reported 'aes' encryption format but options specify '${d.stated}'`,
} as const satisfies Record<string, Sentence>;
