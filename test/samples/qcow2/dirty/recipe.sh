# about: Lazy refcounts, and the writer was killed: the dirty bit is set
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=4k disk.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x11 0 30k' disk.qcow2
qemu-io -f qcow2 -c 'write -P 0x22 500k 30k' -c 'flush' -c 'sigraise 9' disk.qcow2 || true
