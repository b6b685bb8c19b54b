# about: A snapshot table of four thousand million entries
# format: qcow2
# main: disk.qcow2
# open: refuse
qemu-img create -q -f qcow2 disk.qcow2 1M
# byte 60…63: nb_snapshots
printf '\xff\xff\xff\xff' | dd of=disk.qcow2 conv=notrunc status=none bs=1 seek=60
