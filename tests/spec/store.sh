#!/bin/bash
# time limit: 240 s
#
# The cache on a disk that is full, that fails, or whose files are changed behind our back: readers get
# the right bytes or a clear errno, what cannot be trusted is fetched again, and everything works
# again as soon as the disk does.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl jq mkfs.ext4 setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

mib=1048576

# ---- helpers -----------------------------------------------------------------------------------------

# disk_up TYPE SIZE_MIB [OPTIONS]: cache_dir comes to lie on a small file system of its own, $DISK.
disk_up() {
	DISK=$SITE/disk
	mkdir "$DISK"
	if [ "$1" = tmpfs ]; then
		mount -t tmpfs -o "size=${2}m,$3" tmpfs "$DISK" 2>/dev/null || return 1
	else
		truncate -s "${2}M" "$SITE/disk.img"
		"mkfs.$1" -q -F -m 0 "$SITE/disk.img" && mount -o loop "$SITE/disk.img" "$DISK" 2>/dev/null ||
		    return 1
	fi
	at_exit umount -l "$DISK"
	sed -i "s|^cache_dir = .*|cache_dir = $DISK/cache|" "$CONF"
}

# Leaves about so many MiB on $DISK.
fill_disk() {
	local free

	free=$(df --output=avail -BK "$DISK" | tail -n 1 | tr -dc 0-9)
	head -c $(((free - $1 * 1024) * 1024)) /dev/zero >"$DISK/filler"
}

error_has() {
	said_of "$1" error | grep -q "$2"
}

# Once the fault is gone: a failed try is not repeated within two seconds.
reads_again() {
	wait_for $((VMI_PATIENCE + 10)) reads "$1" --mode pread
}

exit_status_of() {
	local status=0

	"$@" >/dev/null 2>&1 </dev/null || status=$?
	echo "$status"
}

# shimmed NAME=VALUE...: a daemon with faults; they strike only while $SITE/armed is there.
shimmed() {
	rm -f "$SITE/armed"
	: >"$LOG"
	VMI_WRAP="env LD_PRELOAD=$SHIM_SO SHIM_PROGRAM=vmimagefs SHIM_ARMED=$SITE/armed $*" mount_up ||
	    bail "no mount with $*: $(tail -n 3 "$LOG")"
}

arm() {
	: >"$SITE/armed"
}

disarm() {
	rm -f "$SITE/armed"
}

# Readers are answered before the disk has everything.
no_partials() {
	[ -z "$(ls "$1/partial")" ]
}

quarantined() {
	find "$SITE/cache/quarantine" "$SITE/cache"/lost+found* -mindepth 1 -maxdepth 1 -name "*$1*" | wc -l
}

object_is_whole() {
	[ -f "$(object_of "$1")" ] && cmp -s "$(object_of "$1")" "$WWW/$1"
}

# ---- a full disk ----------------------------------------------------------------------------------------

full_disk() {
	images_up
	disk_up ext4 40 '' || { skip 'B01 a full disk is ENOSPC to the reader' 'no loop device'; return; }
	image_add big ok $((12 * mib))
	image_add small ok
	image_add other ok
	images_subscribe
	mount_up || bail 'no mount'
	check 'B01 an image is fetched while there is room' reads small --mode pread
	fill_disk 6
	check 'B01 a full disk is ENOSPC to the reader' fails big ENOSPC
	check 'B01 the error file says what is full' error_has big 'no room'
	check_is 'B01 the refusal has code 52' 52 \
	    "$(ctl --json events >/dev/null; ctl --json fetch big 2>/dev/null | jq -r '.images[0].code')"
	check_is 'B01 fetch ends with status 8' 8 "$(exit_status_of ctl fetch big)"
	check_is 'B01 not a byte was asked for' 0 "$(requests big)"
	check 'B01 images in the cache are read as before' reads small --mode random
	check 'B01 an image that fits is fetched' reads other --mode pread
	check 'B01 nothing is left of the failed one' wait_for "$VMI_PATIENCE" no_partials "$DISK/cache"
	rm "$DISK/filler"
	check 'B01 with room again the image is fetched, without a restart' reads_again big
	mount_down
}

# Without fallocate() nothing can be reserved, and the disk fills up on the way.
full_on_the_way() {
	images_up
	disk_up ext2 40 '' || { skip 'B02 a disk that fills up on the way is ENOSPC' 'no loop device'; return; }
	image_add big once-stall:50 $((12 * mib))
	image_add small ok
	images_subscribe
	mount_up || bail 'no mount'
	(fails big ENOSPC >"$SITE/big.said" 2>&1; echo $? >"$SITE/big.status") &
	half_there() {
		[ "$(sent big)" -ge $((5 * mib)) ]
	}
	wait_for "$VMI_PATIENCE" half_there || bail 'the image does not come'
	fill_disk 2 2>/dev/null
	server_get /release >/dev/null
	wait_for "$VMI_PATIENCE" test -s "$SITE/big.status"
	check_is 'B02 a disk that fills up on the way is ENOSPC to the reader' 0 \
	    "$(<"$SITE/big.status")$(<"$SITE/big.said")"
	check_like 'B02 the error file says so' 'No space left|no room' "$(said_of big error)"
	check 'B02 an image that fits is fetched' reads small --mode pread
	rm "$DISK/filler"
	check 'B02 with room again the image is fetched, without a restart' reads_again big
	mount_down
}

no_inodes() {
	local i

	images_up
	disk_up tmpfs 32 nr_inodes=64 || { skip 'B03 a disk without inodes is ENOSPC' 'no tmpfs'; return; }
	image_add one ok
	image_add two ok
	images_subscribe
	mount_up || bail 'no mount'
	check 'B03 an image is fetched while there are inodes' reads one --mode pread
	# Readers are answered before it has its name and its tree, which need inodes.
	wait_for "$VMI_PATIENCE" state_is one verified || bail 'the image does not become one'
	for ((i = 0; i < 64; i++)); do
		: >"$DISK/filler.$i" || break
	done 2>/dev/null
	check 'B03 a disk without inodes is ENOSPC to the reader' fails two ENOSPC
	check_is 'B03 fetch ends with status 8' 8 "$(exit_status_of ctl fetch two)"
	check 'B03 images in the cache are read as before' reads one --mode random
	rm -f "$DISK"/filler.*
	check 'B03 with inodes again the image is fetched, without a restart' reads_again two
	mount_down
}

full_disk
full_on_the_way
no_inodes

# ---- a disk that fails: the daemon with shim.so ---------------------------------------------------------

if [ -n "${VMI_SANITIZE:-}" ] || [ ! -e "${SHIM_SO:=$(dirname "$hostile")/shim.so}" ]; then
	skip 'B04 B05 B06 B07 B08 a disk that fails' 'shim.so and sanitizers do not go together'
else
	images_up
	for name in quota-1 quota-2 write-1 sync-1 row tree short read-1 read-2 read-3 plain; do
		image_add "$name" ok
	done
	images_subscribe
	partial=/partial/

	shimmed SHIM_FAIL=fallocate:*:EDQUOT "SHIM_PATH=$partial"
	arm
	check 'B04 a quota that is used up is EDQUOT or ENOSPC to the reader' fails quota-1 ENOSPC
	check_is 'B04 and code 52' 52 "$(ctl --json fetch quota-1 2>/dev/null | jq -r '.images[0].code')"
	disarm
	check 'B04 with quota again the image is fetched' reads_again quota-1
	mount_down

	# A read of the page cache whose readahead failed asks the daemon once more, on a busy machine so late
	# that this is a new try: a fault that has gone by then is nobody's error.
	shimmed SHIM_FAIL=pwrite:2+:EDQUOT "SHIM_PATH=$partial"
	arm
	check 'B04 a quota that is used up on the way is ENOSPC to the reader' fails quota-2 ENOSPC
	disarm
	check 'B04 the next try has all bytes' reads_again quota-2
	mount_down

	shimmed SHIM_FAIL=pwrite:2+:EIO "SHIM_PATH=$partial"
	arm
	check 'B05 a write error is EIO to the reader' fails write-1 EIO
	check 'B05 nothing is left of the image' wait_for "$VMI_PATIENCE" no_partials "$SITE/cache"
	disarm
	check 'B05 the next try has all bytes' reads_again write-1
	mount_down

	shimmed SHIM_FAIL=fdatasync:1:EIO "SHIM_PATH=$partial"
	arm
	oracle --mode pread "$(image sync-1)" "$WWW/sync-1"
	check_like 'B06 who reads while the disk fails to sync gets right bytes or EIO' '^(right|EIO)$' "$oracle_word"
	check 'B06 the image is not available' wait_for "$VMI_PATIENCE" state_is sync-1 failed
	check_not 'B06 its bytes are not kept' test -e "$(object_of sync-1)"
	check 'B06 nor half of them' wait_for "$VMI_PATIENCE" no_partials "$SITE/cache"
	check 'B06 it is fetched again, whole' reads_again sync-1
	check_is 'B06 with a second request' 2 "$(requests sync-1)"
	check 'B06 and stays' wait_for "$VMI_PATIENCE" state_is sync-1 verified
	mount_down

	# The state directory is full when the image has come.
	shimmed SHIM_FAIL=xwrite:*:SQLITE_FULL SHIM_PATH=catalogue.db
	arm
	check 'B34 an image is read although nothing can be written to the catalogue' reads row
	row_refused_twice() {
		[ "$(grep -c "$(basename "$(object_of row)"): catalogue: no room" "$LOG")" -ge 2 ]
	}
	check 'B34 its row is tried again' wait_for "$VMI_PATIENCE" row_refused_twice
	disarm
	check 'B34 and written as soon as it can be' wait_for "$VMI_PATIENCE" state_is row verified
	check_is 'B34 nothing was fetched a second time' 1 "$(requests row)"
	check_is 'B34 nor is anything in quarantine' 0 "$(quarantined "$(basename "$(object_of row)")")"
	mount_down

	shimmed SHIM_FAIL=write:*:ENOSPC,pwrite:*:ENOSPC SHIM_PATH=.fsv
	arm
	check 'B02 an image is read although there is no room for its tree' reads tree
	check 'B02 and stored' wait_for "$VMI_PATIENCE" state_is tree verified
	check_not 'B02 without the tree' test -e "$(object_of tree).fsv"
	disarm
	mount_down
	mount_up || bail 'no mount'
	check 'B02 it is read by the next worker, too' reads tree --mode pread
	check_is 'B02 nothing was fetched a second time' 1 "$(requests tree)"
	check 'B02 and the tree is there' wait_for "$VMI_PATIENCE" test -e "$(object_of tree).fsv"
	mount_down

	shimmed SHIM_SHORT=read,pread,write,pwrite SHIM_EINTR=open,read,pread,write,pwrite,fsync,fdatasync,ftruncate,fallocate \
	    "SHIM_PATH=$SITE/cache"
	arm
	check 'B08 short and interrupted calls change nothing' reads short
	check 'B08 nor do they in what is stored' wait_for "$VMI_PATIENCE" object_is_whole short
	mount_down

	# -- reading what is stored --
	mount_up || bail 'no mount'
	for name in read-1 read-2 read-3 plain; do
		reads "$name" --mode pread >/dev/null || bail "cannot read $name"
	done
	mount_down
	block() {
		dd if="$(image "$1")" bs=4096 skip="$2" count=1 iflag=direct status=none
	}
	is_block() {
		cmp <(block "$1" "$2") <(dd if="$WWW/$1" bs=4096 skip="$2" count=1 status=none)
	}

	shimmed SHIM_FAIL=pread:1:EIO SHIM_PATH=/objects/
	arm
	check 'B07 a read error that goes away is not seen' is_block read-1 3
	check_is 'B07 and nothing is fetched' 1 "$(requests read-1)"
	mount_down

	# Of one that is open: its tree has been read.  Twice by the reader, twice before a request is
	# made, and once for quarantine.
	shimmed SHIM_FAIL="$(for n in 1 2 3 4 5; do printf 'pread:%s:EIO,' "$n"; done | sed 's/,$//')" \
	    SHIM_PATH=/objects/
	exec 8<"$(image read-2)"
	arm
	check 'B07 a block that cannot be read is healed from the network' is_block read-2 3
	check_is 'B07 by fetching what covers it again' 2 "$(requests read-2)"
	check 'B07 the image is whole again' wait_for "$VMI_PATIENCE" object_is_whole read-2
	check 'B07 and verified' wait_for "$VMI_PATIENCE" state_is read-2 verified
	exec 8<&-
	mount_down

	shimmed SHIM_FAIL="$(for n in 1 2 3 4 5; do printf 'pread:%s:EIO,' "$n"; done | sed 's/,$//')" \
	    SHIM_PATH=/objects/
	images_server_stop "$SERVER_PID"
	exec 8<"$(image read-3)"
	arm
	tap_run block read-3 3
	check_like 'B07 without the network it is EIO' 'Input/output error' "$tap_said"
	check 'B07 when the disk reads it after all, so do readers' is_block read-3 3
	check 'B07 for that block alone' is_block read-3 4
	check 'B07 and the image is kept' object_is_whole read-3
	exec 8<&-
	mount_down
fi

# ---- files that were changed behind our back ----------------------------------------------------------------

images_up
for name in truncated emptied extended deleted directory fifo device link held larger other-bytes foreign \
    fetched got; do
	image_add "$name" ok
done
images_subscribe
mount_up || bail 'no mount'

spoil() {
	local object

	object=$(object_of "$1")
	case $1 in
	truncated)	truncate -s 1000 "$object" ;;
	emptied)	: >"$object" ;;
	extended)	head -c 10 /dev/urandom >>"$object" ;;
	deleted)	rm "$object" ;;
	directory)	rm "$object" && mkdir "$object" && chown nobody:nogroup "$object" ;;
	fifo)		rm "$object" && mkfifo "$object" ;;
	device)		rm "$object" && mknod "$object" c 1 5 ;;
	link)		mv "$object" "$SITE/moved" && ln -s "$SITE/moved" "$object" ;;
	esac
}

spoiled_and_read() {
	reads "$1" --mode pread || return 1
	wait_for "$VMI_PATIENCE" state_is "$1" verified || return 1
	spoil "$1" || return 1
	timeout 20 "$oracle_program" "$(image "$1")" "$WWW/$1" || { echo "a reader got: $?"; return 1; }
	wait_for "$VMI_PATIENCE" object_is_whole "$1" || { echo 'it is not whole again'; return 1; }
	[ "$(requests "$1")" -eq 2 ] || { echo "$(requests "$1") requests"; return 1; }
}

check 'B10 a stored file that was cut short is noticed when it is opened, and fetched again' \
    spoiled_and_read truncated
check 'B10 so is one that is empty' spoiled_and_read emptied
check 'B11 a stored file that has grown is noticed and fetched again' spoiled_and_read extended
check 'B12 a stored file that is gone is fetched again' spoiled_and_read deleted
check 'B12 the log says that it is gone' \
    grep "$(basename "$(object_of deleted)").*not in the cache directory" "$LOG"
check_not 'B12 and not that anything was moved' \
    grep "$(basename "$(object_of deleted)").*moved to quarantine" "$LOG"
check 'B13 a directory in its place is put aside, and the image fetched again' spoiled_and_read directory
check 'B13 a FIFO in its place holds nobody up' spoiled_and_read fifo
check 'B13 a device in its place is not opened' spoiled_and_read device
check 'B13 a symbolic link in its place is not followed' spoiled_and_read link
gone_and() {
	reads "$1" --mode pread && wait_for "$VMI_PATIENCE" state_is "$1" verified && rm "$(object_of "$1")"
}
gone_and fetched && gone_and got || bail 'no images'
check_like 'B12 fetch notices that a stored file is gone' "'fetched' fetched and verified" "$(ctl fetch fetched)"
check 'B12 and has it fetched again' object_is_whole fetched
check 'B12 get has what is gone fetched again' ctl -q get got "$SITE/got"
check 'B12 and copies it' cmp "$SITE/got" "$WWW/got"
check_is 'B10 B11 what was in the way is kept' 3 \
    "$(for name in truncated emptied extended; do quarantined "$(basename "$(object_of $name)")"; done | awk '{ n += $1 } END { print n }')"

held_open() {
	local status=0

	reads held --mode pread || return 1
	wait_for "$VMI_PATIENCE" state_is held verified || return 1
	exec 8<"$(image held)"
	truncate -s 5000 "$(object_of held)"
	dd if=/dev/fd/8 bs=4096 skip=200 count=1 iflag=direct status=none >"$SITE/block" 2>"$SITE/said" || status=1
	exec 8<&-
	cat "$SITE/said"
	[ "$status" -eq 0 ] && cmp "$SITE/block" <(dd if="$WWW/held" bs=4096 skip=200 count=1 status=none)
}
check 'B10 a file that is cut short while it is open is healed, too' held_open
mount_down

# The same while nobody looks.
for name in truncated deleted directory fifo; do
	spoil "$name"
done
check 'B10 B12 B13 a start over spoiled files is a start' mount_up
all_read() {
	for name in truncated deleted directory fifo extended; do
		reads "$name" --mode pread || return 1
	done
}
check 'B10 B12 B13 and all images are read, with every byte right' all_read

# ---- partial files --------------------------------------------------------------------------------------

partial_of() {
	echo "$SITE/cache/partial/$(basename "$(object_of "$1")")"
}

put_partial() {
	install -o nobody -g nogroup -m 0640 /dev/stdin "$(partial_of "$1")"
}

head -c $((2 * mib)) /dev/urandom | put_partial larger
check 'B25 a partial file larger than the image is dropped' reads larger --mode pread
head -c 500000 "$WWW/extended" | put_partial foreign
check 'B25 a partial file of another image is dropped' reads foreign --mode pread
head -c $mib /dev/urandom | put_partial other-bytes
check 'B25 a partial file as long as the image, but wrong, is dropped' reads other-bytes --mode pread
check 'B25 no partial file is left' wait_for "$VMI_PATIENCE" no_partials "$SITE/cache"
check 'I11 verify finds nothing wrong' ctl verify --deep
mount_down

# A stream that was cut when its list went.
images_up
image_add left stall:50
images_subscribe
mount_up || bail 'no mount'
cat "$(image left)" >/dev/null 2>&1 &
reader=$!
is_begun() {
	[ -s "$(partial_of left)" ]
}
wait_for "$VMI_PATIENCE" is_begun || bail 'the image does not come'
kill "$reader"
mount_down
check 'A04 a list is unsubscribed while one of its images is here in part' ctl -q unsubscribe "$SERVER/ok/list"
check 'B25 the next start is a start' mount_up
check 'B25 and clears the part away' wait_for "$VMI_PATIENCE" no_partials "$SITE/cache"
check_is 'B25 to nowhere' 0 "$(quarantined "$(basename "$(partial_of left)")")"
mount_down

plan_done
