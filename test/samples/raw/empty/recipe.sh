# about: A file of no bytes
# format: raw
# main: disk.raw
: > disk.raw
