# about: Three layers: a shorter raw base, a middle, a longer top
# format: qcow2
# main: top.qcow2
qemu-img create -q -f raw base.raw 300k
qemu-io -f raw -c 'write -P 0xb1 0 300k' base.raw
qemu-img create -q -f qcow2 -F raw -b base.raw -o cluster_size=8k mid.qcow2 500k
qemu-io -f qcow2 -c 'write -P 0x31 100k 50k' -c 'write -z 200k 16k' -c 'write -P 0x32 400k 100k' mid.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b mid.qcow2 top.qcow2 1M
qemu-io -f qcow2 -c 'write -P 0x41 130k 10k' -c 'write -z 0 64k' -c 'write -P 0x42 900k 1k' top.qcow2
