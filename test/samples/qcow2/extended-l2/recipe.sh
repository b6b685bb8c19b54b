# about: Subclusters: allocated, zero and absent ones in one cluster
# format: qcow2
# main: disk.qcow2
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k disk.qcow2 2M
qemu-io -f qcow2 -c 'write -P 0x11 0 4k' -c 'write -P 0x22 12k 8k' -c 'write -z 20k 8k' -c 'write -P 0x33 130000 300' -c 'write -P 0x44 1M 128k' -c 'write -z 1028k 4k' -c 'discard 1040k 4k' disk.qcow2
