// The check of a LUKS file: what would keep its passphrases from opening it. The header itself was checked when it was opened.
import { materialRange } from '../../block/crypto/luks/header.ts';
import { activeSlots } from '../../block/crypto/luks/key-slots.ts';
import type { CheckSummary, Finding } from '../driver.ts';
import type { LuksNode } from './node.ts';

/** Findings one by one; there are no figures. */
export function* checkLuks(node: LuksNode): Generator<Finding, CheckSummary, void> {
  const { header, storage, payload } = node;
  const active = activeSlots(header);
  const file = node.name;
  const finding = (code: string, text: string, offset: number): Finding => ({
    code,
    severity: 'corruption',
    text,
    where: { file, offset },
    count: 1,
    repair: null,
  });
  if (active.length === 0) {
    yield finding('luks/check-no-slot', 'ERROR no key slot is enabled: no passphrase opens this disk', 0);
  }
  for (const slot of active) {
    const { start, length } = materialRange(header, slot);
    if (start + length <= storage.size) continue;
    const text = `ERROR the key material of slot ${slot} ends at ${start + length}, the file at ${storage.size}`;
    yield finding('luks/check-slot-outside', text, start);
  }
  if (payload > storage.size) {
    const text = `ERROR the encrypted disk begins at ${payload}, the file ends at ${storage.size}`;
    yield finding('luks/check-payload-outside', text, payload);
  }
  return {
    imageEndOffset: storage.size,
    totalClusters: null,
    allocatedClusters: null,
    fragmentedClusters: null,
    compressedClusters: null,
  };
}
