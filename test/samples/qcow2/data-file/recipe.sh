# about: Guest data in a file beside the image
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o data_file=disk.data disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 70k' -c 'write -P 0x22 512k 1k' -c 'write -z 64k 64k' disk.qcow2
