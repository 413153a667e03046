#!/bin/bash
# time limit: 600 s
# The kernel is told to forget what is being read just then.  It waits for reads of pages that it is to
# drop, and reads wait for us: who tells it must never be who answers.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity python3
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

rounds=25
[ -z "${VMI_LONG:-}" ] || rounds=1000
[ -z "${VMI_NIGHTLY:-}" ] || rounds=10000

images_up fill=never stall_timeout=20s block_timeout=20s read_timeout=60s
image_disk whole ok 2
image_disk blocks ok 2
image_blocks blocks
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads whole --mode pread || bail "$oracle_said"

# Each of them until it is ended.  Of one that is cut, ESTALE (SIGBUS) is the right answer; so it is of a
# name that leads elsewhere by now, and EKEYREJECTED of an open.
: >"$SITE/going"
go_on() {
	while [ -e "$SITE/going" ]; do
		"$@" || return 1
	done
}
read_file() {
	oracle --errors ESTALE,ENOENT,EKEYREJECTED,SIGBUS --mode "$2" --seed "$3" "$(image "$1")" "$WWW/$1"
	case $oracle_word in
	right|ESTALE|ENOENT|EKEYREJECTED|SIGBUS)	return 0 ;;
	*)	echo "$1 $2: $oracle_said"; return 1 ;;
	esac
}
look() {
	ls -lR "$MNT/images" "$MNT/cache" >/dev/null 2>&1
	cat "$MNT"/images/*/{state,selected,metadata.json} "$MNT/status" >/dev/null 2>&1
	return 0
}
pids=()
for name in whole blocks; do
	for way in pread mmap direct random; do
		go_on read_file $name $way ${#pids[@]} >"$SITE/said.$name-$way" 2>&1 &
		pids+=($!)
	done
done
go_on look &
pids+=($!)
at_exit rm -f "$SITE/going"

# Each round takes the trust from both images, and gives it back: their pages are dropped, their names
# looked up again.  A command returns when the kernel has been told all.
slowest=0 failed=
for ((i = 0; i < rounds; i++)); do
	for verb in unlink link; do
		timed timeout 60 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q endorser $verb alice a-list >"$SITE/said" 2>&1 </dev/null ||
		    { failed="round $i: endorser $verb: $(<"$SITE/said")"; break 2; }
		[ "$took" -le "$slowest" ] || slowest=$took
	done
done
check_is "C12 in $rounds rounds of invalidation under readers no command waits for ever" '' "$failed"
note "slowest command: $slowest ms"
check 'C12 nor for longer than any read could take' test "$slowest" -le 20000
rm -f "$SITE/going"
all_ended() {
	local pid

	for pid in "${pids[@]}"; do
		! kill -0 "$pid" 2>/dev/null || return 1
	done
}
check 'C12 all readers end' wait_for 90 all_ended
check_is 'C12 none of them has seen a wrong byte' '' "$(cat "$SITE"/said.whole-* "$SITE"/said.blocks-*)"
check 'C12 what is trusted again is read' wait_for 20 reads whole --mode pread
check 'C12 no read is left' wait_for 30 parked -eq 0

# ---- a listing over a change ------------------------------------------------------------------------------

# The entries of a directory, then, when it has changed, what follows them.
list_over_a_change() {
	coproc LISTER { python3 -c '
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(1 << 16)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
print(libc.syscall(217, fd, room, len(room)) > 0, flush=True)
sys.stdin.readline()
print(libc.syscall(217, fd, room, len(room)), flush=True)
' "$MNT/images"; }
	read -r begun <&"${LISTER[0]}" && [ "$begun" = True ] || return 1
	image_disk later ok 1 && images_update || return 1
	wait_for "$VMI_PATIENCE" test -d "$MNT/images/later" || return 1
	ls "$MNT/images" >/dev/null
	echo >&"${LISTER[1]}"
	read -r rest <&"${LISTER[0]}"
	[ "$rest" = 0 ] || { echo "$rest bytes of another version follow"; return 1; }
}
check 'C06 after the last entry of a listing comes nothing, though others have come meanwhile' list_over_a_change
plan_done
