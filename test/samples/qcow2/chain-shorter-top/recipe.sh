# about: An overlay that is smaller than its base
# format: qcow2
# main: top.qcow2
qemu-img create -q -f qcow2 base.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0xb1 0 1M' base.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 top.qcow2 333k
qemu-io -f qcow2 -c 'write -P 0x41 100k 10k' top.qcow2
