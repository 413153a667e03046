#!/bin/bash
# time limit: 420 s
#
# Commands and the daemon are killed at each call that changes anything on disk; nobody mends
# anything by hand afterwards.
#
# strace finds the calls of a whole run; each is a point: a call's name, the file or directory, and
# which one of its thread it is.  Then the same command runs again from the same beginning and is
# killed as it enters that call.  By default VMI_KILL_POINTS (160) of the commands and
# VMI_KILL_POINTS_WORKER (16) of the mount's worker are taken, evenly; with VMI_LONG all.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl strace jq setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
[ -z "$VMI_SANITIZE" ] || skip_all 'strace and sanitizers do not go together'

strace -qq -o /dev/null -e trace=none true 2>/dev/null || skip_all 'strace may not trace here'

calls=write,pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat
calls+=,ftruncate,fallocate,mkdir,mkdirat,openat,openat2,fchmod,fchown
n_points=${VMI_KILL_POINTS:-160}

# ---- the points of a command ---------------------------------------------------------------------

# Reads a trace (strace -f -y) and prints NAME NTH PATH of each changing call below state_dir,
# cache_dir and run_dir.  NTH counts as `-P PATH` and `when=NTH` do: the calls of that name, in that
# thread, that have to do with that path.  What is opened without O_CREAT changes nothing; the shared
# memory of SQLite is not on disk.
points_of_trace() {
	awk -v site="$SITE/" '
	/^[0-9]+ +[a-z0-9_]+\(/ {
		call = $0
		sub(/^[0-9]+ +/, "", call)
		name = call
		sub(/\(.*/, "", name)
		# The first descriptor with its path, or the first path.
		path = ""
		if (match(call, /\([0-9]+<\/[^>]*>/))
			path = substr(call, RSTART, RLENGTH)
		else if (match(call, /"\/[^"]*"/))
			path = substr(call, RSTART, RLENGTH)
		gsub(/^\(?[0-9]*[<"]|[>"]$/, "", path)
		rest = substr(path, length(site) + 1)
		if (substr(path, 1, length(site)) != site || rest !~ /^(state|cache|run)(\/|$)/ || rest ~ /-shm$/)
			next
		nth = ++count[$1 " " name " " path]
		if (name !~ /^openat2?$/ || call ~ /O_CREAT/)
			print name, nth, path
	}'
}

points=()

# scenario NAME ARG...: what `vmimagectl ARG...` does to the site that lies there now.
scenario() {
	local name=$1 before after found line

	shift
	tiny_save "$name"
	before=$(tiny_view)
	strace -f -y -qq -o "$SITE/trace" -e trace="$calls" "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q "$@" \
	    >/dev/null 2>&1 </dev/null
	after=$(tiny_view)
	[ "$before" != "$after" ] || bail "'$*' changes nothing"
	printf '%s\n' "$before" >"$SITE/before.$name"
	printf '%s\n' "$after" >"$SITE/after.$name"
	printf '%q ' "$@" >"$SITE/words.$name"
	found=0
	while read -r line; do
		points+=("$name $line")
		found=$((found + 1))
	done < <(points_of_trace <"$SITE/trace")
	note "$name: vmimagectl $*: $found points"
	[ "$found" -gt 0 ] || bail "no points of '$*' were found"
}

# ---- one point -----------------------------------------------------------------------------------

# killed_at NAME CALL NTH PATH ARG...: 0 if the command was killed there.
killed_at() {
	local call=$2 nth=$3 path=$4

	shift 4
	# In a shell of its own, which would say "Killed".
	(
		strace -f -qq -o /dev/null -P "$path" -e trace="$call" -e inject="$call:signal=KILL:when=$nth" \
		    "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q "$@" >/dev/null </dev/null
		exit $?
	) 2>/dev/null
	[ $? -eq 137 ]
}

# What is left that nobody knows: new files, things in lost+found, half images.
leftovers() {
	find "$SITE/state" "$SITE/cache" \( -name '*.new' -o -name '*.new-*' -o -path '*/lost+found/*' -o \
	    -path '*/partial/*' -o -path '*/quarantine/*' \) -printf '%P\n'
}

# is_as FILE: compares the site with a view; what differs is in $SITE/difference.
is_as() {
	diff <(jq -S . "$SITE/$1") <(tiny_view | jq -S . 2>&1) >"$SITE/difference"
}

# A new state_dir that is root's for a moment yet; the next command that writes takes it over.
is_beginning() {
	[ "$1" = begin ] && grep -qx '> "failed: 7"' "$SITE/difference"
}

# examine NAME: prints what is wrong with the site after a kill and a new start.
examine() {
	local name=$1 words

	is_as "before.$name" || is_as "after.$name" || is_beginning "$name" ||
	    echo "it is neither as before nor as after: $(<"$SITE/difference")"
	# Whoever was killed does it again; it may have been done.
	eval "words=($(<"$SITE/words.$name"))"
	ctl -q "${words[@]}" >/dev/null 2>&1 </dev/null
	is_as "after.$name" || echo "done again, it is not as after: $(<"$SITE/difference")"
	ctl -q verify --deep --fix >/dev/null 2>&1
	ctl verify --deep >"$SITE/verify" 2>&1 || echo "the second verify finds: $(<"$SITE/verify")"
	[ -z "$(leftovers)" ] || echo "left over: $(leftovers)"
}

# run_points NAME TITLE: kills at each of the chosen points of a scenario.
run_points() {
	local name=$1 title=$2 line fields wrong n_killed=0 n_missed=0 n_wrong=0 words

	eval "words=($(<"$SITE/words.$name"))"
	: >"$SITE/wrong"
	for line in "${chosen[@]}"; do
		read -ra fields <<<"$line"
		[ "${fields[0]}" = "$name" ] || continue
		tiny_load "$name"
		if ! killed_at "${fields[@]}" "${words[@]}"; then
			note "not reached: ${line//$SITE\//}"
			n_missed=$((n_missed + 1))
			continue
		fi
		n_killed=$((n_killed + 1))
		wrong=$(examine "$name")
		[ -z "$wrong" ] || { printf 'killed at %s\n%s\n' "${line//$SITE\//}" "$wrong" >>"$SITE/wrong"; n_wrong=$((n_wrong + 1)); }
	done
	note "$name: killed at $n_killed points, $n_missed not reached"
	if [ "$n_wrong" -gt 0 ] || [ "$n_killed" -eq 0 ] || [ "$n_missed" -gt $((n_killed / 10 + 1)) ]; then
		not_ok "$title" "$n_killed killed, $n_missed not reached, $n_wrong wrong" "$(<"$SITE/wrong")"
	else
		ok "$title"
	fi
	all_killed=$((all_killed + n_killed))
}

# choose: every k-th of all points.
choose() {
	local i

	chosen=()
	[ -z "${VMI_LONG:-}" ] || n_points=${#points[@]}
	[ "$n_points" -lt "${#points[@]}" ] || n_points=${#points[@]}
	for ((i = 0; i < n_points; i++)); do
		chosen+=("${points[$((i * ${#points[@]} / n_points))]}")
	done
	note "$n_points of ${#points[@]} points are tried"
}

# ---- scenarios: each begins where the one before ended ----------------------------------------------

tiny_up
scenario begin endorser add alice --from-cert "$PKI/alice.pem"
scenario subscribe subscribe "file://$WWW/list" --endorser alice
scenario select select one two
scenario fetch fetch one
tiny_file one-2
tiny_file four 5000
tiny_list 2 one:2:one-2 four
scenario update update
scenario replace fetch one
scenario deselect deselect one
ctl -q select one
scenario purge expired --purge 0
tiny_save fetched
scenario remove endorser remove alice
tiny_load fetched
scenario unsubscribe unsubscribe tiny
tiny_load fetched
echo 'this was a catalogue' >"$SITE/state/catalogue.db"
rm -f "$SITE"/state/catalogue.db-*
scenario rebuild verify --deep

# A list that has just run out; nothing expires by itself while no daemon runs.
tiny_load fetched
tiny_file five
PKI_LIST_EXPIRES=$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ) tiny_list 3 one:2:one-2 five
ctl -q update
list_is_past() {
	[ "$(date +%s)" -gt "$(date -d "$(ctl --json subscriptions | jq -r '.subscriptions[0].expires')" +%s)" ]
}
wait_for 10 list_is_past || bail 'the list does not run out'
scenario expire expire

choose
all_killed=0
run_points begin 'P01 a new site is begun or not, wherever the command is killed'
run_points subscribe 'P01 a list is subscribed or not'
run_points select 'P01 images are selected or not'
run_points fetch 'P01 an image is fetched or not, and fetching goes on'
run_points update 'P01 a new version of a list is taken whole or not at all'
run_points replace 'P01 a new version of an image replaces the old one or does not'
run_points deselect 'P01 an image is deselected or not'
run_points purge 'P01 files of expired images are removed or not, never lost'
run_points remove 'P01 an endorser is trusted or not, and nothing between'
run_points unsubscribe 'P01 a list is unsubscribed or not'
run_points rebuild 'P01 B20 a rebuild of the catalogue is finished by the next start'
run_points expire 'P01 images past their date are withdrawn or not'

# ---- the worker of a mount ------------------------------------------------------------------------------

# What a day brings: a first read, a new version that replaces the old one, a purge.  It stops when
# the daemon has gone.
version_is() {
	[ "$(cat "$MNT/images/one/version" 2>/dev/null)" = "$1" ]
}

purged() {
	! ctl --json expired | jq -e '.expired[] | select(.purged | not)' >/dev/null
}

live_a_day() {
	if version_is 1; then
		# Version 2 may have been on the disk already: then it comes while we look.
		cmp -s "$MNT/images/one/image" "$WWW/one" || version_is 2 || return 1
		wait_for "$VMI_PATIENCE" eval 'state_is one verified || no_daemon_left'
		no_daemon_left && return 1
		cp "$SITE/list.2" "$WWW/list"
		ctl -q update
	fi
	wait_for "$VMI_PATIENCE" eval 'version_is 2 || no_daemon_left'
	version_is 2 && cmp -s "$MNT/images/one/image" "$WWW/one-2" && ctl -q expired --purge 0 && purged
}

# attach ARG...: strace on the worker; returns when it sees each of its threads.
attach() {
	: >"$SITE/strace.said"
	strace -f -p "$(daemon_pid worker)" "$@" >/dev/null 2>"$SITE/strace.said" </dev/null &
	strace_pid=$!
	wait_for "$VMI_PATIENCE" grep -q attached "$SITE/strace.said"
}

detach() {
	kill -INT "$strace_pid" 2>/dev/null
	kill -TERM "$strace_pid" 2>/dev/null
	wait "$strace_pid" 2>/dev/null
}

# One point: prints what is wrong afterwards; status 2 if it was not reached.
kill_worker() {
	local call=$1 nth=$2 path=$3 left

	tiny_load daemon
	: >"$LOG"
	mount_up || { echo 'no mount'; return 1; }
	attach -o /dev/null -P "$path" -e trace="$call" -e inject="$call:signal=KILL:when=$nth" ||
	    echo 'strace does not attach'
	live_a_day
	wait_for 1 no_daemon_left
	detach
	if ! no_daemon_left; then
		mount_down
		return 2
	fi
	is_mounted && echo 'the mount is still there'
	mount_up || { echo "it is not mounted again: $(tail -n 3 "$LOG")"; return 1; }
	live_a_day || echo 'the day does not end'
	mount_down || echo 'something is left'
	is_as after.daemon || echo "it is not as after: $(<"$SITE/difference")"
	ctl -q verify --deep --fix >/dev/null 2>&1
	ctl verify --deep >"$SITE/verify" 2>&1 || echo "the second verify finds: $(<"$SITE/verify")"
	# A purge that was cut between row and file leaves a file that no row names any more.
	left=$(leftovers | grep -v "^lost+found/1-$(basename "$(tiny_object one)")\$")
	[ -z "$left" ] || echo "left over: $left"
	return 0
}

run_worker_points() {
	local worker_points=() n=${VMI_KILL_POINTS_WORKER:-16} i wrong status n_killed=0 n_missed=0

	mount_up || { echo 'no mount'; return 1; }
	attach -y -o "$SITE/trace" -e trace="$calls" || { echo 'strace does not attach'; return 1; }
	live_a_day || { echo 'the day does not end'; return 1; }
	detach
	mount_down
	tiny_view >"$SITE/after.daemon"
	mapfile -t worker_points < <(points_of_trace <"$SITE/trace")
	[ -z "${VMI_LONG:-}" ] && [ "$n" -lt "${#worker_points[@]}" ] || n=${#worker_points[@]}
	[ "$n" -gt 0 ] || { echo 'no points were found'; return 1; }
	: >"$SITE/wrong"
	for ((i = 0; i < n; i++)); do
		read -ra fields <<<"${worker_points[$((i * ${#worker_points[@]} / n))]}"
		status=0
		wrong=$(kill_worker "${fields[@]}") || status=$?
		[ -z "$wrong" ] || printf 'killed at %s\n%s\n' "${fields[*]}" "$wrong" >>"$SITE/wrong"
		[ $status -eq 2 ] && n_missed=$((n_missed + 1)) || n_killed=$((n_killed + 1))
	done
	note "worker: killed at $n_killed of ${#worker_points[@]} points, $n_missed not reached"
	cat "$SITE/wrong"
	[ ! -s "$SITE/wrong" ] && [ "$n_killed" -gt "$n_missed" ]
}

tiny_load subscribe
ctl -q subscribe "file://$WWW/list" --endorser alice --select all || bail 'no list'
tiny_save daemon
tiny_list 2 one:2:one-2 four
cp "$WWW/list" "$SITE/list.2"
tiny_load daemon
if [ -e /dev/fuse ]; then
	check 'P01 the worker of a mount is killed anywhere, and the next mount goes on' run_worker_points
else
	skip 'P01 the worker of a mount is killed anywhere, and the next mount goes on' 'needs /dev/fuse'
fi
note "$all_killed points of commands killed in all"

plan_done
