# about: Compressed clusters (zlib), one of them overwritten, one that does not compress
# format: qcow2
# main: disk.qcow2
truncate -s 3M plain.raw
qemu-io -f raw -c 'write -P 0x11 0 300k' -c 'write -P 0x22 300k 1' -c 'write -P 0x33 1M 1M' plain.raw
noise=$(for i in $(seq 1 24); do echo "$i" | sha512sum | cut -c1-128; done | tr -d '\n' | sed 's/../\\x&/g')
printf "$noise" | dd of=plain.raw conv=notrunc status=none bs=1k seek=2560
qemu-img convert -c -f raw -O qcow2 -o compression_type=zlib,cluster_size=16k plain.raw disk.qcow2
qemu-io -f qcow2 -c 'write -P 0x44 1100k 5k' disk.qcow2
rm plain.raw
