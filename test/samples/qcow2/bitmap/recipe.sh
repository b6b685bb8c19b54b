# about: A persistent dirty bitmap
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 disk.qcow2 1M
qemu-img bitmap --add -g 65536 disk.qcow2 nightly
qemu-io -f qcow2 -c 'write -P 0x11 100k 30k' disk.qcow2
