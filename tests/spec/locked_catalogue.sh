#!/bin/bash
# Somebody has begun to write the catalogue and does not end: a shell of sqlite3 that was left open, a
# command that was stopped.  Readers are not to suffer for it, whatever becomes of the worker meanwhile.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl setpriv sqlite3
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"

tiny_up
tiny_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
cmp "$MNT/images/one/image" "$WWW/one" || bail 'no image'

lock_begin() {
	rm -f "$SITE/sql"; mkfifo "$SITE/sql"
	sqlite3 "$SITE/state/catalogue.db" <"$SITE/sql" >"$SITE/locked" 2>&1 &
	locker=$!
	exec 8>"$SITE/sql"
	echo 'BEGIN IMMEDIATE; SELECT 1;' >&8
	wait_for "$VMI_PATIENCE" grep -q 1 "$SITE/locked"
}

lock_end() {
	exec 8>&-
	wait "$locker"
}

is_locked() {
	! sqlite3 "$SITE/state/catalogue.db" 'BEGIN IMMEDIATE' 2>/dev/null
}

# The same open file goes on, and so does one that is opened now.
go_on() {
	cmp <(head -c 5000 <&9) <(head -c "$1" "$WWW/one" | tail -c 5000) && cmp "$MNT/images/one/image" "$WWW/one"
}

# By signal: a command is answered by who waits for the lock, too.
exchanged() {
	local before

	before=$(daemon_pid worker)
	kill -USR2 "$(daemon_pid supervisor)"
	worker_wait "$before"
}

exec 9<"$MNT/images/one/image"
lock_begin || bail "$(<"$SITE/locked")"
check 'the catalogue is locked' is_locked
: >"$LOG"
check 'B33 a worker that is killed has a successor all the same' worker_kill
check 'B33 and who reads goes on' go_on 5000
check_not 'B33 in the same mount' grep -q 'mounted anew\|no worker for' "$LOG"
check 'B33 what was left out is said' grep -q 'writing for too long.*it is checked at the next start' "$LOG"
check 'B33 another program takes over' exchanged
check 'B33 and who reads goes on' go_on 10000
check 'the catalogue was locked through all of it' is_locked
exec 9<&-
lock_end
check 'when the lock is gone the site can be changed' ctl -q deselect two
check 'and the daemon sees it' wait_for "$VMI_PATIENCE" eval '[ ! -e "$MNT/cache/two" ]'
check 'P04 it ends' mount_down

lock_begin || bail "$(<"$SITE/locked")"
mount_fails() {
	"$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" >"$SITE/said" 2>&1 </dev/null && return 1
	grep -q 'another process has been writing for too long' "$SITE/said"
}
check 'B33 the first worker does not do without the check, and says what it waits for' mount_fails
lock_end

plan_done
