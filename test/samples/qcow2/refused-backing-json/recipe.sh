# about: A backing name that is a description in JSON
# format: qcow2
# main: disk.qcow2
# open: refuse-content
qemu-img create -q -u -f qcow2 -F raw -b 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/hostname"}}' disk.qcow2 1M
