# about: Three internal snapshots with a different content each
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o cluster_size=4k disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 100k' disk.qcow2
qemu-img snapshot -c first disk.qcow2
qemu-io -f qcow2 -c 'write -P 0x22 50k 100k' -c 'discard 0 8k' disk.qcow2
qemu-img snapshot -c second disk.qcow2
qemu-io -f qcow2 -c 'write -P 0x33 512k 4k' disk.qcow2
qemu-img snapshot -c '3rd one' disk.qcow2
qemu-io -f qcow2 -c 'write -z 0 64k' disk.qcow2
