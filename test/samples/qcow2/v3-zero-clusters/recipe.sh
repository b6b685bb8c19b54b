# about: Zero clusters with and without room, a discarded cluster, unaligned zeroes
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 disk.qcow2 4M
qemu-io -f qcow2 -c 'write -P 0x11 0 1M' -c 'write -z 64k 128k' -c 'write -zu 256k 64k' -c 'discard 512k 64k' -c 'write -z 700000 1000' -c 'write -z 2M 512k' disk.qcow2
