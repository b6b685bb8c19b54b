# about: The L1 table lies beyond the end of the file
# format: qcow2
# main: disk.qcow2
# open: refuse
qemu-img create -q -f qcow2 disk.qcow2 1M
# byte 40…47: l1_table_offset
printf '\x00\x00\x00\x10\x00\x00\x00\x00' | dd of=disk.qcow2 conv=notrunc status=none bs=1 seek=40
