#!/bin/bash
# time limit: 240 s
#
# The store when the power goes: everything that it writes is recorded, and every disk that a cut could
# have left is mounted and looked at.  The disk is a file behind lib/recorder and a loop device, with
# ext4 on it; lib/powercut does what a daemon does with a store (commits a stream, commits a file in block
# mode, heals, makes a tree anew, removes), and looks at what is left.
#
# VMI_POWERCUT_SECONDS: how long cuts are tried (20; 600 with --nightly).

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/ownmounts.sh"
. "$here/../lib/tap.sh"
need root fuse mkfs.ext4 losetup
VMIMAGEFS_BUILD=${VMIMAGEFS_BUILD:-$here/../../.build}
powercut=$VMIMAGEFS_BUILD/tests/lib/powercut
recorder=$VMIMAGEFS_BUILD/tests/lib/recorder
[ -x "$powercut" ] && [ -x "$recorder" ] || bail "there is no powercut in $VMIMAGEFS_BUILD/tests/lib"

seconds=20
[ -z "${VMI_LONG:-}" ] || seconds=90
[ -z "${VMI_NIGHTLY:-}" ] || seconds=600
seconds=${VMI_POWERCUT_SECONDS:-$seconds}

dir=$(mktemp -d) || bail 'mktemp failed'
at_exit rm -rf "$dir"
mkdir "$dir/rec" "$dir/mnt" "$dir/replay"

# Mounts an image, or a file that is one: a loop device on it.
disk_up() {
	mount -o loop,noatime "$1" "$dir/mnt"
}

# A store with two images on a disk that is whole.
make_base() {
	truncate -s 24M "$dir/base.img" &&
	    mkfs.ext4 -q -F -m 0 -J size=4 -E lazy_itable_init=0,lazy_journal_init=0 "$dir/base.img" || return 1
	disk_up "$dir/base.img" || skip_all 'there is no loop device'
	at_exit umount -l "$dir/mnt"
	"$powercut" setup "$dir/mnt/cache" && umount "$dir/mnt"
}

# record VERB LOG: what powercut VERB does to a copy of the disk.
record() {
	local pid status=0

	cp "$dir/base.img" "$dir/live.img"
	"$recorder" "$dir/live.img" "$2" "$dir/rec" &
	pid=$!
	at_exit umount -l "$dir/rec"
	wait_for "${VMI_PATIENCE:-15}" test -e "$dir/rec/disk" || return 1
	disk_up "$dir/rec/disk" || return 1
	"$powercut" "$1" "$dir/mnt/cache" "$dir/rec/mark" || status=1
	umount "$dir/mnt" && umount "$dir/rec" && wait "$pid" || status=1
	return $status
}

# replay LOG SECONDS: found KIND is then how often that went wrong.
replay() {
	"$powercut" replay "$dir/base.img" "$1" "$dir/replay" "$2" >"$dir/said"
	case $? in
	0)	grep '^#' "$dir/said" || : ;;
	77)	skip_all 'there is no loop device' ;;
	*)	bail "powercut replay ended early: $(tail -n 3 "$dir/said")" ;;
	esac
}

found() {
	sed -n "s/^$1 //p" "$dir/said"
}

make_base || bail 'no disk to begin with'
record act "$dir/log" || bail 'nothing was recorded'
replay "$dir/log" "$seconds"
note "$(found cuts) cuts"
check 'the power is cut after every write, and more' test "$(found cuts)" -gt "$(found writes)"
check_is 'P03 after a power cut the file system can be mounted' 0 "$(found mount)"
check_is 'P03 no power cut makes a wrong byte readable' 0 "$(found bytes)"
check_is 'P03 what was said to be done is done after a power cut' 0 "$(found kept)"
check_is 'P03 an image is in the store with its good tree, or not at all' 0 "$(found tree)"
check_is 'P03 nothing that a power cut left looks as if it were not ours' 0 "$(found lost)"
check_is 'P03 what a power cut left in the middle can be completed' 0 "$(found goes-on)"

# The same without any fsync: if nothing were found then, all of the above would say nothing.
record careless "$dir/careless" || bail 'nothing was recorded'
replay "$dir/careless" 0 >/dev/null
check 'a store that does not sync would be found out' test "$(found kept)" -gt 0

plan_done
