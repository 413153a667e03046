# tap.sh - what every spec test needs: results as TAP, cleanup, waiting.
#
# A bash library: source it first.  A title is a sentence that a manual could contain, with the rows of
# the fault catalogue that it covers in front: "C01 many readers cause one download".
#
#   ok TITLE                        a fact holds
#   not_ok TITLE [DETAIL...]        it does not; each DETAIL is printed below it
#   skip TITLE REASON               it could not be looked at
#   check TITLE COMMAND...          ok if the command succeeds; otherwise its output is printed
#   check_not TITLE COMMAND...      ok if the command fails (but was found and did not crash)
#   check_status TITLE N COMMAND... ok if its exit status is N
#   check_is TITLE WANTED FOUND     ok if the two texts are equal
#   check_like TITLE PATTERN TEXT   ok if the text matches the extended regular expression
#   note TEXT...                    a comment in the output
#   plan_done                       the last line of every test: prints the plan, ends with 0 or 1
#   skip_all REASON                 the whole file cannot run here
#   need WHAT...                    skip_all unless all of it is there: root, fuse, or a command
#   bail TEXT...                    what the test stands on did not come about
#
#   at_exit COMMAND...              run when the test ends, however it ends, last one first.  Register
#                                   the cleanup where the thing is made
#   before_plan COMMAND...          run by plan_done, before the plan: may add results
#   wait_for SECONDS COMMAND...     until the command succeeds; 1 when it has not in time

tap_n=0
tap_failed=0
tap_cleanups=()
tap_last_checks=()
tap_owner=$BASHPID

note() {
	printf '# %s\n' "$@"
}

ok() {
	tap_n=$((tap_n + 1))
	printf 'ok %d - %s\n' "$tap_n" "$1"
}

not_ok() {
	tap_n=$((tap_n + 1))
	tap_failed=$((tap_failed + 1))
	printf 'not ok %d - %s\n' "$tap_n" "$1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | cut -c1-400 | head -n 40 | sed 's/^/#   /'
}

skip() {
	tap_n=$((tap_n + 1))
	printf 'ok %d - %s # SKIP %s\n' "$tap_n" "$1" "$2"
}

# Runs it with its output in tap_said and its exit status in tap_status.
tap_run() {
	tap_status=0
	tap_said=$("$@" 2>&1 </dev/null) || tap_status=$?
}

check() {
	local title=$1

	shift
	tap_run "$@"
	if [ "$tap_status" -eq 0 ]; then
		ok "$title"
	else
		not_ok "$title" "$*" "exit status $tap_status" "$tap_said"
	fi
}

check_status() {
	local title=$1 wanted=$2

	shift 2
	tap_run "$@"
	if [ "$tap_status" -eq "$wanted" ]; then
		ok "$title"
	else
		not_ok "$title" "$*" "exit status $tap_status, not $wanted" "$tap_said"
	fi
}

check_not() {
	local title=$1

	shift
	tap_run "$@"
	if [ "$tap_status" -gt 0 ] && [ "$tap_status" -lt 126 ]; then
		ok "$title"
	else
		not_ok "$title" "$*" "exit status $tap_status" "$tap_said"
	fi
}

check_is() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" 'wanted:' "$2" 'found:' "$3"
	fi
}

check_like() {
	if [[ $3 =~ $2 ]]; then
		ok "$1"
	else
		not_ok "$1" "wanted a match of: $2" 'found:' "$3"
	fi
}

plan_done() {
	local i

	for ((i = 0; i < ${#tap_last_checks[@]}; i++)); do
		eval "${tap_last_checks[i]}"
	done
	printf '1..%d\n' "$tap_n"
	exit $((tap_failed > 0))
}

skip_all() {
	printf '1..0 # SKIP %s\n' "$*"
	exit 0
}

bail() {
	printf 'Bail out! %s\n' "$*"
	exit 1
}

need() {
	local what

	for what in "$@"; do
		case $what in
		root)	[ "$(id -u)" -eq 0 ] || skip_all 'needs root' ;;
		fuse)	{ : <>/dev/fuse; } 2>/dev/null || skip_all 'needs /dev/fuse' ;;
		*)	command -v "$what" >/dev/null || skip_all "needs the command '$what'" ;;
		esac
	done
}

tap_quote() {
	local text

	printf -v text '%q ' "$@"
	printf '%s' "$text"
}

at_exit() {
	tap_cleanups+=("$(tap_quote "$@")")
}

before_plan() {
	tap_last_checks+=("$(tap_quote "$@")")
}

# Not in subshells, which inherit the trap but have made nothing.
tap_end() {
	local status=$? i

	[ "$BASHPID" = "$tap_owner" ] || exit "$status"
	trap '' HUP INT TERM
	for ((i = ${#tap_cleanups[@]} - 1; i >= 0; i--)); do
		eval "${tap_cleanups[i]}" >/dev/null 2>&1 || :
	done
	exit "$status"
}
trap tap_end EXIT
trap 'exit 143' HUP INT TERM

# In between it looks every 20 ms: for conditions that nobody can tell us of.
wait_for() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))

	shift
	until "$@" >/dev/null 2>&1; do
		[ "${EPOCHREALTIME/[.,]/}" -lt "$end" ] || return 1
		sleep 0.02
	done
}
