# about: A backing name that is a URL
# format: qcow2
# main: disk.qcow2
# open: refuse-content
qemu-img create -q -u -f qcow2 -F raw -b 'nbd://127.0.0.1:1/x' disk.qcow2 1M
