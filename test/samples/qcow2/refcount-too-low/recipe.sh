# about: A data cluster with refcount 0
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 64k' disk.qcow2
# the refcount of cluster 5 in the refcount block at 128 KiB
qemu-io -f raw -c 'write -q -P 0 131082 2' disk.qcow2
