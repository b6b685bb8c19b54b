# about: Subclusters over a backing file: absent ones show the base
# format: qcow2
# main: top.qcow2
qemu-img create -q -f qcow2 base.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0xbb 0 1M' base.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 -o extended_l2=on,cluster_size=64k top.qcow2
qemu-io -f qcow2 -c 'write -P 0x11 2k 2k' -c 'write -z 8k 4k' -c 'write -P 0x22 100k 1k' -c 'write -z 128k 64k' top.qcow2
