# about: Two L2 entries that name the same cluster
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 64k' -c 'write -P 0x22 64k 64k' disk.qcow2
dd if=disk.qcow2 of=disk.qcow2 conv=notrunc status=none bs=8 count=1 skip=32768 seek=32769
