# about: Refcounts of 8 bits
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o refcount_bits=8,cluster_size=4k disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 30k' -c 'write -P 0x22 500k 30k' disk.qcow2
