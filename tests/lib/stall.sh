# stall.sh - a disk that stops answering when it is told to (tests/lib/stall), below a site.
#
# A bash library: source it after mount.sh.
#
#   stall_disk DIR MIB     an ext4 of that size on such a disk, mounted on DIR
#   stall_begin            from now on it answers nothing
#   stall_end              it answers all that waits, and what comes
#   stall_forget FILE...   nothing of the files is in memory any more

stall_program=$VMIMAGEFS_BUILD/tests/lib/stall
[ -x "$stall_program" ] || stall_program=$tests_dir/../.build/tests/lib/stall
stall_pid=

# What waits for it would wait for ever.
stall_gone() {
	kill -KILL "$stall_pid"
	umount -l "$1"
	umount -l "$2"
	rm -rf --one-file-system "$3"
}

stall_disk() {
	local work

	need mkfs.ext4 losetup
	[ -x "$stall_program" ] || skip_all 'tests/lib/stall is not built'
	work=$(mktemp -d "${TMPDIR:-/tmp}/vmimagefs-stall.XXXXXX") || bail 'mktemp failed'
	mkdir -p "$1" "$work/disk"
	truncate -s "$2M" "$work/image"
	mkfs.ext4 -q -F -m 0 -E lazy_itable_init=0,lazy_journal_init=0 "$work/image" || bail 'no file system'
	"$stall_program" "$work/image" "$work/disk" </dev/null &
	stall_pid=$!
	at_exit stall_gone "$1" "$work/disk" "$work"
	wait_for "$VMI_PATIENCE" test -e "$work/disk/disk" || bail 'the disk does not come'
	mount -o loop,noatime "$work/disk/disk" "$1" 2>/dev/null || skip_all 'there is no loop device'
}

stall_begin() {
	kill -USR1 "$stall_pid"
}

stall_end() {
	kill -USR2 "$stall_pid"
}

stall_forget() {
	local file

	for file; do
		dd of="$file" oflag=nocache conv=notrunc,fdatasync count=0 status=none || return 1
	done
}
