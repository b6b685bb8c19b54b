# about: Version 2, a size that is no multiple of the cluster size
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o compat=0.10 disk.qcow2 3200k
qemu-io -f qcow2 -c 'write -P 0x11 0 512' -c 'write -P 0x22 100k 70k' -c 'write -P 0x33 1000000 1' -c 'write -P 0x44 1M 64k' -c 'write -P 0x55 3000k 200k' disk.qcow2
