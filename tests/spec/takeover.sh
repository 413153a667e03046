#!/bin/bash
# time limit: 240 s
# nightly limit: 3600 s
#
# The worker of a mount is killed while it is read in every way, again and again: the next one goes
# on with what waits, and no reader sees it.  With a kernel that cannot send requests again readers
# get an error soon, and the mount is there again.  Runner and starter that are killed are started
# again, too.
#
# VMI_TAKEOVER_ROUNDS (20; 200 with VMI_NIGHTLY) kills.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq python3 tar qemu-img qemu-io
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/load.sh"
. "$here/../lib/ova.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

rounds=${VMI_TAKEOVER_ROUNDS:-${VMI_NIGHTLY:+200}}
rounds=${rounds:-20}
seconds=$((rounds + 4))

images_up stall_timeout=60s block_timeout=60s log_level=info fill=idle
mkdir "$SITE/handlers"
chmod 755 "$SITE/handlers"
cat >"$SITE/handlers/one" <<EOT
#!/bin/sh
[ ! -e $SITE/slow ] || { touch $SITE/told/waits; sleep 60; }
touch "$SITE/told/\$VMCATCHER_EVENT_TYPE.\$VMCATCHER_EVENT_DC_IDENTIFIER"
EOT
mkdir -m 777 "$SITE/told"
chmod 755 "$SITE/handlers/one"
echo "event_command = $SITE/handlers/one" >>"$CONF"

image_disk stored ok 8
image_disk coming "rate:$((8 * 1048576 / seconds))" 8
image_disk later ok 1
image_disk blocks ok 8
image_blocks blocks
image_disk slow "rate:$((8 * 1048576 / seconds))" 8
image_blocks slow
image_disk handled ok 1
image_disk waited stall:10 1
ova_add archive
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
ctl -q fetch stored blocks archive || bail 'cannot fetch'

# ---- killed under load -------------------------------------------------------------------------------

# Through an overlay, as a guest's disk.
guest() {
	local n=0

	qemu-img create -q -f qcow2 -b "$(readlink -f "$(image "$1")")" -F raw "$SITE/overlay.$1" || return 1
	while at_work; do
		qemu-img compare -q -T none -s -f qcow2 -F raw "$SITE/overlay.$1" "$WWW/$1" >>"$SITE/guest.said" 2>&1 ||
		    echo "qemu $1: $?" >>"$SITE/wrong"
		qemu-io -t none -f qcow2 -c 'aio_read 0 64k' -c 'aio_read 1M 64k' -c aio_flush -c 'read 4M 256k' \
		    "$SITE/overlay.$1" 2>&1 | grep -iE 'failed|error' >>"$SITE/wrong"
		echo >>"$SITE/rounds.qemu"
	done
}

# A file that stays open, and one that is mapped, through all of it.
holder() {
	"$oracle_program" --mode "$2" --seconds "$seconds" "$(image "$1")" "$WWW/$1" 2>>"$SITE/wrong" </dev/null ||
	    echo "held $1 $2: $?" >>"$SITE/wrong"
}

walker() {
	while at_work; do
		find "$MNT" -type f -not -path '*/by-sha512/*' -exec cat {} + >/dev/null 2>>"$SITE/walked" || :
		ls -lR "$MNT" >/dev/null 2>>"$SITE/walked" || :
	done
}

begin_load() {
	local i modes=(pread direct mmap random spots directspots whole odd)

	load_begin
	for ((i = 0; i < 56; i++)); do
		reader "$([ $((i / 8 % 2)) -eq 0 ] && echo stored || echo blocks)" $i --mode "${modes[i % 8]}" &
		load+=($!)
	done
	for i in pread direct; do
		holder coming $i & load+=($!)
		holder slow $i & load+=($!)
	done
	guest stored & load+=($!)
	guest blocks & load+=($!)
	walker & load+=($!)
}

kills() {
	local i before after slowest=0 total=0

	for ((i = 0; i < rounds; i++)); do
		before=${EPOCHREALTIME/[.,]/}
		worker_kill || { echo "round $i: no next worker: $(cat "$SITE/run/worker")"; return 1; }
		after=$(((${EPOCHREALTIME/[.,]/} - before) / 1000))
		total=$((total + after))
		[ "$after" -le "$slowest" ] || slowest=$after
		# Less would be taken for a worker that cannot live.
		sleep 0.6
	done
	note "from KILL to the next worker: $((total / rounds)) ms, at most $slowest ms, with all readers at work"
}

all_read() {
	local i

	for ((i = 0; i < 56; i++)); do
		[ -s "$SITE/rounds.$i" ] || { echo "reader $i has not read"; return 1; }
	done
}

begin_load
check "P07 the worker is killed $rounds times under 64 readers, and another goes on each time" kills
check 'P07 P14 no reader sees an error or a wrong byte, however it reads' end_load
check 'P07 every one of them has read' all_read
check 'P07 the status says how often, and why' \
    [ "$(status_of worker_restarts)" -eq "$rounds" ]
check_like 'P07 and when' 'signal 9 \(Killed\)' "$(status_of worker_last_end)"
check_like 'P07 so does vmimagectl' "\"worker_restarts\":$rounds,.*signal 9" "$(ctl --json status | jq -c .)"
check_like 'P07 and the metrics' "vmimagefs_worker_restarts.* $rounds" "$(grep '^vmimagefs_worker_restarts' "$MNT/metrics")"
none_open() {
	[ "$(status_of files_open)" -eq 0 ] && [ "$(status_of reads_parked)" -eq 0 ]
}
# The fill of what was read in part goes on at its server's pace.
check 'P07 in the end no file is counted as open' wait_for $((VMI_PATIENCE + seconds)) none_open
check 'P07 and the images are whole' reads coming --mode pread

# ---- what stays open ---------------------------------------------------------------------------------

exec 8<"$(image stored)" 9<"$MNT/images/stored/metadata.json"
open_is() {
	[ "$(status_of files_open)" -eq "$1" ]
}
sleep 0.6
check 'P07 a worker is killed while an image and a text are open' worker_kill
check 'P07 the image is still known to be open' wait_for "$VMI_PATIENCE" open_is 1
check_not 'C11 and is not evicted' ctl -q evict stored
check 'P07 it is read on' cmp /dev/fd/8 "$WWW/stored"
check 'P07 so is the text' cmp /dev/fd/9 "$MNT/images/stored/metadata.json"
exec 8<&- 9<&-
check 'P07 when it is closed that is known' wait_for "$VMI_PATIENCE" open_is 0

exec 8<"$(ova_member archive)"
check 'P07 a member of an OVA is open, and read' cmp -n 100 /dev/fd/8 "$SITE/disk.vmdk"
sleep 0.6
check 'P07 the worker is killed' worker_kill
check 'P07 a file in an OVA that is open is read on' ova_reads_on 8
sleep 0.6
check 'P07 it is killed once more' worker_kill
check 'P07 and asked where its data are' ova_seeks_on 8
check 'P07 and it is read on' ova_reads_on 8
check 'P07 and can be opened anew' cmp "$(ova_member archive)" "$SITE/disk.vmdk"
exec 8<&-
check 'P07 when it is closed that is known, too' wait_for "$VMI_PATIENCE" open_is 0

# ---- what changed while there was no worker ----------------------------------------------------------

changed_meanwhile() {
	local pid

	ls -lR "$MNT" >/dev/null
	pid=$(daemon_pid worker)
	kill -STOP "$pid"
	ctl -q deselect stored
	kill -KILL "$pid"
	worker_wait "$pid" || return 1
	[ ! -e "$MNT/images/stored/image" ] && [ "$(<"$MNT/images/stored/selected")" = no ]
}
stat "$MNT/images/stored/image" "$MNT/images/stored/selected" >/dev/null
sleep 0.6
check 'P07 what a command has changed while there was no worker is seen at once' changed_meanwhile
check 'P07 and changed back' eval 'ctl -q select stored && reads stored --mode direct'

# ---- those beside it ---------------------------------------------------------------------------------

old_is_gone() {
	[ -n "$(daemon_pid "$1")" ] && [ "$(daemon_pid "$1")" != "$2" ]
}

kill_beside() {
	local pid

	pid=$(daemon_pid "$1") || { echo "there is no $1"; return 1; }
	kill -KILL "$pid"
	wait_for "$VMI_PATIENCE" old_is_gone "$1" "$pid"
}
check 'P14 a starter that is killed is started again' kill_beside starter
check 'P14 and the next image is fetched' reads later --mode pread
stalls() {
	local pid

	"$oracle_program" --mode pread "$(image handled)" "$WWW/handled" >"$SITE/said" 2>&1 </dev/null &
	pid=$!
	kill_beside starter
	wait $pid || { cat "$SITE/said"; return 1; }
}
check 'P14 killed while an image comes, the image comes all the same' stalls

told() {
	[ -e "$SITE/told/$1" ]
}
touch "$SITE/slow"
ctl -q deselect later && ctl -q select later
ctl -q evict later; ctl -q fetch later
check 'P21 a handler is at work' wait_for "$VMI_PATIENCE" told waits
rm -f "$SITE"/told/* "$SITE/slow"
check 'P21 a runner that is killed is started again' kill_beside runner
check 'P21 and the event is delivered' wait_for "$VMI_PATIENCE" told AvailablePostfix.later
sed 's|/told/|/told/new.|' "$SITE/handlers/one" >"$SITE/handlers/two"
chmod 755 "$SITE/handlers/two"
sed -i "s|^event_command = .*|event_command = $SITE/handlers/two|" "$CONF"
check 'P21 the configuration has another handler when the worker is killed' worker_kill
ctl -q deselect later && ctl -q select later
check 'P21 and the next worker has that one run' wait_for "$VMI_PATIENCE" told new.AvailablePostfix.later

# ---- one that cannot live ----------------------------------------------------------------------------

# A worker that finds the cache taken away ends before it is ready.
waits() {
	[ "$(worker_is state)" = waiting ]
}
crash_loop() {
	local pid

	pid=$(daemon_pid worker)
	mv "$SITE/cache/.vmimagefs-store" "$SITE/marker"
	kill -KILL "$pid"
	wait_for "$VMI_PATIENCE" waits || { cat "$SITE/run/worker"; return 1; }
}
check 'P14 a worker that cannot begin is waited for, longer each time' crash_loop
says_so() {
	local said

	said=$(timeout 10 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" status 2>&1)
	grep -q 'not serving' <<<"$said" && grep -q 'worker_next_start' <<<"$said" || { echo "$said"; return 1; }
}
check 'P14 status says so within 10 s, and when the next one is started' says_so
timed timeout 30 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" reload >"$SITE/said" 2>&1
check 'P14 no command waits for it' [ "$took" -le 20000 ]
check_like 'P14 but says why' 'does not serve|vmimagefs-store|code 55' "$(<"$SITE/said")"
mv "$SITE/marker" "$SITE/cache/.vmimagefs-store"
kill -USR2 "$(daemon_pid supervisor)"
serving() {
	[ "$(worker_is state)" = serving ]
}
check 'P14 when that is mended it serves, at once if told so' wait_for "$VMI_PATIENCE" serving
check 'P14 and reads go on' reads stored --mode direct
check 'P04 TERM ends it all' mount_down

# ---- a kernel that sends nothing again ---------------------------------------------------------------

noresend=$(dirname "$oracle_program")/noresend.so
if [ -n "${VMI_SANITIZE:-}" ] || [ ! -e "$noresend" ]; then
	skip 'P07 without RESEND' 'a preloaded library'
else
	VMI_WRAP="env LD_PRELOAD=$noresend" mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	without() {
		local pid status

		"$oracle_program" --mode direct "$(image waited)" "$WWW/waited" >"$SITE/said" 2>&1 </dev/null &
		pid=$!
		wait_for "$VMI_PATIENCE" parked -ge 1 || { echo 'nobody waits'; return 1; }
		timed worker_kill
		status=0
		wait $pid || status=$?
		[ "$took" -le 5000 ] || echo "it took $took ms"
		[ $status -ne 0 ] && grep -qE 'ENOTCONN|ECONNABORTED' "$SITE/said" ||
		    { echo "$status: $(<"$SITE/said")"; return 1; }
		[ "$took" -le 5000 ]
	}
	check 'P07 without RESEND a reader that waits gets an error within 5 s' without
	check 'P07 and the mount is there again, in the same place' reads stored --mode direct
	check_is 'P07 once' 1 "$(grep -c " $MNT " /proc/self/mountinfo)"
	sleep 0.6
	check 'P07 and again' worker_kill
	check 'P07 it serves' reads blocks --mode direct
	check 'P04 it is unmounted in order' mount_down
fi

# ---- a connection that is cut -------------------------------------------------------------------------

mount_up || bail 'no mount'
connection_is_cut() {
	local number worker

	number=$(awk -v at="$MNT" '$5 == at { sub(/.*:/, "", $3); print $3 }' /proc/self/mountinfo)
	[ -e "/sys/fs/fuse/connections/$number/abort" ] || mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null
	worker=$(daemon_pid worker)
	waiters connection
	waiter direct waited --mode direct
	waiter pread waited --mode pread
	wait_for "$VMI_PATIENCE" parked -ge 1 || { echo 'nobody waits'; return 1; }
	echo 1 >"/sys/fs/fuse/connections/$number/abort"
	timed waited
	[ "$took" -le 5000 ] || { echo "they wait $took ms"; return 1; }
	[[ ! $waiters_saw =~ right ]] || { echo "$waiters_saw"; return 1; }
	worker_wait "$worker" && reads stored --mode direct
}
check 'P11 a connection that is cut while it is read is made anew' connection_is_cut
busy_umount() {
	exec 7<"$(image stored)"
	umount -l "$MNT" || return 1
	cmp /dev/fd/7 "$WWW/stored" || return 1
	exec 7<&-
	wait_for "$VMI_PATIENCE" no_daemon_left
}
check 'P11 umount -l while a file is open: it is read to its end, then the daemon ends' busy_umount

# Killed again and again it waits for a while; then there is nobody to see the unmount but the supervisor.
worker_is_away() {
	local pid left=0

	for _ in {1..200}; do
		if [ "$(worker_is state)" = waiting ]; then
			left=$(($(date -d "$(worker_is next_start)" +%s) - $(date +%s)))
			[ "$left" -lt 6 ] || return 0
		fi
		! pid=$(daemon_pid worker) || kill -KILL "$pid" 2>/dev/null
		sleep 0.1
	done
	return 1
}
# By the call itself: umount(8) may ask the mount before, and wait for the worker.
umounted_meanwhile() {
	mount_up && worker_is_away || return 1
	umount -i -c -l "$MNT" || return 1
	wait_for 2 no_daemon_left && ! is_mounted
}
check 'P11 umount while the next worker is waited for: the daemon ends at once' umounted_meanwhile

dead_mount() {
	mount_up || return 1
	daemon_kill
	stat "$MNT" 2>&1 | grep -q 'not connected'
}
check 'P08 both killed, the mount says that it is dead' dead_mount
timed mount_up
check 'P08 a new one cleans it up and serves within 5 s' [ "$took" -le 5000 ]
check 'P08 it serves' reads stored --mode direct
supervisor_alone() {
	kill -KILL "$(daemon_pid supervisor)"
	wait_for "$VMI_PATIENCE" no_daemon_left && stat "$MNT" 2>&1 | grep -q 'not connected'
}
check 'P08 the supervisor killed: nothing of it is left but the dead mount' supervisor_alone
check 'P08 and a new one takes its place' mount_up
check 'P04 and ends' mount_down
plan_done
