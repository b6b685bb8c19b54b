// Is this the beginning of a VMDK image? A sparse extent by its magic, a descriptor by its version line.
import { cowdMagic, hostedMagic } from './spec.ts';

/** Descriptors are told as QEMU tells them: comments and blank lines, then `version=` and a digit. */
export function probeVmdk(head: Uint8Array): boolean {
  if (head.length < 4) return false;
  const magic = new DataView(head.buffer, head.byteOffset, 4).getUint32(0, true);
  if (magic === hostedMagic || magic === cowdMagic) return true;
  let at = 0;
  for (;;) {
    const end = head.indexOf(0x0a, at);
    if (end < 0) return false;
    const line = Buffer.from(head.buffer, head.byteOffset + at, end - at)
      .toString('latin1')
      .trimEnd();
    if (line !== '' && !line.startsWith('#')) return /^version=[1-9]$/.test(line);
    at = end + 1;
  }
}
