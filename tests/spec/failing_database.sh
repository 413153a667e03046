#!/bin/bash
# time limit: 120 s
#
# A database that cannot be read, written, synced, locked or mapped, at each call that SQLite makes to
# the system (its VFS): what was begun is rolled back, the site is as before or as after.  And another
# process that writes for too long.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv sqlite3
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/vmcatcher.sh"
. "$here/../lib/sweep.sh"

tiny_up
sweep_up
tiny_subscribe

# ---- somebody else writes ------------------------------------------------------------------------

# Holds the write lock of the catalogue, as a process would that hangs in a transaction.
lock_up() {
	mkfifo "$SITE/sql"
	sqlite3 "$SITE/state/catalogue.db" <"$SITE/sql" >"$SITE/sql.said" 2>&1 &
	lock_pid=$!
	exec 7>"$SITE/sql"
	at_exit kill "$lock_pid"
	printf 'BEGIN IMMEDIATE;\nSELECT 1;\n' >&7
	wait_for "$VMI_PATIENCE" grep -q 1 "$SITE/sql.said" || bail 'the database cannot be locked'
}

lock_down() {
	echo 'ROLLBACK;' >&7
	exec 7>&-
	wait "$lock_pid"
}

first_site=$SITE
ctl -q fetch two || bail 'cannot fetch'
view_before=$(tiny_view)
lock_up
(
	status=0
	ctl deselect one >"$SITE/deselect.said" 2>&1 </dev/null || status=$?
	echo "$status" >"$SITE/deselect.status"
) &
waits=$!
at_exit kill "$waits"
check_is 'B33 who only reads does not wait for a process that writes' "$view_before" "$(tiny_view)"
check 'B33 what is stored can be taken out meanwhile' ctl -q get two "$SITE/copy"

# ---- every call of SQLite's ---------------------------------------------------------------------------

# On a site of its own, while the command above waits.
tiny_up
sweep_up
sweep_faults=("${sweep_sqlite[@]}")
# There is time: the command waits for longer.
sweep_share=1

swept_db() {
	local title=$1

	shift
	swept "B34 $title" vmimagectl -c "$CONF" -q "$@"
}

ctl -q endorser add alice --from-cert "$PKI/alice.pem"
swept_db 'a list is imported or not, whichever call of the database fails' subscribe "file://$WWW/list" --endorser alice
ctl -q subscribe "file://$WWW/list" --endorser alice
swept_db 'images are selected or not' select one two
ctl -q select one two
swept_db 'a fetched image is noted or not' fetch one
ctl -q fetch one
tiny_file one-2
tiny_list 2 one:2:one-2
swept_db 'a new version of a list is taken or not' update

# Events that wait for a handler.
printf '#!/bin/sh\nexit 0\n' >"$SITE/handler" && chmod 755 "$SITE/handler"
cache_dirs "$SITE/vmcatcher"
export VMIMAGEFS_CONFIG=$CONF VMCATCHER_RDBMS=sqlite:///$SITE/state/catalogue.db
# Each event is a step; in the end the handler has been told of all.
none_waits="[ \"\$(sqlite3 '$SITE/state/catalogue.db' \"SELECT count(*) FROM delivery WHERE state <> 'delivered'\")\" = 0 ]"
all_is_well=$sweep_check
sweep_check="$none_waits && $sweep_check"
sweep_options=(-w)
swept 'B34 events are delivered or wait, none is lost' vmcatcher_cache -x "$SITE/handler"
sweep_options=()
sweep_check=$all_is_well
unset VMIMAGEFS_CONFIG VMCATCHER_RDBMS

echo 'this was a catalogue' >"$SITE/state/catalogue.db"
rm -f "$SITE"/state/catalogue.db-*
# What was damaged is kept beside, with the time.
sweep_options=(-x)
swept_db 'a damaged catalogue is rebuilt, or not yet' verify --deep
sweep_options=()

# ---- and it has waited long enough -----------------------------------------------------------------------

site_use "$first_site"
export VMIMAGEFS_LIBEXECDIR=$SITE/libexec
wait_for 45 test -s "$SITE/deselect.status"
check_is 'B33 a command waits for 30 s at most, and ends with status 5' 5 "$(<"$SITE/deselect.status")"
check_like 'B33 while it waits it says so' 'another process is writing the catalogue: waiting' \
    "$(<"$SITE/deselect.said")"
check_like 'B33 in the end it is refused with code 55' 'writing for too long.*code 55' "$(<"$SITE/deselect.said")"
lock_down
check_is 'B33 nothing of it is done' "$view_before" "$(tiny_view)"
check 'B33 afterwards it works' ctl -q deselect one

plan_done
