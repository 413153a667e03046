#!/bin/bash
# time limit: 240 s
#
# The first read of an image whose list signs block digests: a reader gets its bytes as soon as these
# bytes have come and were verified, and little else is fetched.  What hypervisors and tools do with
# an image of which only a part is here.
#
# A granule is 262144 bytes: the least that is fetched and verified.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity qemu-img qemu-io jq sfdisk fdisk mkfs.ext4 file python3 setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"
. "$here/../lib/relay.sh"

images_up fill=never stall_timeout=20s
mib=1048576

# ---- images ------------------------------------------------------------------------------------

# A GiB that is cheap to make: 32 MiB of random bytes in it, the rest are holes.
sparse_disk() {
	local i

	image_add "$1" "$2" 1
	truncate -s 1G "$WWW/$1"
	for ((i = 0; i < 32; i++)); do
		head -c $mib /dev/urandom | dd of="$WWW/$1" bs=1M seek=$((i * 32 + i % 8)) conv=notrunc status=none
	done
}

# A disk with one partition, and a file system in it that has the file `hello`.
partitioned_disk() {
	mkdir "$SITE/files"
	echo 'hello, world' >"$SITE/files/hello"
	truncate -s 64M "$1"
	sfdisk -q "$1" <<<'2048,,L' && mkfs.ext4 -q -F -d "$SITE/files" -E offset=$mib "$1" 60M
}

sparse_disk big ok
image_disk scattered ok 64
image_disk line ok 64
image_disk crowd silent 4
image_disk near silent 64
image_disk twice ok 1
image_disk odd ok 1 && head -c 777777 /dev/urandom >"$WWW/odd"
for size in 1 4096 4097 262144 262145; do
	image_add "size-$size" ok "$size"
done
image_add raw ok 1
partitioned_disk "$WWW/raw" || bail 'no disk can be made'
image_add qcow ok 1
qemu-img convert -f raw -O qcow2 "$WWW/line" "$WWW/qcow" || bail 'qemu-img convert failed'
image_disk far ok 8
for name in "${image_names[@]}"; do
	case $name in
	crowd|near) image_blocks "$name" mode=ok ;;
	*)	image_blocks "$name" ;;
	esac
done
# One that is behind a line of 20 ms and 125 MB/s.
relay_up "$(server_port http)" --delay 20 --rate 125000000
image_uris[-1]=$RELAY/ok/far
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# ---- a page in the middle ----------------------------------------------------------------------

middle=$((512 * mib + 40960))
check 'a page in the middle of a cold image of 1 GiB is read' spot big $middle
check_is 'for it one granule is fetched' $granule "$(sent big)"
check_is 'and of the tree all but its last level' "$(verity_prefix $((1024 * mib)))" "$(sidecar_of big)"
check 'that is less than one percent of the image' [ $(($(sent big) + $(sidecar_of big))) -lt $((10 * mib)) ]
check_is 'progress says what is here' "$granule $((1024 * mib)) 0" "$(said_of big progress)"
check 'the image is not verified yet: nothing is being fetched' wait_for 5 state_is big selected
check 'and has no name in cache/' [ ! -e "$MNT/cache/big" ]
check_is 'no error is shown' '' "$(said_of big error)"
check 'another page of the same granule is read' spot big $((middle + 65536))
check_is 'without a request' 1 "$(requests big)"
check 'a buffered read of the same granule is answered from it, too' \
    reads big --mode pread --from $((512 * mib + 131072)) --length 4096
check_is 'without a request' 1 "$(requests big)"
check_is 'a range that was asked for has a first and a last byte' \
    "range=$((512 * mib))-$((512 * mib + granule - 1)) if-range=-" "$(asked big)"

seeks() {
	python3 - "$1" <<-'EOT'
		import os, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		size = os.fstat(fd).st_size
		for at in (0, 1, 5 << 20, size // 2, size - 1):
		    assert os.lseek(fd, at, os.SEEK_DATA) == at, at
		    assert os.lseek(fd, at, os.SEEK_HOLE) == size, at
		for at in (size, size + 5):
		    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
		        try:
		            os.lseek(fd, at, whence)
		            sys.exit("lseek behind the end succeeds")
		        except OSError as e:
		            assert e.errno == 6, e
	EOT
}
check 'F25 of an image that is not here all is data, and the hole is its end' seeks "$(image big)"
check_is 'F25 to ask for that fetches nothing' 1 "$(requests big)"
check 'F25 st_blocks covers the whole size' \
    [ "$(stat -Lc %b "$(image big)")" -eq $((1024 * mib / 512)) ]

far_page() {
	timed spot far $((5 * mib)) || return 1
	[ "$took" -lt 3000 ] || { echo "$took ms"; return 1; }
}
check 'over a line of 20 ms a page is there after a few round trips' far_page
check_is 'over such a line no more is fetched, either' $granule "$(sent far)"

# ---- many readers of one place -----------------------------------------------------------------

ways=(direct pread)
waiters crowd
for ((i = 0; i < 100; i++)); do
	# In the middle of a granule, so that no read-ahead of the kernel leaves it.
	waiter $i crowd --mode "${ways[i % 2]}" --seed $i --from $((granule * 5 + 131072)) --length 4096
done
wait_for "$VMI_PATIENCE" waiters_begun || not_ok 'a hundred readers begin'
wait_for 10 parked -ge 34 || not_ok 'they wait'
check 'C01 a hundred readers of one granule cause one request' wait_for 10 requests_are crowd 1
server_get '/release?always'
waited
check_is 'C01 all of them get its bytes' '100 right' "$waiters_saw"
check_is 'C01 and it is sent once' "1 $granule" "$(requests crowd) $(sent crowd)"
server_get /release

# Two requests are on their way to the server; what is asked for meanwhile is joined.
waiters near
waiter a near --mode direct --from 0 --length 4096
waiter b near --mode direct --from $((granule * 50)) --length 4096
wait_for 10 requests_are near 2 || not_ok 'two requests are under way'
for ((i = 0; i < 16; i++)); do
	waiter $i near --mode direct --from $((granule * (100 + i))) --length 4096
done
wait_for 10 parked -eq 18 || not_ok 'eighteen readers wait'
check_is 'T41 no more than two requests go to one host at a time' 2 "$(requests near)"
server_get '/release?always'
waited
check_is 'readers of sixteen granules that follow each other get their bytes' '18 right' "$waiters_saw"
check 'with a few requests for all of them' [ "$(requests near)" -le 6 ]
check 'without a byte that nobody asked for' [ "$(sent near)" -eq $((18 * granule)) ]
server_get /release

# ---- random and sequential ---------------------------------------------------------------------

scattered() {
	local i

	for ((i = 0; i < 40; i++)); do
		spot scattered $((i * 97 % 256 * granule + i * 4096)) || return 1
	done
}
check 'forty pages at random places are read' scattered
check_is 'each costs its granule and no more' "40 $((40 * granule))" "$(requests scattered) $(sent scattered)"

reads_line() {
	dd if="$(image line)" bs=128k status=none | cmp - "$WWW/line"
}
check 'an image is read from its beginning to its end' reads_line
check 'with far fewer requests than granules' [ "$(requests line)" -le 64 ]
check_is 'and no byte is sent twice' $((64 * mib)) "$(sent line)"
check 'all that is needed to verify the whole is here: it is verified' wait_for "$VMI_PATIENCE" state_is line verified
check 'in cache/ it has a name then' cmp "$MNT/cache/line" "$WWW/line"
check 'I2 the stored file is the image' cmp "$(object_of line)" "$WWW/line"
check 'nothing of it is left in partial/' [ -z "$(find "$SITE/cache/partial" -name "$(image_hex line)*")" ]
check 'its tree stands beside it' [ -s "$(object_of line).fsv" ]
check 'it is read in all ways' reads line

# ---- sizes ----------------------------------------------------------------------------------------

for size in 1 4096 4097 262144 262145; do
	check "an image of $size bytes is read in all ways" reads "size-$size"
	check "an image of $size bytes is sent once" [ "$(sent "size-$size")" -eq "$size" ]
done
check 'a last granule that is short, and not a multiple of a page, is read alone' \
    reads odd --mode pread --from $((777777 - 5)) --length 5
check_is 'it alone is fetched' $((777777 - 2 * granule)) "$(sent odd)"
check 'in every way' reads odd

# ---- after the daemon's end --------------------------------------------------------------------

check 'a granule is read' part twice 1
check 'the daemon ends' mount_down
check 'the daemon starts' mount_up
check 'what was fetched before it ended is read' part twice 1
check_is 'without a request' 1 "$(requests twice)"
check 'so is the rest' part twice 0 4
check_is 'whose bytes are sent once' "$mib" "$(sent twice)"

# ---- what others do with a part of an image ----------------------------------------------------

raw=$(readlink -f "$(image raw)")
qcow=$(readlink -f "$(image qcow)")
few() {
	[ "$(sent "$1")" -le $(($2 * granule)) ] || { echo "$(sent "$1") bytes"; return 1; }
}
check_like 'file(1) knows a partial image for a disk' 'MBR boot sector' "$(file -L "$raw")"
# It reads 7 MiB.
check 'and little more is fetched than it reads' few raw 72
check_like 'fdisk -l finds its partition' "image1? +2048 .* Linux|$raw.*2048 .*Linux" "$(fdisk -l "$raw" 2>&1)"
check 'and little is fetched' few raw 76
check_is 'qemu-img info tells the format and size of a partial image' "qcow2 $((64 * mib))" \
    "$(qemu-img info --output=json "$qcow" | jq -r '[.format, .["virtual-size"]] | join(" ")')"
check 'and few are fetched' few qcow 8

loop_umount() {
	umount "$SITE/loop" 2>/dev/null
}
loop_mount() {
	mkdir -p "$SITE/loop"
	at_exit loop_umount
	mount -o ro,loop,noload,offset=$mib "$raw" "$SITE/loop"
}
if loop_mount 2>/dev/null; then
	check_is 'a file system in a partial image is mounted by a loop device, and read' 'hello, world' \
	    "$(cat "$SITE/loop/hello")"
	check 'and little is fetched' few raw 100
	umount "$SITE/loop"
else
	skip 'a file system in a partial image is mounted by a loop device, and read' 'no loop device'
fi
check 'the disk is still not complete' wait_for 5 state_is raw selected

overlay() {
	qemu-img create -q -f qcow2 -b "$qcow" -F qcow2 "$SITE/overlay" &&
	    qemu-io -f qcow2 -c 'write -P 7 1M 4k' -c 'read -P 7 1M 4k' -c 'read 20M 64k' "$SITE/overlay" \
		>"$SITE/said" 2>&1 && ! grep -qiE 'failed|error' "$SITE/said"
}
check 'F40 an overlay on a partial image is written and read' overlay
check 'F40 and few granules are fetched' few qcow 24

# qemu-io prints a failed read and goes on.
guest_reads() {
	local said

	said=$(timeout "$VMI_PATIENCE" qemu-io -r -f raw -t none -i "$1" -c "read $2 64k" \
	    -c "aio_read $(($2 + 3 * mib)) 4096" -c "aio_read $(($2 + 5 * mib)) 65536" -c aio_flush \
	    "$raw" 2>&1) || { echo "it ends with $?: $said"; return 1; }
	grep -q 'ops; ' <<<"$said" && ! grep -qiE 'failed|error' <<<"$said" || { echo "$said"; return 1; }
}
has_engine() {
	qemu-io -r -f raw -t none -i "$1" -c 'read 0 4096' "$WWW/raw" 2>&1 | grep -q 'ops; '
}
at=$((8 * mib))
for engine in threads native io_uring; do
	if has_engine $engine; then
		check "F40 qemu reads a partial image with cache=none and aio=$engine" guest_reads $engine $at
	else
		skip "F40 qemu reads a partial image with cache=none and aio=$engine" "qemu has no aio=$engine"
	fi
	at=$((at + 16 * mib))
done
check 'F40 the image is still a partial one' wait_for 5 state_is raw selected
# The kernel interrupts threads of io_uring that wait, because they have to start others.
guest_reads_much() {
	local round i words said

	for ((round = 0; round < 8; round++)); do
		words=()
		for ((i = 0; i < 8; i++)); do
			words+=(-c "aio_read $(((round + i * 8) * mib + 262144)) 4096")
		done
		said=$(timeout "$VMI_PATIENCE" qemu-io -r -f raw -t none -i io_uring "${words[@]}" -c aio_flush \
		    "$(readlink -f "$(image scattered)")" 2>&1) || { echo "round $round ends with $?"; return 1; }
		! grep -qiE 'failed|error' <<<"$said" || { echo "$said"; return 1; }
	done
}
if has_engine io_uring; then
	check 'F40 no read of io_uring is lost or fails, however many there are' guest_reads_much
else
	skip 'F40 no read of io_uring is lost or fails, however many there are' 'qemu has no aio=io_uring'
fi
convert() {
	rm -f "$SITE/out"
	qemu-img convert -T "$1" -f "$2" -O raw "$3" "$SITE/out" && cmp "$SITE/out" "$4"
}
check 'F40 qemu-img convert of a partial raw image gives the right bytes' convert none raw "$raw" "$WWW/raw"
check 'F40 qemu-img convert of a partial qcow2 image gives the right bytes' \
    convert writeback qcow2 "$qcow" "$WWW/line"
check 'F40 qemu-img compare finds the overlay changed' \
    bash -c "! qemu-img compare -q -f qcow2 -F raw '$SITE/overlay' '$WWW/line'"
check 'F40 what was read in parts is right as a whole' reads raw
check_is 'F40 not one byte of it was sent twice' $((64 * mib)) "$(sent raw)"

check_is 'at the end no read waits' 0 "$(status_of reads_parked)"
mount_down || not_ok 'the daemon ends'
plan_done
