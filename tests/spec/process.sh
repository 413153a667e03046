#!/bin/bash
# How the daemon begins and ends: signals, a new configuration, a second one of it, bad mount points,
# closed descriptors, a thousand images; and commands that are interrupted.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl jq setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

mib=1048576

images_up stall_timeout=60s
for name in stored stored-2; do
	image_add "$name" ok
done
for name in idle-TERM idle-INT busy-TERM busy-INT everybody interrupted alone; do
	image_add "$name" once-stall:50
done
image_add new-1 ok
image_add new-2 ok
image_add new-3 ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads stored --mode pread >/dev/null || bail 'cannot read'

# ---- ending ----------------------------------------------------------------------------------------

# Nothing is mounted and no process is left.
ended() {
	no_daemon_left && ! is_mounted
}

ends_by() {
	local signal=$1

	shift
	kill "-$signal" "$@" || return 1
	timed wait_for "$VMI_PATIENCE" ended || { echo 'it does not end'; return 1; }
	[ "$took" -le 5000 ] || { echo "it took $took ms"; return 1; }
}

half_there() {
	[ "$(said_of "$1" progress 2>/dev/null)" = "$((mib / 2)) $mib 50" ]
}

# A buffered and an O_DIRECT reader that wait for the rest of an image.
waiting_readers() {
	local mode

	readers=()
	for mode in pread direct; do
		"$oracle_program" --mode $mode "$(image "$1")" "$WWW/$1" >"$SITE/read.$mode" 2>&1 </dev/null &
		readers+=($!)
	done
	wait_for "$VMI_PATIENCE" half_there "$1" || bail "$1 does not come half"
}

end_busy() {
	local status=0

	waiting_readers "$1"
	shift
	ends_by "$@" || status=1
	wait "${readers[@]}"
	return $status
}

for signal in TERM INT; do
	check "P04 $signal ends an idle daemon within 5 s" ends_by $signal "$(daemon_pid supervisor)"
	check 'P04 and it is mounted again' mount_up
	check "P04 $signal ends a daemon with waiting readers within 5 s" \
	    end_busy "busy-$signal" $signal "$(daemon_pid supervisor)"
	check 'P04 what came before is kept' \
	    [ "$(stat -c %s "$SITE/cache/partial/$(basename "$(object_of "busy-$signal")")")" -eq $((mib / 2)) ]
	mount_up || bail 'no mount'
	check 'P04 and used: the rest alone is fetched' reads "busy-$signal" --mode pread
	check_is 'P04 not one byte twice' $mib "$(sent "busy-$signal")"
done
# As service managers do it.
mapfile -t pids < <(daemon_pids)
check 'P04 TERM to all processes at once ends them in order' end_busy everybody TERM "${pids[@]}"
check_not 'P04 nothing was ended by the signal' grep -q 'ended by signal' "$LOG"

# ---- other signals, and a new configuration -----------------------------------------------------------

mount_up || bail 'no mount'
: >"$LOG"
logged() {
	grep -q -- "$1" "$LOG"
}
serves() {
	kill -0 "$worker" && is_mounted && reads stored --mode pread && ctl -q status >/dev/null
}
worker=$(daemon_pid worker)
kill -USR1 "$(daemon_pid supervisor)"
check 'P04 USR1 writes the status to the log' wait_for "$VMI_PATIENCE" logged 'verified'
check 'P04 and the daemon goes on' serves
kill -USR2 "$(daemon_pid supervisor)"
check 'P04 USR2 exchanges the worker' worker_wait "$worker"
worker=$(daemon_pid worker)
check 'P04 and the daemon goes on, too' serves
for pid in $(daemon_pids); do
	kill -PIPE "$pid"
done
check 'P04 PIPE is nothing to it' serves

# Below cache_min_free nothing is fetched: so one sees which configuration is in force.
cp "$CONF" "$SITE/good.conf"
{ sed 's/^cache_min_free = .*/cache_min_free = 99%/' "$SITE/good.conf"; echo 'no_such_key = 1'; } >"$CONF"
kill -HUP "$(daemon_pid supervisor)"
check 'P04 a broken configuration is refused with file and line' wait_for "$VMI_PATIENCE" \
    logged "$CONF:$(wc -l <"$CONF").*no_such_key"
check 'P04 nothing of it is in force' reads new-1 --mode pread
check_not 'P04 reload says so, too' ctl reload
sed -i '$d' "$CONF"
: >"$LOG"
kill -HUP "$(daemon_pid supervisor)"
check 'P04 a good one is' wait_for "$VMI_PATIENCE" logged 'configuration reloaded'
check 'P04 in all that it says' fails new-2 ENOSPC
cp "$SITE/good.conf" "$CONF"
check 'P04 and back again' ctl reload
check 'P04 as it was' wait_for "$VMI_PATIENCE" reads new-3 --mode pread

# ---- a second one --------------------------------------------------------------------------------------

# second KEY=VALUE...: starts a daemon with another configuration; prints "status: message".
second() {
	local word said status=0 sed_words=(-e '')

	for word in "$@"; do
		sed_words+=(-e "s|^${word%%=*} = .*|${word%%=*} = ${word#*=}|")
	done
	sed "${sed_words[@]}" "$CONF" >"$SITE/second.conf"
	# shellcheck disable=SC2086 # a list of words
	said=$(timeout 60 ${wrap:-} "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$SITE/second.conf" 2>&1 </dev/null) || status=$?
	printf '%s: %s\n' "$status" "$said"
}

sed -i 's/^log_level = .*/log_level = error/' "$CONF"
mkdir "$SITE/mnt2"
check_like 'P09 a second daemon on the same mount point is refused' '^5: .*code 55: .*mounted' "$(second)"
check_like 'P09 so is one elsewhere with the same directories' '^5: .*code 55: .*runs already' \
    "$(second "mountpoint=$SITE/mnt2")"
check_like 'P09 and one with another run_dir' '^5: .*code 55: .*in use by another process' \
    "$(second "mountpoint=$SITE/mnt2" "run_dir=$SITE/run2")"
check_like 'P09 and one with a catalogue of its own on the same cache' '^1: .*code 53: .*vmimagefs-store exists' \
    "$(second "mountpoint=$SITE/mnt2" "run_dir=$SITE/run2" "state_dir=$SITE/state2")"
check 'P09 the first goes on, and takes commands' serves
check_not 'P09 nothing is mounted there' mountpoint -q "$SITE/mnt2"
check_is 'P09 no process of the others is left' '' \
    "$(grep -lzxsF "--regexp=config=$SITE/second.conf" /proc/[0-9]*/cmdline)"
mount_down

# ---- commands alone, and interrupted -----------------------------------------------------------------

ctl_alone() {
	# A shell without job control lets what runs in the background ignore INT.
	env --default-signal=INT "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" "$@" >"$SITE/ctl.out" 2>&1 </dev/null &
	ctl_pid=$!
}

# No starter, fetcher or verifier that a command began.  Those of other tests have other names.
helpers=$SITE/helpers
mkdir "$helpers" && cp "$VMIMAGEFS_BUILD"/vmimagefs-{fetcher,verifier} "$helpers/" || bail 'no helpers'
export VMIMAGEFS_LIBEXECDIR=$helpers
no_helper_left() {
	# In this form grep does not find itself.
	! grep -lzxsF "--regexp=$CONF" "--regexp=$helpers/vmimagefs-fetcher" \
	    "--regexp=$helpers/vmimagefs-verifier" /proc/[0-9]*/cmdline | grep -q .
}

partial_is() {
	[ "$(stat -c %s "$SITE/cache/partial/$(basename "$(object_of "$1")")" 2>/dev/null)" = "$2" ]
}

interrupt_fetch() {
	ctl_alone fetch interrupted
	wait_for "$VMI_PATIENCE" partial_is interrupted $((mib / 2)) || { echo 'it does not begin'; return 1; }
	# Who owns the store owns it alone.
	second >"$SITE/said.mount"
	other_status=0
	ctl fetch idle-TERM >"$SITE/said.fetch" 2>&1 || other_status=$?
	echo "status $other_status" >>"$SITE/said.fetch"
	kill -INT "$ctl_pid"
	timed wait "$ctl_pid"
	[ "$took" -le 5000 ] && partial_is interrupted $((mib / 2)) && wait_for 5 no_helper_left
}
check 'A10 Ctrl-C ends fetch, and keeps what has come' interrupt_fetch
check_like 'P09 a mount is refused while a command owns the store' '^5: .*code 55: .*in use by another process' \
    "$(<"$SITE/said.mount")"
check_like 'P09 so is another command that wants to own it' 'in use by another process.*code 55.*status 5' \
    "$(paste -sd' ' "$SITE/said.fetch")"
check 'A10 fetch goes on where it was interrupted' ctl -q fetch interrupted
check_is 'A10 without a byte being fetched twice' $mib "$(sent interrupted)"

view() {
	for what in 'endorser list' subscriptions images expired; do
		# shellcheck disable=SC2086
		ctl --json $what | jq -cS 'del(.. | .tried?, .updated?)'
	done
}

# interrupted ARG...: the command waits for a server that does not answer, and is interrupted.
interrupted() {
	local before

	before=$(view)
	ctl_alone "$@"
	asked_for_list() {
		[ "$(requests never)" -gt 0 ]
	}
	wait_for "$VMI_PATIENCE" asked_for_list || { echo 'it asks for nothing'; return 1; }
	! no_helper_left || { echo 'who asks is not seen'; return 1; }
	kill -INT "$ctl_pid"
	timed wait "$ctl_pid"
	[ "$took" -le 5000 ] || { echo "it took $took ms"; return 1; }
	wait_for 5 no_helper_left || { echo 'a process is left'; return 1; }
	[ "$(view)" = "$before" ] || { diff <(echo "$before") <(view); return 1; }
}
: >"$WWW/never"
check 'A10 Ctrl-C ends subscribe, and nothing has changed' \
    interrupted subscribe "$SERVER/silent/never" --endorser alice
server_get /release >/dev/null

# At any moment: before or after, nothing between.
interrupt_at_random() {
	local n state

	for ((n = 0; n < 40; n++)); do
		ctl_alone deselect stored
		sleep "0.00$((n % 10))"
		kill -INT "$ctl_pid" 2>/dev/null
		wait "$ctl_pid"
		state=$(ctl --json images | jq -r '.images[] | select(.id == "stored") | .selected')
		[ "$state" = true ] || [ "$state" = false ] || { echo "then it is '$state'"; return 1; }
		ctl -q select stored || return 1
		wait_for 5 no_helper_left || { echo 'a process is left'; return 1; }
	done
	ctl -q verify --deep
}
check 'A10 Ctrl-C at any moment leaves the state before or after' interrupt_at_random

# ---- mount points ---------------------------------------------------------------------------------------

rmdir "$MNT"
check_like 'P10 a mount point that is missing is named' '^1: .*does not exist: run .mkdir -p' "$(second)"
echo file >"$MNT"
check_like 'P10 a file is no mount point' '^1: .*is not a directory' "$(second)"
rm "$MNT"
mkdir "$MNT"
# Where root comes in by his group: its supervisor has none.
mkdir -m 750 "$SITE/above" && mkdir "$SITE/above/mnt" && chown root:root "$SITE/above"
check_like 'P10 a mount point that the user cannot reach is refused, whatever groups root has' \
    "^7: .*mount point '$SITE/above/mnt' cannot be reached by uid" \
    "$(wrap='setpriv --groups 0' second "mountpoint=$SITE/above/mnt")"
check_is 'P10 and nothing was mounted there' 0 "$(grep -c " $SITE/above/mnt " /proc/self/mountinfo)"
umount -i -c -l "$SITE/above/mnt" 2>/dev/null
echo hidden >"$MNT/something"
check 'P10 a directory that is not empty will do' mount_up
check_not 'P10 what was in it is hidden' test -e "$MNT/something"
mount_down
check 'P10 and comes back' rm "$MNT/something"
if mount -t tmpfs none "$MNT" 2>/dev/null; then
	check_like 'P10 another file system there is refused' '^5: .*code 55: another file system .tmpfs.' "$(second)"
	umount "$MNT"
	: >"$LOG"
	mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	ends_below() {
		kill -TERM "$(daemon_pid supervisor)"
		wait_for "$VMI_PATIENCE" no_daemon_left
	}
	worker=$(daemon_pid worker)
	waits_below() {
		local number

		number=$(awk -v at="$MNT" '$5 == at { sub(/.*:/, "", $3); print $3 }' /proc/self/mountinfo)
		[ -e "/sys/fs/fuse/connections/$number/abort" ] ||
		    mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null
		mount -t tmpfs none "$MNT"
		echo 1 >"/sys/fs/fuse/connections/$number/abort"
		wait_for "$VMI_PATIENCE" eval '[ "$(worker_is state)" = waiting ]' &&
		    worker_is last_cause | tee "$SITE/said" | grep -qF "'tmpfs' is mounted over it" ||
		    { cat "$SITE/run/worker"; return 1; }
	}
	check 'P11 a mount that is cut while another file system lies over it waits, and says why' waits_below
	umount "$MNT"
	check 'P11 it is made anew when that has gone' worker_wait "$worker"
	check 'P11 and serves' reads stored --mode pread
	mount -t tmpfs none "$MNT"
	check 'P10 a daemon ends that another file system lies over' ends_below
	check 'P10 and says what is left to do' \
	    grep -q "code 55: .*'tmpfs' is mounted over it: run 'umount $MNT'" "$LOG"
	check_is 'P10 that file system stays' tmpfs "$(stat -f -c %T "$MNT")"
	umount "$MNT"
	check 'P10 below it is what a next daemon takes away' mount_up
	mount_down || not_ok 'the daemon ends'
else
	skip 'P10 another file system there is refused' 'no tmpfs'
fi

# A directory above it has another name now.
moved() {
	local worker

	mkdir -p "$SITE/before/mnt" && mount_up -o "mountpoint=$SITE/before/mnt" || return 1
	mv "$SITE/before" "$SITE/after"
	worker=$(daemon_pid worker)
	# Who is in it keeps it from being unmounted.
	(cd "$MNT" && ! umount -i -c -f "$MNT") || { echo 'it was unmounted'; return 1; }
	worker_wait "$worker" && reads stored --mode pread
}
MNT=$SITE/after/mnt
check 'P11 a mount that was moved, and is cut, is made anew where it is' moved
check 'P10 and unmounted there when the daemon ends' mount_down
umount -i -c -l "$MNT" 2>/dev/null
MNT=$SITE/mnt

# None of them is to see that another one has ended, and to take the mount away.
stale() {
	local pids

	mount_up || return 1
	mapfile -t pids < <(daemon_pids)
	kill -STOP "${pids[@]}"
	kill -KILL "${pids[@]}"
	wait_for "$VMI_PATIENCE" no_daemon_left || { echo 'one is left'; return 1; }
	stat "$MNT" 2>&1 | tee "$SITE/said" | grep -q 'not connected' || { cat "$SITE/said"; return 1; }
}
check 'P10 a mount whose daemon was killed is dead' stale
check 'P10 a new one takes its place' mount_up
check 'P10 and serves' reads stored --mode pread
check_is 'P10 there is one mount, not two' 1 "$(grep -c " $MNT " /proc/self/mountinfo)"
mount_down

# ---- a run_dir without room --------------------------------------------------------------------------------

goes_without_room() {
	mount_up && worker=$(worker_is worker) || return 1
	head -c 1048576 /dev/zero >"$SITE/run/full" 2>/dev/null
	kill -KILL "$worker"
	wait_for "$VMI_PATIENCE" reads stored --mode pread && [ "$(worker_is worker)" = "$worker" ]
}

if mount -t tmpfs -o "size=64k,mode=755,uid=$(id -u nobody),gid=$(id -g nobody)" tmpfs "$SITE/run" 2>/dev/null; then
	at_exit umount -i -c -l "$SITE/run"
	check 'another worker serves although run_dir has no room to tell so' goes_without_room
	rm "$SITE/run/full"
	check 'it is told when there is' worker_wait "$worker"
	mount_down || not_ok 'the daemon ends'
	umount "$SITE/run"
else
	skip 'another worker serves although run_dir has no room to tell so' 'no tmpfs'
fi

# ---- descriptors -------------------------------------------------------------------------------------------

closed_at_start() {
	local pid fd target status=0

	"$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" <&- >&- 2>&- || return 1
	for pid in $(daemon_pids); do
		for fd in 0 1 2; do
			target=$(readlink "/proc/$pid/fd/$fd")
			[ "$target" != /dev/null ] || continue
			# A child that was about to execute another program is none of the daemon's any more.
			daemon_pids | grep -qxF "$pid" || continue
			echo "$(<"/proc/$pid/comm") has '$target' as $fd"
			status=1
		done
	done
	reads stored-2 --mode pread || status=1
	return $status
}
check 'P24 started with 0, 1 and 2 closed, it opens no file there' closed_at_start
mount_down
fetch_closed() {
	local pid fd target status=0

	"$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q fetch alone <&- >&- 2>&- &
	pid=$!
	wait_for "$VMI_PATIENCE" partial_is alone $((mib / 2)) || return 1
	for fd in 0 1 2; do
		target=$(readlink "/proc/$pid/fd/$fd")
		[ "$target" = /dev/null ] || { echo "'$target' is $fd"; status=1; }
	done
	server_get /release >/dev/null
	wait "$pid" && return $status
}
check 'P24 a command does not, either' fetch_closed

# ---- a thousand images ----------------------------------------------------------------------------------------

# Their files are put into the store, as after a crash that lost the catalogue.
thousand() {
	local i sum file name text object

	for ((i = 0; i < 1000; i++)); do
		echo "image $i" >"$WWW/many-$i"
	done
	images=()
	while read -r sum file; do
		name=${file##*/} text="image ${file##*-}"
		images+=("{\"hv:image\": {\"dc:identifier\": \"$name\", \"dc:title\": \"$name\",
		    \"dc:description\": \"\", \"hv:version\": \"1\", \"hv:uri\": \"$SERVER/ok/$name\",
		    \"hv:size\": $((${#text} + 1)), \"sl:checksum:sha512\": \"$sum\", \"hv:hypervisor\": \"kvm\",
		    \"sl:arch\": \"x86_64\", \"sl:os\": \"Linux\", \"sl:osversion\": \"1\", \"sl:comments\": \"\"}}")
		object=$SITE/cache/objects/${sum:0:2}
		[ -d "$object" ] || mkdir "$object"
		echo "$text" >"$object/$sum"
	done < <(sha512sum "$WWW"/many-*)
	chown -R nobody:nogroup "$SITE/cache/objects"
	pki_list "$SITE/list.json" many 1 "$(pki_dn alice)" "$(pki_issuer alice)" "${images[@]}" &&
	    pki_sign alice "$SITE/list.json" "$WWW/many" &&
	    ctl -q subscribe "$SERVER/ok/many" --endorser alice --select all
}

all_verified() {
	[ "$(find "$MNT/cache" -name 'many-*' | wc -l)" -eq 1000 ]
}

if thousand; then
	timed mount_up || bail 'no mount'
	check 'I12 a start with 1,000 files that no row knows takes at most 5 s' [ "$took" -le 5000 ]
	check 'I12 all of them are hashed and taken over' wait_for "$VMI_PATIENCE" all_verified
	check_is 'I12 none is fetched' 0 "$(requests 'many-[0-9]*')"
	mount_kill
	timed mount_up
	check 'I12 a start with 1,000 images after a crash takes at most 5 s' [ "$took" -le 5000 ]
	check 'I12 and they are there' all_verified
	mount_down
	rm -f "$SITE"/state/catalogue.db*
	timed mount_up
	check 'I12 a start that rebuilds the catalogue takes at most 5 s, too' [ "$took" -le 5000 ]
	check 'I12 and they are there' wait_for "$VMI_PATIENCE" all_verified
	mount_down
else
	not_ok 'a list of 1,000 images is subscribed'
fi

plan_done
