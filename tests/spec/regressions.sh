#!/bin/bash
# What went wrong once, between modules that were each right: the ends of descriptors, of the starter,
# and of trust at the moment when an image is just being stored.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

cpu_ticks() {
	awk '{ print $14 + $15 }' "/proc/$1/stat"
}

read_whole() {
	cat "$(image "$1")" >/dev/null
}

verified_images() {
	cat "$MNT"/images/*/state | grep -c verified
}

# ---- few descriptors ------------------------------------------------------------------------------

images_up prefetch=always
for n in $(seq 1 30); do
	image_add "few$n" ok 5000
done
images_subscribe
# The hard limit of this shell could not be raised again: a shell of its own starts the daemon.
(ulimit -n 48 && mount_up) || bail 'the daemon does not start'
all_verified() {
	[ "$(verified_images)" -eq 30 ]
}
wait_for 30 all_verified || bail 'the images do not come'

# Opens all of them and keeps them open; what could not be opened is told.
open_all() {
	local fd path

	for path in "$MNT"/by-sha512/*; do
		{ exec {fd}<"$path"; } 2>/dev/null && head -c 1 <&"$fd" >/dev/null || echo refused
	done
}
check_like 'a daemon without free descriptors refuses to open' refused "$(open_all)"
check 'images that could not be opened for want of descriptors are as good as before' \
    wait_for 10 all_verified
check_is 'and none of them is taken for damaged' '' "$(grep 'code 53' "$LOG")"
mount_down

images_up
image_add small ok 5000
images_subscribe
(ulimit -S -n 64 && mount_up) || bail 'the daemon does not start'
worker=$(daemon_pid worker)
hard=$(awk '/^Max open files/ { print $5 }' "/proc/$worker/limits")
check_is 'the worker may use as many descriptors as the system lets it' "$hard" \
    "$(awk '/^Max open files/ { print $4 }' "/proc/$worker/limits")"

# ---- silent clients -------------------------------------------------------------------------------

if command -v socat >/dev/null; then
	silent=()
	for n in $(seq 1 64); do
		socat -u "UNIX-CONNECT:$SITE/run/control" - </dev/null >/dev/null 2>&1 &
		silent+=("$!")
	done
	answers() { timeout 10 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" status >/dev/null; }
	check 'clients that never ask anything do not keep others from the daemon' wait_for 30 answers
	kill "${silent[@]}" 2>/dev/null
else
	skip 'clients that never ask anything do not keep others from the daemon' 'no socat'
fi

# ---- the starter ends -----------------------------------------------------------------------------

kill -KILL "$(daemon_pid starter)"
starter_missed() {
	grep -q 'the starter was ended by signal 9 and is started again' "$LOG"
}
check 'the end of the starter is said' wait_for 10 starter_missed
before=$(cpu_ticks "$worker")
sleep 1		# a second of wall clock is what is measured
after=$(cpu_ticks "$worker")
check 'and costs no processor time' test "$((after - before))" -lt 20
check 'a read that needs one is served by the next' timeout 20 cat "$(image small)"
mount_down

# ---- the supervisor ends --------------------------------------------------------------------------

mount_up || bail 'the daemon does not start'
# The kernel now has the attributes of the root, and goes on giving them.
stat "$MNT" >/dev/null
kill -KILL "$(daemon_pid supervisor)"
check 'P08 without its supervisor the whole daemon ends' wait_for 10 no_daemon_left
check_like 'P08 and the mount says so' 'not connected' "$(ls "$MNT" 2>&1)"
check 'P08 a new daemon takes the dead mount away' mount_up
check 'P08 and serves again' read_whole small
mount_down

# ---- trust ends while an image is being stored ----------------------------------------------------

title='an image whose endorser is removed while it is being stored is cut from who reads it'
if [ -n "${VMI_SANITIZE:-}" ] || ! command -v strace >/dev/null; then
	skip "$title" 'no strace, or sanitizers'
else
	images_up
	image_add late ok 1000000
	images_subscribe
	mount_up || bail 'the daemon does not start'
	worker=$(daemon_pid worker)
	hex=$(sha512sum <"$WWW/late" | cut -d' ' -f1)
	strace -f -qq -o /dev/null -P "$SITE/cache/partial/$hex" -e trace=fdatasync \
	    -e inject=fdatasync:delay_enter=4000000 -p "$worker" 2>/dev/null &
	tracer=$!
	at_exit kill "$tracer"
	is_traced() { ! grep -qE '^TracerPid:[[:space:]]*0$' "/proc/$worker/status"; }
	wait_for 10 is_traced || bail 'strace does not attach'
	exec 8<"$(readlink -f "$(image late)")"
	# Answered as soon as the digest is right; the file is made durable meanwhile.
	head -c 4096 <&8 >/dev/null || not_ok 'the bytes are given before the disk has them'
	ctl -q endorser remove alice
	check_like "$title" 'Stale file handle' "$(head -c 65536 <&8 2>&1 >/dev/null)"
	exec 8<&-
	kill "$tracer" 2>/dev/null
	wait "$tracer" 2>/dev/null
	mount_down
fi
plan_done
