#!/bin/bash
# Commands beside a daemon: they wait as long as an image takes, also for a worker that takes over, and know
# when there is none.  And commands whose caller ignores what becomes of children.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl setpriv python3 faketime
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/vmcatcher.sh"

mib=1048576
images_up prefetch=never
image_add slow stall:50
image_add good ok
image_add half stallonce:50
images_subscribe
cache_dirs "$SITE/dirs"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# ---- more than a minute ------------------------------------------------------------------------------

# A clock on which two seconds are a minute.
fast() {
	faketime -f '+0 x30' "$@"
}

half_there() {
	[ "$(said_of "$1" progress 2>/dev/null)" = "$((mib / 2)) $mib 50" ]
}

downloads() {
	local pid

	VMIMAGEFS_CONFIG=$CONF VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db \
	    fast "$VMIMAGEFS_BUILD/vmcatcher_cache" -D >"$SITE/said" 2>&1 </dev/null &
	pid=$!
	wait_for "$VMI_PATIENCE" half_there slow || { kill $pid; return 1; }
	sleep 3
	server_get /release?always >/dev/null
	wait $pid || { cat "$SITE/said"; return 1; }
}
goes_on() {
	local pid

	ctl -q fetch half >"$SITE/said" 2>&1 </dev/null &
	pid=$!
	wait_for "$VMI_PATIENCE" half_there half || { kill $pid; return 1; }
	ctl -q reload --binary || { kill $pid; return 1; }
	wait $pid || { cat "$SITE/said"; return 1; }
}
check 'P18 a fetch goes on when another program takes over' goes_on
check_is 'P18 and the image is there' verified "$(image_state half)"
check 'vmcatcher_cache waits for a daemon as long as an image takes' downloads
check_is 'and then has it' verified "$(image_state slow)"

mends() {
	local worker pid

	printf 'x' | dd of="$(object_of good)" bs=1 seek=1000 conv=notrunc status=none
	worker=$(daemon_pid worker)
	kill -STOP "$worker"
	fast "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" verify --fix good >"$SITE/said" 2>&1 </dev/null &
	pid=$!
	sleep 4
	kill -CONT "$worker"
	wait $pid
	grep -qx 'healed: good' "$SITE/said" || { cat "$SITE/said"; return 1; }
}
reads good --mode pread || bail 'no image'
check 'verify --fix waits for a daemon as long as an image takes' mends
mount_down

# ---- none -----------------------------------------------------------------------------------------------

killed() {
	local pids

	mount_up || return 1
	mapfile -t pids < <(daemon_pids)
	kill -STOP "${pids[@]}"
	kill -KILL "${pids[@]}"
	wait_for "$VMI_PATIENCE" no_daemon_left
}
check 'all processes of a daemon are killed' killed
check_is 'status knows that it is gone' 'daemon: not running' "$(ctl status | grep -a -E '^(daemon|worker)')"
check_status 'so does reload --binary' 6 ctl reload --binary
sed -i 's/^state: .*/state: waiting/' "$SITE/run/worker"
check_is 'whatever it had last said' 'daemon: not running' "$(ctl status | grep -a -E '^(daemon|worker)')"
check_status 'and nobody is sent to a process of that number' 6 ctl reload --binary
check 'the next one takes its place' mount_up
mount_down

# ---- a caller that ignores SIGCHLD -------------------------------------------------------------------

cat >"$SITE/ignoring" <<-'EOT'
	import os, signal, sys
	signal.signal(signal.SIGCHLD, signal.SIG_IGN)
	os.execv(sys.argv[1], sys.argv[1:])
EOT
ignoring() {
	timeout 60 python3 "$SITE/ignoring" "$@" </dev/null
}
images_sign
check 'a command whose caller ignores SIGCHLD hears of its children' \
    ignoring "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" update
images_sign
check 'so does a command of vmcatcher' env "VMIMAGEFS_CONFIG=$CONF" \
    "VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db" \
    timeout 60 python3 "$SITE/ignoring" "$VMIMAGEFS_BUILD/vmcatcher_subscribe" -U
mounts() {
	ignoring "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" >>"$LOG" 2>&1 && reads good --mode pread
}
check 'and the daemon' mounts
check 'which starts a worker again that was killed' worker_kill
check 'P04 and ends' mount_down

plan_done
