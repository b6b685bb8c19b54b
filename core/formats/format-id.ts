// The names of the formats, as qemu-img spells them.

export type FormatId = 'raw' | 'qcow' | 'qcow2' | 'vpc' | 'vhdx' | 'vmdk' | 'vdi' | 'qed' | 'luks' | 'ova';
