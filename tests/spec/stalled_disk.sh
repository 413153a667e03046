#!/bin/bash
# time limit: 240 s
# A disk that stops answering: everything that needs it no more than for old bytes goes on, what needs it
# ends in time, and when it answers again nothing has happened.
#
# The disk holds both the cache and the state.  While it is stalled a limit for what should come at once
# is 2 s (it needs some 5 ms).

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/stall.sh"

images_up read_timeout=4s block_timeout=4s
stall_disk "$SITE/disk" 96
sed -i "s|^cache_dir = .*|cache_dir = $SITE/disk/cache|; s|^state_dir = .*|state_dir = $SITE/disk/state|" "$CONF"
mib=1048576
object_of() {
	local hex

	hex=$(image_hex "$1")
	printf '%s\n' "$SITE/disk/cache/objects/${hex:0:2}/$hex"
}
image_add cold ok $((8 * mib))
image_add warm ok $((2 * mib))
image_add shut ok $((2 * mib))
image_add fresh ok $mib
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for name in cold warm shut; do
	reads "$name" --mode pread || bail "$oracle_said"
done
worker=$(daemon_pid worker)

figure() {
	sed -n "s/^$1: //p" "$MNT/status"
}

# figure_is NAME TEST...
figure_is() {
	local name=$1

	shift
	test "$(figure "$name")" "$@"
}

n_threads() {
	sed -n 's/^Threads:[[:space:]]*//p' "/proc/$worker/status"
}

all_gone() {
	local pid

	for pid; do
		is_gone "$pid" || return 1
	done
}

# ---- the disk stops ------------------------------------------------------------------------------------

# Warm: the page cache of the mount forgets it for each read of the oracle, that of the disk does not.
exec {held}<"$(image cold)"
list=$(echo "$MNT"/subscriptions/*/list.smime)
cat "$list" >/dev/null
reads warm --mode pread || bail "$oracle_said"
sync -f "$SITE/disk"
stall_forget "$(object_of cold)" "$(object_of shut)" "$(object_of shut).fsv" || bail 'pages stay'
threads=$(n_threads)
stall_begin
# The kernel has readers of one page wait for each other, and each of them has its full time: when all
# is to be over is known of O_DIRECT alone.
readers=() direct=()
ways=(random direct mmap pread)
for i in {1..64}; do
	wait_in "many-$i" "${ways[i % 4]}" cold
	readers+=("$reader")
	[ $((i % 4)) -ne 1 ] || direct+=("$reader")
	at_exit kill -KILL "$reader"
done
begun() {
	[ "$(find "$SITE" -maxdepth 1 -name 'started.many-*' | wc -l)" -ge 64 ]
}
wait_for "$VMI_PATIENCE" begun || not_ok '64 readers begin'
check 'B36 reads of what is not in memory wait for a disk that does not answer' \
    wait_for 3 figure_is reads_at_disk -ge 6
check 'B36 meanwhile ls -lR answers' within 2000 ls -lR "$MNT"
check 'B36 so does find' within 2000 find "$MNT" -newer "$CONF"
check 'B36 so does df' within 2000 df "$MNT"
check 'B36 so does stat of the very image' within 2000 stat -L "$(image cold)"
check 'B36 so does open of it' within 2000 sh -c ": <$(image cold)"
check 'B36 so do xattrs' within 2000 getfattr -d -m - "$(image warm)"
check 'B36 so does the metadata' within 2000 sh -c "cat $MNT/images/*/title $MNT/images/*/state $MNT/status"
check 'B36 so does a list that was read before' within 2000 cat "$list"
check 'B36 an image in memory is read' within 2000 "$oracle_program" --mode pread,random,direct \
    "$(image warm)" "$WWW/warm"
check 'B36 the status is shown' within 2000 cat "$MNT/status"
check 'B36 no thread is made for those that wait' test "$(n_threads)" -le "$threads"

# ends SIGNAL WAY: a reader that waits for the disk is gone a second after the signal.
ends() {
	wait_in "$2-$1" "$2" cold
	wait_for 10 [ -e "$SITE/started.$2-$1" ] || { echo 'it does not begin'; return 1; }
	wait_for 10 grep -q '^State:[[:space:]]*[SD]' "/proc/$reader/status"
	kill "-$1" "$reader"
	timed wait_for 10 is_gone "$reader" || { kill -KILL "$reader"; return 1; }
	[ "$took" -le 1000 ] || { echo "after $took ms"; return 1; }
}
for way in pread direct mmap; do
	for signal in KILL TERM INT; do
		check "B36 P06 one that waits for the disk ($way) is gone at once after $signal" ends "$signal" "$way"
	done
done

check 'B36 readers are answered in time' wait_for 20 all_gone "${direct[@]}"
check_is 'B36 with ETIMEDOUT' ETIMEDOUT \
    "$(for i in {1..64..4}; do grep -ohE '[A-Z]+$' "$SITE/said.many-$i"; done | sort -u)"
killed_all() {
	kill -KILL "${readers[@]}"
	wait_for 10 all_gone "${readers[@]}"
}
{
	check 'B36 P06 all that still wait are gone at once after KILL' within 1000 killed_all
	wait "${readers[@]}"
} 2>/dev/null
opens_in_vain() {
	timed timeout -k 1 20 "$oracle_program" --mode pread "$(image shut)" "$WWW/shut" >"$SITE/said" 2>&1
	[ $? -eq 110 ] || { cat "$SITE/said"; return 1; }
	[ "$took" -lt 15000 ] || { echo "after $took ms"; return 1; }
}
check 'B36 an open that needs the disk is ETIMEDOUT, too' opens_in_vain
check 'B36 and in the end nothing waits any more' wait_for 15 figure_is reads_at_disk -eq 0
stall_end

# ---- and answers again ---------------------------------------------------------------------------------

check 'B36 when the disk answers again all is read' reads cold
check 'B36 also what could not be opened' reads shut
check 'B36 and what is to be fetched' wait_for 10 reads fresh --mode pread
check 'B36 commands work' ctl -q update
check_is 'B36 it is still the same worker' "$worker" "$(daemon_pid worker)"
nothing_is_bad() {
	[ "$(figure corrupt_granules)" -eq 0 ] && ! ls "$SITE/disk/cache/quarantine" | grep -q .
}
check 'B36 nothing was taken for damage' nothing_is_bad
exec {held}<&-
check 'B36 no read is left' wait_for 10 figure_is reads_parked -eq 0

# ---- the end, while it is stalled ------------------------------------------------------------------------

stall_forget "$(object_of cold)"
stall_begin
wait_in parting direct cold
at_exit kill -KILL "$reader"
wait_for 10 figure_is reads_at_disk -ge 1 || not_ok 'a reader waits for the disk'
kill -TERM "$(daemon_pid supervisor)"
not_mounted() {
	! is_mounted
}
check 'B36 TERM unmounts while the disk does not answer' wait_for 15 not_mounted
check 'B36 who waits is told' wait_for 5 is_gone "$reader"
stall_end
check 'B36 and no process is left when it answers' wait_for "$VMI_PATIENCE" no_daemon_left
plan_done
