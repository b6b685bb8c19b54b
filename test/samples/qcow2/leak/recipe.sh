# about: A cluster that nothing refers to
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 64k' -c 'write -P 0x22 64k 64k' disk.qcow2
# the second entry of the L2 table at 256 KiB
qemu-io -f raw -c 'write -q -P 0 262152 8' disk.qcow2
