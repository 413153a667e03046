#!/bin/bash
# time limit: 120 s
# A log that nobody reads: a pipe whose reader is stopped, a syslogd that hangs with its own disk.  What
# is not taken is given up, and said later; nothing else waits for it.

here=$(cd "$(dirname "$0")" && pwd)
# syslogd is /dev/log, and this machine's may stay as it is: /dev will be our own.
. "$here/../lib/ownmounts.sh"
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl socat unshare
[ -n "${VMI_OWN_MOUNTS:-}" ] || skip_all 'no mount name space can be made'
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

own_dev() {
	mkdir "$1" && mount -t tmpfs none "$1" && mkdir "$1/shm" && ln -s /proc/self/fd "$1/fd" &&
	    cp -a /dev/{null,zero,full,random,urandom,fuse} "$1" && mount --move "$1" /dev
}

worker_dies() {
	local worker

	worker=$(daemon_pid worker) && kill -KILL "$worker" && worker_wait "$worker"
}

site_with_images() {
	images_up read_timeout=5s
	for name in first second third; do
		image_add "$name" ok 1048576
	done
	image_add bad portal 65536
	images_subscribe
}

is_refused() {
	! timeout 30 cat "$(image bad)" >"$SITE/said" 2>/dev/null && [ ! -s "$SITE/said" ]
}

# nobody_is_held_up WHERE: 1 s where it takes some 10 ms without a log.
nobody_is_held_up() {
	check "I13 $1: a listing comes" within 1000 ls -lR "$MNT/images"
	check "I13 $1: so does a file of the daemon's own" within 1000 cat "$MNT/status"
	check "I13 $1: an image is fetched and read" reads first
	check "I13 $1: one that is refused is refused" is_refused
	check "I13 $1: the next worker takes over" worker_dies
	check "I13 $1: and reads" reads second
	check "I13 $1: a command is answered" within 5000 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" status
}

# A command makes the worker and the supervisor say something.
told_syslogd() {
	ctl -q reload
	grep -aqE 'vmimagefs\[[0-9]+\]: ' "$SITE/syslog"
}

missing='[0-9]+ lines are missing here: the log did not take them'

# ---- standard error ------------------------------------------------------------------------------

# A page at a time, until the pipe takes no more.
fill_pipe() {
	local n=0

	while [ $n -lt 1000 ] && timeout 3 cat "$SITE/page" >&9; do
		n=$((n + 1))
	done 2>/dev/null
	[ $n -lt 1000 ]
}

said_in_pipe() {
	timeout 0.3 cat <&9 >>"$SITE/lines"
	grep -aqE "$1" "$SITE/lines"
}

site_with_images
yes | head -c 4096 >"$SITE/page"
mkfifo "$SITE/pipe" && exec 9<>"$SITE/pipe"
LOG=$SITE/pipe mount_up || bail 'no mount'
check 'a pipe whose reader is stopped is full at last' fill_pipe
nobody_is_held_up 'a full pipe'
timeout 1 cat <&9 >"$SITE/lines"
check 'when it is read again images are read' reads third
check 'and it is told what is missing' wait_for 10 said_in_pipe "^vmimagefs: warning: $missing"
fill_pipe
check 'the daemon ends though nobody reads' mount_down
exec 9>&-

# ---- syslog --------------------------------------------------------------------------------------

syslogd_up() {
	rm -f /dev/log
	socat -u UNIX-RECV:/dev/log,mode=666 "OPEN:$SITE/syslog,creat,append" &
	syslogd=$!
	at_exit process_end "$syslogd"
	wait_for 5 test -S /dev/log
}

process_end() {
	kill -KILL "$1" 2>/dev/null && wait "$1" 2>/dev/null
	return 0
}

fill_syslog() {
	local n=0

	while [ $n -lt 1000 ] && timeout 3 logger --socket /dev/log --tag test "$n"; do
		n=$((n + 1))
	done 2>/dev/null
	[ $n -lt 1000 ]
}

site_with_images
own_dev "$SITE/dev" || bail 'no /dev of our own'
syslogd_up || bail 'no syslogd'
mount_up -o log=syslog || bail "no mount: $(tail -n 3 "$LOG")"
check 'a daemon tells syslogd that it starts' \
    wait_for 10 grep -aqE '^<30>[A-Z][a-z]{2} [ 123][0-9] [0-9:]{8} vmimagefs\[[0-9]+\]: vmimagefs .* starts on' "$SITE/syslog"
kill -STOP "$syslogd"
check 'the queue of a syslogd that hangs is full at last' fill_syslog
nobody_is_held_up 'a syslogd that hangs'
kill -CONT "$syslogd"
check 'when it goes on images are read' reads third
ctl -q reload
check 'and it is told what is missing' wait_for 10 grep -aqE "<28>.*vmimagefs\[[0-9]+\]: $missing" "$SITE/syslog"
process_end "$syslogd"
check 'without any syslogd a listing comes' within 1000 ls -lR "$MNT/images"
check 'and reloading goes on' ctl -q reload
syslogd_up
check 'one that starts anew is found by a daemon that made its sandbox long ago' \
    wait_for 20 told_syslogd
check_is 'nothing of it is on standard error' '' "$(cat "$LOG")"
check 'the daemon ends' mount_down
plan_done
