#!/bin/bash
# time limit: 240 s
# Whoever waits for bytes can be ended: for what kind of image, in which call, by which signal.  And
# nothing is left of him.  (For a disk that does not answer: stalled_disk.sh.)
#
# One who was ended is gone within a second.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

images_up read_timeout=600s block_timeout=30s stall_timeout=600s fill=never
mib=1048576
granule=262144
image_add strict stall:50 $((4 * mib))
image_disk lazy stall:50 4
image_blocks lazy
image_disk bad ok 4
image_blocks bad
image_add archive silent 1
printf member >"$SITE/vm.ovf"
tar -C "$SITE" --format=ustar -cf "$WWW/archive" vm.ovf
image_keys[archive]=hv:format=OVA
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads bad --mode pread || bail "$oracle_said"
reads lazy --mode pread --from 0 --length 4096 || bail "$oracle_said"
worker=$(daemon_pid worker)
# Its bytes are here, and wrong in one place; who would have better ones does not answer.
wait_for 20 state_is bad verified || bail 'it is not here'
image_uris[2]=$SERVER/silent/bad
images_update || bail 'no update'
flip_byte "$(object_of bad)" $((12 * granule + 100))

n_threads() {
	sed -n 's/^Threads:[[:space:]]*//p' "/proc/$worker/status"
}

waits() {
	grep -q '^State:[[:space:]]*[SD]' "/proc/$reader/status" && [ "$(status_of reads_parked)" -gt "$parked_before" ]
}

# begin COMMAND...: in the background, with all signals as they are by default.
begin() {
	env --default-signal=INT,QUIT,TERM "$@" >/dev/null 2>"$SITE/said" </dev/null &
	reader=$!
}

# waiting TARGET WAY: whoever reads the target in that way waits.
waiting() {
	local at=$((12 * granule))

	case $2 in
	pread|direct|mmap)
		begin "$oracle_program" --mode "$2" --from $at --length 65536 "$(image "$1")" "$WWW/$1" ;;
	opendir)	begin ls "$MNT/images/$1/ova" ;;
	stat)		begin stat "$MNT/images/$1/ova/vm.ovf" ;;
	open)		begin cat "$MNT/images/$1/ova/vm.ovf" ;;
	esac
	wait_for 10 waits || { echo 'it does not wait'; cat "$SITE/said"; return 1; }
}

# ends TARGET WAY SIGNAL
ends() {
	parked_before=0
	# The one before had half a second to hear of it.
	[ "$2" != direct ] || parked_before=$(sleep 0.6; status_of reads_parked)
	waiting "$1" "$2" || { kill -KILL "$reader"; return 1; }
	kill "-$3" "$reader"
	timed wait_for 10 is_gone "$reader" || { kill -KILL "$reader"; return 1; }
	[ "$took" -le 1000 ] || { echo "after $took ms"; return 1; }
}

cases='strict pread|strict direct|strict mmap|lazy pread|lazy direct|lazy mmap|bad pread|bad direct|bad mmap
archive opendir|archive stat|archive open'
{
	while read -rd '|' target way; do
		signals=KILL
		[ -z "${VMI_LONG:-}" ] && [[ $way != @(direct|open) ]] || signals='KILL TERM INT'
		for signal in $signals; do
			check "P06 one who waits for an image ($target, $way) is gone at once after $signal" \
			    ends "$target" "$way" "$signal"
		done
	done <<<"${cases//$'\n'/|}|"
} 2>/dev/null

# ---- many -----------------------------------------------------------------------------------------------

n_readers=100
[ -z "${VMI_LONG:-}" ] || n_readers=500
begun() {
	[ "$(status_of reads_parked)" -ge "$1" ]
}
threads=$(n_threads)
before=$(status_of reads_parked)
readers=()
for ((i = 0; i < n_readers; i++)); do
	dd if="$(image strict)" of=/dev/null bs=4k count=1 skip=$((512 + i)) iflag=direct status=none 2>/dev/null </dev/null &
	readers+=($!)
	at_exit kill -KILL $!
done
check "$n_readers readers wait" wait_for "$VMI_PATIENCE" begun $((before + n_readers))
check_is 'C02 the daemon has no more threads for it' "$threads" "$(n_threads)"
check 'C02 ls answers' timeout 5 ls -lR "$MNT"
all_gone() {
	local processes=("${readers[@]/#//proc/}")

	! grep -qs '^State:[[:space:]]*[RSDTt]' "${processes[@]/%//status}"
}
killed_all() {
	kill -KILL "${readers[@]}"
	wait_for 10 all_gone
}
{
	timed killed_all
	wait "${readers[@]}"
} 2>/dev/null
check 'P06 they are gone at once after KILL' test "$took" -le 2000
none_left() {
	wait_for 10 parked -le "$before" || { echo "$(status_of reads_parked) wait, and $before did before"; return 1; }
}
check 'P06 and no wait is left of them' none_left

# ---- a daemon that is stopped -----------------------------------------------------------------------------

all_stopped() {
	! grep -hs '^State:' /proc/"$1"/task/*/status | grep -qv '[[:space:]]T'
}

at_exit kill -CONT "$worker"
for role in worker supervisor starter; do
	pid=$(daemon_pid "$role") || { not_ok "there is a $role"; continue; }
	at_exit kill -CONT "$pid"
	kill -STOP "$pid"
	# A thread that waits for the processor could still take what the reader asks.
	wait_for 10 all_stopped "$pid" || not_ok "the $role stops"
	begin cat "$MNT/images/bad/title"
	if [ "$role" = worker ]; then
		check_is "P05 while the $role is stopped a reader waits" "$reader" "$(sleep 0.5; jobs -rp | grep -x "$reader")"
		kill -KILL "$reader"
		check "P05 and can be killed" wait_for 10 is_gone "$reader"
		begin cat "$MNT/images/bad/title"
	fi
	kill -CONT "$pid"
	check "P05 after the $role goes on the reader has what he asked for" wait_for 10 is_gone "$reader"
done 2>/dev/null
image_add slow stallonce:50 $((4 * mib))
images_update || bail 'no update'
begin "$oracle_program" --mode pread "$(image slow)" "$WWW/slow"
wait_for 10 test "$(requests slow)" -eq 1
fetcher=$(daemon_pid fetcher | tail -n 1)
kill -STOP "$fetcher"
server_get /release
at_exit kill -CONT "$fetcher"
check 'P05 while a fetcher is stopped its reader waits, and others read' reads bad --mode pread --from 0 --length 65536
kill -CONT "$fetcher"
status=0
wait "$reader" || status=$?
check_is 'P05 after the fetcher goes on he reads every byte right' 0 "$status"

# ---- nothing is left ---------------------------------------------------------------------------------------

server_get /release
check 'P06 in the end nobody waits' wait_for 40 parked -eq 0
check 'P06 and what was waited for is read' reads strict --mode pread
check_is 'it is still the same worker' "$worker" "$(daemon_pid worker)"
plan_done
