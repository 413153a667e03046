#!/bin/bash
# Over and over: a site that subscribes, updates, expires and purges does not grow; ten commands that
# write at once and the daemon all get their turn; who lists meanwhile sees all of a list or nothing.
#
# time limit: 360 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl sqlite3 jq
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"

warm=3 cycles=12 seconds=6
# The history that is kept is full after 250 cycles.
[ -z "${VMI_LONG:-}" ] || warm=300 cycles=1000 seconds=60

tiny_up prefetch=always event_command=/bin/true
cp "$WWW/list" "$SITE/list.1"
tiny_file other
tiny_list 2 one:2:other two
cp "$WWW/list" "$SITE/list.2"
chmod 644 "$SITE"/list.?
ctl -q endorser add alice --from-cert "$PKI/alice.pem" || bail 'no endorser'
mount_up || bail "no mount: $(tail -n 5 "$LOG")"

serve() {
	cp "$SITE/list.$1" "$WWW/list.new" && mv "$WWW/list.new" "$WWW/list"
}

db() {
	sqlite3 -readonly "file:$SITE/state/catalogue.db?mode=ro" "$1"
}

# ---- a site that does not grow -------------------------------------------------------------------

there() {
	cmp -s "$MNT/cache/$1" "$WWW/$2"
}

# One cycle: a list comes with three images, changes one and drops one, and goes; all of it is purged.
cycle() {
	serve 1 && ctl -q subscribe "file://$WWW/list" --endorser alice --select all &&
	    wait_for "$VMI_PATIENCE" there one one && wait_for "$VMI_PATIENCE" there three three &&
	    serve 2 && ctl -q update && wait_for "$VMI_PATIENCE" there one other &&
	    ctl -q unsubscribe tiny && ctl -q expire && ctl -q expired --purge 0
}

run_cycles() {
	local i

	for ((i = 0; i < $1; i++)); do
		cycle || return 1
	done
}

n_fds() {
	ls "/proc/$(daemon_pid "$1")/fd" | wc -l
}

n_threads() {
	sed -n 's/^Threads:[[:space:]]*//p' "/proc/$(daemon_pid worker)/status"
}

rss() {
	sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$(daemon_pid worker)/status"
}

# Rows of everything but history, of which a bounded piece is kept.
rows() {
	local table

	for table in $(db "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"); do
		case $table in
		event|delivery|expired|sqlite_*) ;;
		meta)	echo "meta $(db 'SELECT count(*) FROM meta WHERE id NOT IN (SELECT meta FROM expired)')" ;;
		inode)	echo "inode $(db "SELECT count(*) FROM inode WHERE name NOT LIKE 'expired:%'")" ;;
		*)	echo "$table $(db "SELECT count(*) FROM $table")" ;;
		esac
	done
}

objects() {
	find "$SITE/cache" -type f ! -name '.vmimagefs*' | wc -l
}

# Descriptors are closed a moment after the last look at what they were for, and the handler is told
# of the last events after the last cycle.
fds_are() {
	[ "$(n_fds worker) $(n_fds supervisor) $(n_fds starter)" = "$1" ]
}

all_told() {
	[ "$(db "SELECT count(*) FROM delivery WHERE state <> 'delivered'")" -eq 0 ]
}

check 'a cycle works' run_cycles "$warm"
wait_for "$VMI_PATIENCE" all_told || not_ok 'the handler is told of it'
fds="$(n_fds worker) $(n_fds supervisor) $(n_fds starter)"
threads=$(n_threads) rss=$(rss) rows=$(rows) objects=$(objects) size=$(stat -c %s "$SITE/state/catalogue.db")
check "P22 $cycles cycles of subscribing, updating, expiring and purging all succeed" run_cycles "$cycles"
check 'P22 the event handler is told of everything' wait_for "$VMI_PATIENCE" all_told
check 'P22 after them all descriptors are closed again' wait_for "$VMI_PATIENCE" fds_are "$fds"
check_is 'P22 there are no more threads' "$threads" "$(n_threads)"
if [ -n "${VMI_SANITIZE:-}${VMI_WRAP:-}" ]; then
	skip 'P22 the daemon has not grown' 'a sanitizer keeps what was freed'
else
	check "P22 the daemon has not grown ($rss kB, then $(rss) kB)" [ "$(rss)" -le $((rss + 4096)) ]
fi
check_is 'P22 the database has no more rows, but for history' "$rows" "$(rows)"
check_is 'P22 no file is left in the store' "$objects" "$(objects)"
ctl -q expire
check 'P22 two thousand events are kept, not more' [ "$(db 'SELECT count(*) FROM event')" -le 2000 ]
check 'P22 and a thousand versions that were purged' [ "$(db 'SELECT count(*) FROM expired')" -le 1000 ]
if [ -n "${VMI_LONG:-}" ]; then
	grown=$(stat -c %s "$SITE/state/catalogue.db")
	check "P22 the database is as large as before ($size bytes, then $grown)" \
	    [ "$grown" -le $((size + size / 10)) ]
fi

# ---- a list that comes and goes ------------------------------------------------------------------

come_and_go() {
	local end=$((SECONDS + seconds))

	while [ $SECONDS -lt $end ]; do
		ctl -q subscribe "file://$WWW/list" --endorser alice --select none &&
		    ctl -q unsubscribe tiny || return 1
		echo
	done
}

serve 1
come_and_go >"$SITE/came" 2>"$SITE/came.errors" &
changer=$!
wrong=() looks=0 with=0
while kill -0 $changer 2>/dev/null; do
	found=$(ctl --json images | jq '.images | length')
	case $found in
	0) ;;
	3)	with=$((with + 1)) ;;
	*)	wrong+=("images: $found") ;;
	esac
	found=$(ctl --json subscriptions | jq -r '.subscriptions[] | "\(.id) \(.state) \(.title)"')
	[[ -z $found || $found == 'tiny ok '* ]] || wrong+=("subscriptions: $found")
	found=$(ls "$MNT/images" | paste -sd' ')
	[[ -z $found || $found == 'one three two' ]] || wrong+=("images/: $found")
	found=$(ls "$MNT/subscriptions" "$MNT/subscriptions/tiny/images" 2>/dev/null | grep -cxE 'one|two|three')
	[[ $found == [03] ]] || wrong+=("subscriptions/tiny/images: $found")
	looks=$((looks + 1))
done
wait $changer
check_is 'C10 a list can be subscribed to and left in a loop' 0 $?
note "$(wc -l <"$SITE/came") times, $looks looks, $with of them at a list; $(head -n 3 "$SITE/came.errors")"
check_is 'C10 who lists meanwhile sees all of it or nothing' '' "${wrong[*]}"
check 'C10 and sees both' [ "$with" -gt 0 -a "$with" -lt "$looks" ]

# ---- ten writers ---------------------------------------------------------------------------------

ctl -q subscribe "file://$WWW/list" --endorser alice --select all || bail 'no subscription'

# One of ten: says what became of each command.
writer() {
	local end=$((SECONDS + seconds)) n=0

	while [ $SECONDS -lt $end ]; do
		n=$((n + 1))
		case $(($1 % 5)) in
		0)	set -- "$1" select one ;;
		1)	set -- "$1" deselect one ;;
		2)	set -- "$1" endorser add "writer $1-$n" --subject "/CN=$1-$n" --issuer /CN=CA ;;
		3)	set -- "$1" update ;;
		4)	set -- "$1" expire ;;
		esac
		ctl -q "${@:2}" >>"$SITE/writer.$1" 2>&1 </dev/null
		echo "status $?" >>"$SITE/writer.$1"
	done
}

pids=()
for i in 0 1 2 3 4 5 6 7 8 9; do
	writer $i &
	pids+=($!)
done
wait "${pids[@]}"
# 5: the exit status of code 55.
check_is 'C09 ten commands that write at once, and the daemon, all succeed or say that it is busy' '' \
    "$(cat "$SITE"/writer.* | grep -vE '^status [05]$|busy|has been writing for too long' | sort | uniq -c | head -n 5)"
check "C09 each of them got its turn ($(cat "$SITE"/writer.* | grep -c '^status 0') commands)" \
    bash -c "for w in '$SITE'/writer.*; do grep -q '^status 0' \"\$w\" || exit 1; done"
check_is 'C09 what they added is there' \
    "$(cat "$SITE"/writer.[27] | grep -c '^status 0')" "$(ctl --json endorser list | jq '.endorsers | length - 1')"
check_like 'an endorser with any name has a safe directory' '^writer_2-1~[0-9a-f]{8}$' \
    "$(ls "$MNT/endorsers" | grep '^writer_2-1~')"
check_is 'C09 the database is sound' ok "$(db 'PRAGMA integrity_check')"
check 'C09 the daemon ends' mount_down
check 'C09 and finds nothing to mend when it starts again' mount_up
check_is 'C09 nothing was rebuilt' '' "$(grep -iE 'rebuilt|damaged' "$LOG")"
plan_done
