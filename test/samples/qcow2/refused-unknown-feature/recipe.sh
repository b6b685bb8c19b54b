# about: An incompatible feature that nobody knows
# format: qcow2
# main: disk.qcow2
# open: refuse
qemu-img create -q -f qcow2 disk.qcow2 1M
# byte 72…79: incompatible_features
printf '\x80' | dd of=disk.qcow2 conv=notrunc status=none bs=1 seek=72
