# about: preallocation=metadata
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=4k disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 100k 30k' disk.qcow2
