#!/bin/bash
# A reader that waits for an image stands in nobody's way, can be killed, and waits no longer than it
# was told to.
#
# Limits: what must not wait has 500 ms (it needs some 5 ms); a killed reader has 1 s.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

images_up read_timeout=2s stall_timeout=600s
mib=1048576
image_add stalled stall:50 $((16 * mib))
image_add late stall:50
image_add never silent
image_add kept ok
image_add cold ok
image_add other ok
image_add parting silent
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads kept --mode pread || bail "$oracle_said"

n_parked() {
	sed -n 's/^reads_parked: //p' "$MNT/status"
}

parked() {
	test "$(n_parked)" "$@"
}

set_read_timeout() {
	sed -i "s/^read_timeout = .*/read_timeout = $1/" "$CONF"
	ctl -q reload
}

# ---- read_timeout --------------------------------------------------------------------------------

# waits_out WAY ERRNO: a reader ends with it, after two seconds but not after thirty.
waits_out() {
	timed fails never "$2" --mode "$1" || return 1
	[ "$took" -ge 1900 ] && [ "$took" -lt 30000 ] || { echo "after $took ms"; return 1; }
}

check 'a buffered read waits read_timeout and is ETIMEDOUT' waits_out pread ETIMEDOUT
check 'so is an O_DIRECT read' waits_out direct ETIMEDOUT
# The kernel asks again for each page that its read-ahead did not get.
waits_once() {
	set_read_timeout 8s && timed fails never "$2" --mode "$1" && set_read_timeout 2s || return 1
	[ "$took" -lt 14000 ] || { echo "after $took ms"; return 1; }
}
check 'P06 a buffered read waits once' waits_once pread ETIMEDOUT
check 'a mapping gets SIGBUS then' waits_out mmap SIGBUS
leaves_no_wait() {
	wait_in orphan pread never
	wait_for 10 parked -ge 1 || { echo 'it does not wait'; return 1; }
	kill -KILL "$reader"
	wait_for 30 parked -eq 0
}
check 'P06 of a killed buffered reader nothing is left after read_timeout' leaves_no_wait
check_is 'the transfer goes on all the same' fetching "$(said_of never state)"
check_is 'it is still the first one' 1 "$(requests never)"
server_get /release
check 'and its bytes are there in the end' wait_for 10 state_is never verified
check 'a reader gets them' reads never

check 'read_timeout is set while the daemon runs' set_read_timeout 0
check 'with read_timeout 0 a read of what is not there is EAGAIN at once' \
    within 500 fails late EAGAIN
fetching() {
	[ "$(requests "$1")" -eq 1 ] && state_is "$1" fetching
}
check 'but the image is fetched' wait_for 10 fetching late
server_get /release
check 'so that a later read finds it' wait_for 10 reads late --mode pread
check 'read_timeout is set again' set_read_timeout 600s

leaves_at_once() {
	wait_for 10 parked -eq 0 || { echo 'others wait'; return 1; }
	wait_in leaves direct stalled
	wait_for 10 parked -eq 1 || { echo 'it does not wait'; return 1; }
	kill -KILL "$reader"
	wait_for 10 parked -eq 0
}
check 'P06 of a killed O_DIRECT reader nothing is left at once' leaves_at_once

# ---- readers that wait, and the rest ---------------------------------------------------------------

begun() {
	[ "$(find "$SITE" -maxdepth 1 -name "started.$1*" | wc -l)" -ge "$2" ]
}

ways=(random direct mmap random)
readers=()
for i in {1..64}; do
	wait_in "many-$i" "${ways[i % 4]}" stalled
	readers+=("$reader")
	at_exit kill -KILL "$reader"
done
wait_for "$VMI_PATIENCE" begun many- 64 || not_ok '64 readers begin'
# The kernel asks once for pages that several of them want; 12 is what it has in flight unless told
# otherwise.
wait_for 10 parked -ge 40 || not_ok 'they wait'

check 'C02 while 64 readers wait, ls -lR answers at once' within 500 ls -lR "$MNT"
check 'C02 so does find' within 500 find "$MNT" -newer "$CONF"
check 'C02 so does df' within 500 df "$MNT"
check 'C02 so does stat of the very image' within 500 stat -L "$(image stalled)"
check 'C02 so does open of it' within 500 sh -c ": <$(image stalled)"
check 'C02 so does the metadata' within 500 cat "$MNT"/images/*/{title,state,progress} "$MNT/status"
check 'C02 a verified image is read in every way at once' within 500 reads kept
check 'C02 an image that is not there yet is fetched and read at once' \
    within 500 reads cold --mode pread
check 'C02 so is one that is read with O_DIRECT' within 500 reads other --mode direct
check 'C02 the command line answers' within 1000 ctl status
all_wait() {
	kill -0 "${readers[@]}"
}
check 'C02 the 64 still wait' all_wait

# ---- killing them --------------------------------------------------------------------------------------

# ends SIGNAL WAY: a waiting reader is gone a second after the signal.
ends() {
	wait_in "$2-$1" "$2" stalled
	wait_for 10 [ -e "$SITE/started.$2-$1" ] || { echo 'it does not begin'; return 1; }
	# Asleep in the kernel: in the read.
	wait_for 10 grep -q '^State:[[:space:]]*[SD]' "/proc/$reader/status"
	kill "-$1" "$reader"
	timed wait_for 10 is_gone "$reader" || {
		cat "/proc/$reader/status"
		kill -KILL "$reader"
		return 1
	}
	[ "$took" -le 1000 ] || { echo "after $took ms"; return 1; }
}

for way in pread direct mmap; do
	for signal in KILL TERM INT; do
		check "P06 a reader that waits ($way) is gone at once after $signal" ends "$signal" "$way"
	done
done

# dd catches USR1, says how far it is, and goes on reading.
dd if="$(image stalled)" of="$SITE/copy" bs=64k iflag=direct 2>"$SITE/dd" </dev/null &
dd=$!
at_exit kill -KILL "$dd"
dd_waits() {
	grep -q '^State:[[:space:]]*[SD]' "/proc/$dd/status" &&
	    [ $((0x$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$dd/status") & 1 << $(kill -l USR1) - 1)) -ne 0 ]
}
wait_for 10 dd_waits || not_ok 'dd waits'
kill -USR1 "$dd"
check 'P06 an O_DIRECT reader that catches a signal hears it while it waits' \
    wait_for 1 grep -q 'records in' "$SITE/dd"

killed_all() {
	local pid

	kill -KILL "${readers[@]}"
	for pid in "${readers[@]}"; do
		wait_for 10 is_gone "$pid" || return 1
	done
}
# The shell would tell of each of them.
{
	check 'P06 64 waiting readers are gone at once after KILL' within 5000 killed_all
	wait "${readers[@]}"
} 2>/dev/null
check 'C02 and the tree answers as before' within 500 ls -lR "$MNT"

# ---- what is left of them --------------------------------------------------------------------------

# O_DIRECT readers are taken off the list when they are killed; dd is the one that still waits.
check 'dd goes on waiting' kill -0 "$dd"
server_get /release
wait "$dd"
check 'P06 and it reads every byte right' cmp "$SITE/copy" "$WWW/stalled"
check 'P06 no waiting read is left when the image has come' wait_for 10 parked -eq 0
check 'the image that stalled is read' reads stalled
check 'C01 it was fetched once, whatever happened to its readers' [ "$(requests stalled)" -eq 1 ]
wait_in parting direct parting
at_exit kill -KILL "$reader"
wait_for 10 parked -eq 1 || not_ok 'a reader waits'
check 'P04 TERM ends the daemon at once, although a reader waits' within 5000 mount_down
wait "$reader"
check_like 'P04 who is told' ': (ENOTCONN|ECONNABORTED)$' "$(cat "$SITE/said.parting")"
plan_done
