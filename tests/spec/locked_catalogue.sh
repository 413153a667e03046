#!/bin/bash
# Somebody has begun to write the catalogue and does not end: a shell of sqlite3 that was left open, a
# command that was stopped.  Readers are not to suffer for it, whatever becomes of the worker meanwhile.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl setpriv sqlite3 jq
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
	# Who writes just now is waited for.
	printf '.timeout 30000\nBEGIN IMMEDIATE; SELECT 1;\n' >&8
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

# 1000 events make a text that is longer than what a pipe takes.
sqlite3 "$SITE/state/catalogue.db" "WITH RECURSIVE
	n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
	INSERT INTO event (uuid, session, time, type, identifier, list_id, json)
	SELECT hex(randomblob(16)), 's', 1795000000, 'CorruptFound', 'x' || i, 'tiny',
	'{\"a\":\"' || hex(randomblob(300)) || '\"}' FROM n" || bail 'no events'
# The reader of a pipe that has seen the first line and goes no further: less, when it waits for a key.
pager_begin() {
	rm -f "$SITE/pipe"; mkfifo "$SITE/pipe"
	ctl "$@" >"$SITE/pipe" 2>/dev/null &
	shown=$!
	exec 7<"$SITE/pipe"
	read -r -t "$VMI_PATIENCE" line <&7
}
log_is_empty() {
	[ "$(sqlite3 "$SITE/state/catalogue.db" 'PRAGMA wal_checkpoint(TRUNCATE)')" = '0|0|0' ]
}
pager_begin --json events
ctl -q select two
check 'the log of the catalogue ends while a pager shows events' wait_for 10 log_is_empty
all=$({ echo "$line"; cat <&7; } | jq '.events | length')
check 'and who reads on gets them all' [ "$all" = 1000 ]
exec 7<&-; wait "$shown"
pager_begin --json events --follow
ctl -q deselect two
check 'and while who follows them reads no more' wait_for 10 log_is_empty
exec 7<&-; wait "$shown"
check 'P04 it ends' mount_down

lock_begin || bail "$(<"$SITE/locked")"
mount_fails() {
	"$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" >"$SITE/said" 2>&1 </dev/null && return 1
	grep -q 'another process has been writing for too long' "$SITE/said"
}
check 'B33 the first worker does not do without the check, and says what it waits for' mount_fails
lock_end

plan_done
