# about: The largest clusters
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o cluster_size=2M disk.qcow2 9M
qemu-io -f qcow2 -c 'write -P 0x11 0 512' -c 'write -P 0x22 5M 1k' -c 'write -z 2M 2M' disk.qcow2
