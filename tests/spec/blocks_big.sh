#!/bin/bash
# time limit: 400 s
#
# An image of 5 GiB and a byte, whose list signs block digests: offsets that do not fit into 31 or 32
# bits.  With VMI_LONG also the whole of it, and one of 9 GiB.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq python3
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576 gib=1073741824
size=$((5 * gib + 1))
offsets="0 $((2 * gib - 4096)) $((2 * gib)) $((2 * gib + 4096)) $((4 * gib - 4096)) $((4 * gib)) $((4 * gib + 4096))"
[ -z "${VMI_LONG:-}" ] || { size=$((9 * gib + 1)); offsets+=" $((8 * gib - 4096)) $((8 * gib))"; }
free=$(df --output=avail -B1 "${TMPDIR:-/tmp}" | tail -n 1)
[ "$free" -gt $((2 * size)) ] || skip_all "needs $((2 * size / gib)) GiB in ${TMPDIR:-/tmp}"

images_up fill=never stall_timeout=20s
image_add big ok 1
truncate -s $size "$WWW/big"
for at in $offsets $((size - 4096)); do
	head -c 4096 /dev/urandom | dd of="$WWW/big" bs=4096 oflag=seek_bytes seek="$at" conv=notrunc status=none
done
image_blocks big
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

check_is 'B32 the size is right' $size "$(stat -Lc %s "$(image big)")"
for at in $offsets; do
	check "B32 a page at $at is read with O_DIRECT" spot big "$at"
	check "B32 and buffered" reads big --mode pread --from "$at" --length 4096
done
check 'B32 a read across 2^32 is right' reads big --mode pread --from $((4 * gib - 100000)) --length 200000
check 'B32 the last byte is read' reads big --mode pread --from $((size - 1))
check 'B32 and the last page with O_DIRECT' reads big --mode direct --from $((size - 1))
check_is 'B32 behind it there is nothing' 0 \
    "$(dd if="$(image big)" bs=1 skip=$size count=1 iflag=skip_bytes status=none | wc -c)"
check 'B32 a mapping beyond 2^32 is right' reads big --mode mmap --from $((4 * gib + 4096)) --length 8192
check 'B32 less than one percent is fetched' [ "$(sent big)" -lt $((size / 100)) ]
check_is 'B32 of the tree all but its last level' "$(verity_prefix $size)" "$(sidecar_of big)"
check_is 'B32 progress counts in bytes beyond 2^32' $size "$(said_of big progress | cut -d' ' -f2)"
seeks() {
	python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
for at in (0, 2**31 - 1, 2**31, 2**32, size - 1):
    assert os.lseek(fd, at, os.SEEK_DATA) == at and os.lseek(fd, at, os.SEEK_HOLE) == size, at
' "$(image big)"
}
check 'F25 B32 lseek works beyond 2^32' seeks
check 'the daemon ends' mount_down
check 'the daemon starts' mount_up
n=$(requests big)
check 'B32 what was here is here' spot big $((4 * gib))
check_is 'without a request' "$n" "$(requests big)"

if [ -n "${VMI_LONG:-}" ]; then
	check 'B32 all of it is fetched' ctl -q fetch big
	check 'B32 and verified' state_is big verified
	check_is 'B32 no byte twice' $size "$(sent big)"
	check 'B32 it is read' cmp "$(image big)" "$WWW/big"
	flip_byte "$(object_of big)" $((4 * gib + 10))
	check 'B09 B32 a bit that flips beyond 2^32 is healed' spot big $((4 * gib))
fi
mount_down || not_ok 'the daemon ends'
plan_done
