#!/bin/bash
# time limit: 600 s
# nightly limit: 14400 s
#
# A daemon is killed at each call that changes anything on disk, while it fetches an image as a stream and
# one block by block, takes a new version, tells an event handler, heals, purges, withdraws
# (lib/day.sh): once all its processes at the same moment, as when a machine ends; once the process alone
# that makes the call.  Then the day goes on, with a daemon that was started anew or has helped itself.
#
# By default VMI_KILL_SECONDS (25) long, spread over each call and kind of file; with VMI_NIGHTLY at
# each point.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv jq fsverity
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/day.sh"
day_up
. "$here/../lib/kill.sh"
kill_roots=(--root "$SITE/disk" --root "$SITE/run")
seconds=${VMI_KILL_SECONDS:-25}
[ -z "${VMI_LONG:-}" ] || seconds=${VMI_KILL_SECONDS:-250}
[ -z "${VMI_NIGHTLY:-}" ] || seconds=${VMI_KILL_SECONDS:-14000}

# A daemon under the killer: ends when all of its processes have.  By a shell, so that the killer is not taken
# for the daemon (daemon_pids).
killer_up() {
	: >"$LOG"
	"$kill_program" "${kill_roots[@]}" "$@" sh -c "exec '$VMIMAGEFS_BUILD/vmimagefs' -f -o 'config=$CONF'" \
	    </dev/null >>"$LOG" 2>&1 &
	killer_pid=$!
	wait_for "$VMI_PATIENCE" eval 'is_mounted || ! kill -0 $killer_pid'
}

note_step() {
	echo "$1" >"$SITE/step"
}

steps_done() {
	cat "$SITE/step" 2>/dev/null || echo 0
}

begin_anew() {
	tiny_load empty
	cp "$SITE/list.1" "$WWW/list"
	rm -f "$SITE/step"
	day_forget_told
}

go_on() {
	day_live $(($(steps_done) + 1)) note_step || echo "the day ends after step $(steps_done)"
}

# Whatever was killed, the day can be ended, and everything is right then.
examine() {
	day_facts_wrong "$(steps_done)"
	day_told_wrong some
	day_daemon_wrong go_on
	day_told_wrong all
	day_verify_wrong
	day_facts_wrong "$(steps_done)"
}

# kill_one HOW CALL KIND NTH: what is wrong afterwards.  2: it was not reached.
kill_one() {
	local how=$1 status=0

	shift
	begin_anew
	if [ "$how" = all ]; then
		killer_up --at "$@"
	else
		killer_up --one --at "$@"
	fi 2>/dev/null
	day_live 1 note_step 2>/dev/null
	# All of it is gone in a moment, and its mount is taken away by the next one.
	if ! no_daemon_left && ! { [ "$how" = all ] && wait_for 2 no_daemon_left; }; then
		mount_down >/dev/null || { echo 'the daemon does not end'; mount_kill; }
	fi
	wait "$killer_pid" 2>/dev/null || status=$?
	[ "$status" -eq 137 ] || return 2
	examine
}

# kill_all_of HOW < POINTS
kill_all_of() {
	local how=$1 line point wrong status n=0 n_missed=0 end=$((SECONDS + seconds / 2))

	: >"$SITE/wrong"
	while read -r line; do
		[ "$SECONDS" -lt "$end" ] || break
		read -ra point <<<"$line"
		status=0
		wrong=$(kill_one "$how" "${point[@]}") || status=$?
		if [ $status -eq 2 ]; then
			n_missed=$((n_missed + 1))
			[ -z "$wrong" ] || printf 'not killed at %s\n%s\n' "$line" "$wrong" >>"$SITE/wrong"
			continue
		fi
		n=$((n + 1))
		[ -z "$wrong" ] || printf 'killed at %s\n%s\n' "$line" "$wrong" >>"$SITE/wrong"
	done
	note "$how: killed at $n of $n_points points, $n_missed not reached"
	[ "$n" -gt 0 ] && [ "$n_missed" -le $((n / 2 + 2)) ] || echo "only $n of $((n + n_missed)) points were reached" >>"$SITE/wrong"
}

# Every so manieth first, then those between: whenever it ends, it was spread over all.
spread() {
	awk '{ line[NR] = $0 } END {
		for (step = 1; step < NR; step *= 2) { }
		for (; step >= 1; step = int(step / 2))
			for (i = step; i <= NR; i += step)
				if (!done[i]++)
					print line[i]
	}'
}

# All of them, or one of each call and kind of file.
kinds_of_day() {
	rm -f "$SITE/kinds"
	kill_choose day
}

day_disk
tiny_dirs=(disk run)
tiny_save empty
killer_up --trace "$SITE/points.day"
day_live 1 note_step || bail "the day ends after step $(steps_done): $(tail -n 5 "$LOG")"
mount_down || bail 'the daemon does not end'
wait "$killer_pid"
n_points=$(wc -l <"$SITE/points.day")
note "a day has $n_points points"
check 'a day has points' test "$n_points" -gt 100
kill_all_of all < <(kinds_of_day | spread)
check_is 'P01 whatever a daemon does when all of it is killed, the next one goes on, and nothing is lost' '' "$(<"$SITE/wrong")"
kill_all_of one < <(kinds_of_day | spread)
check_is 'P01 P07 whatever the process does that is killed, the others go on, and nothing is lost' '' "$(<"$SITE/wrong")"

plan_done
