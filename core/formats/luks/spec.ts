// On-disk structures of a LUKS file: the header and the key slots, which qcow2 has inside as well.

export { keySlot, partitionHeader } from '../../block/crypto/luks/spec.ts';
