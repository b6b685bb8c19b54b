# about: The smallest clusters
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o cluster_size=512 disk.qcow2 600k
qemu-io -f qcow2 -c 'write -P 0x11 0 1' -c 'write -P 0x22 1000 1000' -c 'write -P 0x33 64k 2k' -c 'write -P 0x44 599k 1k' -c 'write -z 64k 512' disk.qcow2
