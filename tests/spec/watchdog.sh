#!/bin/bash
# time limit: 240 s
# A worker that hangs.  One that is stopped shows no sign of life, is ended, and its readers finish with
# the next one.  One that was killed while a disk holds it cannot end: its readers get an error, and when
# the disk answers the mount is served again.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/stall.sh"

mib=1048576

logged() {
	grep -q "$1" "$LOG"
}

# ---- a worker that is stopped ----------------------------------------------------------------------

images_up watchdog=2s read_timeout=60s
image_add one ok $mib
image_add two ok $mib
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads one || bail "$oracle_said"
worker=$(daemon_pid worker)
sleep 3
check_is 'a worker that has nothing to do shows that it lives' "$worker" "$(daemon_pid worker)"
kill -STOP "$worker"
check 'I13 a reader of a worker that hangs finishes with the right bytes' reads one --mode direct
check 'so does one that has to wait for a transfer' reads two
check 'another worker serves' another_serves "$worker"
check 'the state says why' grep -q 'no sign of life for 2 s' "$SITE/run/worker"
check 'and so does the log' logged 'error: killing it: the worker has shown no sign of life for 2 s'
check 'the one that hung is gone' [ ! -e "/proc/$worker" ]
check 'the daemon ends' mount_down

images_up watchdog=off
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
worker=$(daemon_pid worker)
kill -STOP "$worker"
sleep 3
kill -CONT "$worker"
check 'with watchdog = off it is waited for' ls "$MNT/images"
check_is 'and goes on' "$worker" "$(daemon_pid worker)"
check 'the daemon ends' mount_down

# ---- a worker that a disk holds --------------------------------------------------------------------

images_up watchdog=2s block_timeout=5m read_timeout=5m
stall_disk "$SITE/disk" 96
sed -i "s|^cache_dir = .*|cache_dir = $SITE/disk/cache|; s|^state_dir = .*|state_dir = $SITE/disk/state|" "$CONF"
image_add first ok $mib
image_add second ok $mib
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# hold NAME: an image that is not here yet is read.  Who writes its beginning down waits for the disk, and
# no signal ends that.
hold() {
	# What updates the site has the catalogue, and would be held in the worker's place.
	ctl -q update || return 1
	sync -f "$SITE/disk"
	stall_begin
	timeout 60 cat "$(image "$1")" >/dev/null 2>&1 </dev/null &
	wait_for "$VMI_PATIENCE" is_held "$(daemon_pid worker)"
}

is_held() {
	grep -qs '^State:[[:space:]]*D' /proc/"$1"/task/*/status
}

gone() {
	! kill -0 "$1" 2>/dev/null
}

check 'a worker waits for a disk that does not answer' hold first
worker=$(daemon_pid worker)
kill -KILL "$worker"
"$oracle_program" --mode direct "$(image first)" "$WWW/first" >"$SITE/said" 2>&1 </dev/null &
reader=$!
check 'I13 a reader of a worker that cannot end gets an error within half a minute' \
    wait_for $((25 + VMI_PATIENCE)) gone "$reader"
check_like 'which says that nobody is there' 'ENOTCONN|ECONNABORTED' "$(cat "$SITE/said")"
check 'I13 so does who comes later, and at once' \
    bash -c "! timeout 5 ls '$MNT/images' 2>'$SITE/said' && grep -q 'not connected' '$SITE/said'"
check_is 'the state says that a worker is waited for' waiting "$(worker_is state)"
check 'and why' grep -q 'no sign of life\|signal 9' "$SITE/run/worker"
stall_end
check 'when the disk answers the next one serves' worker_wait "$worker"
check 'and the bytes are right' reads first

check 'once more' hold second
supervisor=$(daemon_pid supervisor)
worker=$(daemon_pid worker)
kill -TERM "$supervisor"
check 'I13 the end of the daemon does not wait for the disk' wait_for $((10 + VMI_PATIENCE)) gone "$supervisor"
check 'it says what it leaves' logged 'the worker cannot end before a disk answers, and is left to itself'
stall_end
check 'which ends with the disk' wait_for "$VMI_PATIENCE" gone "$worker"
check 'nothing is left of the daemon' wait_for "$VMI_PATIENCE" no_daemon_left
check 'and a new one starts' mount_up
check 'and reads' reads second
check 'and ends' mount_down
plan_done
