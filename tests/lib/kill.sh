# kill.sh - a command is killed at each call that changes anything on disk, and nobody mends anything
# by hand afterwards.
#
# A bash library: source it after tiny.sh.  A scenario is a command and the site that it finds: first
# it runs once under lib/killer, which writes down its points; a point is a call's name, the kind of
# file, and which one of these it is.  Then it runs again from the same beginning for each point, and is
# killed, with all that it has started, as it enters that call.
#
#   kill_scenario NAME HOW ARG...     what `vmimagectl ARG...` does to the site that lies there now
#   kill_scenario_of NAME HOW WORD... the same of any command.  Later its site is that of $CONF, and its
#                             directories those of tiny_dirs, as they are now.  HOW: atomic, the command makes one step,
#                             and the site is as before or as after; steps, it makes several, and each
#                             image, list and endorser is as before or as after
#   kill_run NAME TITLE       tries the points of a scenario; one result.  All of them with VMI_LONG or
#                             VMI_NIGHTLY, else one of each call and kind of file, and an eighth of those
#                             again that scenarios have in common
#   kill_known NAME           its calls and kinds of files are tried by another test already
#   kill_total                says how many points there were
#   kill_accept NAME PATTERN  what `find` may go on to see in the scenario (extended regular expression)
#   kill_refuses NAME PATTERN why a daemon may refuse to start before the command was done
#   kill_ignore NAME FILTER   what need not be the same after the command was done again (jq)
#   kill_awaits NAME COMMAND...   true once a daemon has done by itself what was to be done
#   kill_also NAME COMMAND... what must hold after the command was done again, too; prints what is wrong
#
# After each: a daemon is usable within 5 s; the site is as before or as after; the command, done
# again, makes it as after; the second `verify --deep` finds nothing; nothing is left over that nobody
# knows.

kill_program=${VMIMAGEFS_KILLER:-$(dirname "${VMIMAGEFS_HOSTILE:-$tests_dir/../.build/tests/lib/hostile}")/killer}
[ -x "$kill_program" ] || skip_all 'tests/lib/killer is not built'
[ -z "${VMI_SANITIZE:-}" ] || skip_all 'what is killed and traced cannot be watched by a sanitizer as well'

declare -A kill_words=() kill_how=() kill_accepts=() kill_more=() kill_refusals=() kill_dirs=() kill_ignores=() kill_conf=()
declare -A kill_awaited=()
kill_all_points=0 kill_all_killed=0 kill_n_chosen=0
# Of the calls and kinds of a scenario every so manieth is tried, where not all are.
kill_new_every=1
# A start of a daemon beside each point is much of its time: here it is every so manieth.
kill_start_every=10
[ -z "${VMI_LONG:-}${VMI_NIGHTLY:-}" ] || kill_start_every=1
kill_roots=(--root "$SITE/state" --root "$SITE/cache" --root "$SITE/run")

kill_under() {
	# In a shell of its own, which would say "Killed".
	(
		"$kill_program" "${kill_roots[@]}" "$@" >/dev/null 2>&1 </dev/null
		exit $?
	) 2>/dev/null
}

kill_scenario() {
	local name=$1 how=$2

	shift 2
	kill_scenario_of "$name" "$how" "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" -q "$@"
}

kill_scenario_of() {
	local name=$1 n

	kill_how[$name]=$2
	kill_dirs[$name]=${tiny_dirs[*]} kill_conf[$name]=$CONF
	shift 2
	printf -v "kill_words[$name]" '%q ' "$@"
	tiny_save "$name"
	tiny_view >"$SITE/before.$name"
	kill_under --trace "$SITE/points.$name" "$@"
	tiny_view >"$SITE/after.$name"
	n=$(wc -l <"$SITE/points.$name")
	[ "$n" -gt 0 ] || bail "no points of '$*' were found"
	kill_all_points=$((kill_all_points + n))
}

kill_accept() {
	kill_accepts[$1]=$2
}

kill_refuses() {
	kill_refusals[$1]=$2
}

kill_ignore() {
	kill_ignores[$1]=$2
}

kill_awaits() {
	kill_awaited[$1]="${*:2}"
}

kill_also() {
	local name=$1

	shift
	printf -v "kill_more[$name]" '%q ' "$@"
}

# The points of a scenario that are tried.  Of each call and kind the one in the middle; every eighth of those
# that another scenario has had already, and one at least.
kill_choose() {
	if [ -n "${VMI_LONG:-}${VMI_NIGHTLY:-}" ]; then
		cat "$SITE/points.$1"
		return
	fi
	kill_n_chosen=$((kill_n_chosen + 1))
	touch "$SITE/kinds"
	awk -v shift="$kill_n_chosen" -v every="$kill_new_every" 'FILENAME == ARGV[1] { had[$0] = 1; next }
	    { key = $1 " " $2; if (!n[key]++) order[++m] = key }
	    END { for (i = 1; i <= m; i++) if ((i + shift) % (order[i] in had ? 8 : every) == 0 || (m < 8 && i == m))
		print order[i], int((n[order[i]] + 1) / 2) }' "$SITE/kinds" "$SITE/points.$1"
	kill_known "$1"
}

kill_known() {
	awk '{ print $1, $2 }' "$SITE/points.$1" | sort -u >>"$SITE/kinds"
}

# ---- one point -----------------------------------------------------------------------------------

# What is left that nobody knows: new files, things in lost+found, half images.
kill_leftovers() {
	find "$SITE/state" "$SITE/cache" \( -name '*.new' -o -name '*.new-*' -o -path '*/lost+found/*' -o \
	    -path '*/partial/*' -o -path '*/quarantine/*' \) -printf '%P\n' | grep -vE "$1"
}

# What a site shows, but for sessions: who looks for something to do, and finds it done, has begun one.
# shellcheck disable=SC2016 # a filter of jq
kill_shown='if type == "object" and .events then .events |= [.[] | select(.type | startswith("Process") | not) | del(.number)]
    else . end'
# kill_is_as FILE [FILTER]: compares the site with a view; what differs is in $SITE/difference.
kill_is_as() {
	! cmp -s "$SITE/$1" "$SITE/now" || return 0
	diff <(jq -S "$kill_shown | ${2:-.}" "$SITE/$1" 2>&1) <(jq -S "$kill_shown | ${2:-.}" "$SITE/now" 2>&1) >"$SITE/difference"
}

# Each thing by its own, whichever the step: what it is, and never less than before.
# shellcheck disable=SC2016 # a filter of jq
kill_things='
def things: [.. | objects | (.images?, .endorsers?, .subscriptions?) | arrays | .[] | objects
    | {id, name, sha512, version, uri, subject, credentials, selected} | with_entries(select(.value != null))];
($before | things) as $b | ($after | things) as $a | ($now | things)
| map(select(. as $t | ($b + $a) | index([$t]) | not)) | .[]'

kill_is_between() {
	local name=$1

	jq -n -c --slurpfile before "$SITE/before.$name" --slurpfile after "$SITE/after.$name" \
	    --slurpfile now "$SITE/now" "$kill_things" >"$SITE/difference" 2>&1
	[ ! -s "$SITE/difference" ]
}

# A new state_dir that is root's for a moment yet; the next command that writes takes it over.
kill_is_beginning() {
	grep -qx '"failed: 7"' "$SITE/now" && ! jq -e -s '.[0] | objects | .endorsers[0]' "$SITE/before.$1" >/dev/null
}

kill_is_right() {
	tiny_view >"$SITE/now"
	kill_is_as "before.$1" || kill_is_as "after.$1" || kill_is_beginning "$1" ||
	    { [ "${kill_how[$1]}" = steps ] && kill_is_between "$1"; }
}

# A daemon on what was left, within 5 s; tenfold where others take the machine's time.  One that refuses
# must have done so before.
kill_starts() {
	local begin=${EPOCHREALTIME/[.,]/} took limit=5000000 MNT

	[ "$VMI_PATIENCE" -le 15 ] || limit=50000000
	: >"$LOG"
	MNT=$(sed -n 's/^mountpoint = //p' "$CONF" 2>/dev/null)
	# A syslog that is not there is looked for again and again, which the filter of a test run ends.
	if ! mount_up -o log=stderr,prefetch=never,fill=never; then
		[[ $(tail -n 3 "$LOG") =~ ${kill_refusals[$1]:-^$} ]] || tail -n 3 "$LOG"
		return 1
	fi
	took=$((${EPOCHREALTIME/[.,]/} - begin))
	[ "$took" -le "$limit" ] || echo "the start took $took us"
	[ -z "${kill_awaited[$1]:-}" ] || wait_for 30 eval "${kill_awaited[$1]}" || echo 'the daemon does not do it by itself'
	mount_down || { echo 'the daemon does not end'; mount_kill; }
}

# kill_verify NAME PATTERN: one that finds nothing at once need not be asked again.  PATTERN: what may be left.
kill_verify() {
	local left

	if ! ctl -q verify --deep --fix >"$SITE/verify" 2>&1 </dev/null || [ -s "$SITE/verify" ]; then
		ctl verify --deep >"$SITE/verify" 2>&1 </dev/null || echo "the second verify finds: $(<"$SITE/verify")"
	fi
	left=$(kill_leftovers "$2")
	[ -z "$left" ] || echo "left over: $left"
}

# On a copy: a daemon does what is left to do in its own time, and has not been told to fetch.
kill_examine_daemon() {
	tiny_save killed
	! kill_starts "$1" || kill_verify "$1" "^partial/|${kill_accepts[$1]:-^\$}"
	tiny_load killed
}

# kill_examine NAME N: prints what is wrong with the site after the Nth kill of all and a new start.
kill_examine() {
	local name=$1 n=$2 words

	kill_is_right "$name" || echo "it is neither as before nor as after: $(<"$SITE/difference")"
	[ $((n % kill_start_every)) -ne 0 ] || [ ! -e /dev/fuse ] || kill_examine_daemon "$name"
	# Whoever was killed does it again; it may have been done.
	eval "words=(${kill_words[$name]})"
	"${words[@]}" >"$SITE/said" 2>&1 </dev/null
	tiny_view >"$SITE/now"
	kill_is_as "after.$name" "${kill_ignores[$name]:-.}" ||
	    echo "done again, it is not as after: $(<"$SITE/difference")" "it said: $(<"$SITE/said")"
	[ -z "${kill_more[$name]:-}" ] || eval "${kill_more[$name]}"
	kill_verify "$name" "${kill_accepts[$name]:-^\$}"
}

# kill_try NAME CALL KIND NTH: 1 if it was not reached.
kill_try() {
	local name=$1 words

	shift
	eval "words=(${kill_words[$name]})"
	tiny_load "$name"
	kill_under --at "$@" "${words[@]}"
	[ $? -eq 137 ]
}

kill_run() {
	local name=$1 title=$2 line point wrong n=0 n_missed=0 n_wrong=0 begin=$SECONDS tiny_dirs CONF=${kill_conf[$1]}

	read -ra tiny_dirs <<<"${kill_dirs[$name]}"
	tiny_save home
	kill_choose "$name" >"$SITE/chosen"
	: >"$SITE/wrong"
	while read -r line; do
		read -ra point <<<"$line"
		if ! kill_try "$name" "${point[@]}"; then
			note "$name: not reached: $line"
			n_missed=$((n_missed + 1))
			continue
		fi
		n=$((n + 1))
		wrong=$(kill_examine "$name" $((kill_all_killed + n)))
		[ -z "$wrong" ] || { printf 'killed at %s\n%s\n' "$line" "$wrong" >>"$SITE/wrong"; n_wrong=$((n_wrong + 1)); }
	done <"$SITE/chosen"
	tiny_load home
	note "$name: killed at $n of $(wc -l <"$SITE/points.$name") points, $n_missed not reached, $((SECONDS - begin)) s"
	if [ "$n_wrong" -gt 0 ] || [ "$n" -eq 0 ] || [ "$n_missed" -gt $((n / 10 + 1)) ]; then
		not_ok "$title" "$n killed, $n_missed not reached, $n_wrong wrong" "$(<"$SITE/wrong")"
	else
		ok "$title"
	fi
	kill_all_killed=$((kill_all_killed + n))
}

kill_total() {
	note "killed at $kill_all_killed of $kill_all_points points in all"
}
