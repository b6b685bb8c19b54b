# about: A file that does not end with a sector
# format: raw
# main: disk.raw
truncate -s 300001 disk.raw
printf 'boot' | dd of=disk.raw conv=notrunc status=none
printf 'tail' | dd of=disk.raw conv=notrunc status=none bs=1 seek=299997
