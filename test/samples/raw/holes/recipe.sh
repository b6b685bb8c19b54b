# about: Data, a hole, data, and a hole at the end
# format: raw
# main: disk.raw
truncate -s 4M disk.raw
qemu-io -f raw -c 'write -P 0x11 0 64k' -c 'write -P 0x22 1M 4k' -c 'write -P 0x33 2M 512' disk.raw
