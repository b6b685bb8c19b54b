# about: Two images, each the base of the other
# format: qcow2
# main: a.qcow2
# open: refuse-content
qemu-img create -q -f qcow2 a.qcow2 1M
qemu-img create -q -f qcow2 -F qcow2 -b a.qcow2 b.qcow2
qemu-img rebase -q -u -f qcow2 -F qcow2 -b b.qcow2 a.qcow2
