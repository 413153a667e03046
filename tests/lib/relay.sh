# relay.sh - a long line in front of a server on this host (tests/lib/relay).
#
# A bash library: source it after tap.sh.
#
#   relay_up PORT [ARG...]    a line to 127.0.0.1:PORT; ARGs: --delay MS, --rate BYTES.  Sets RELAY, its
#                             URL, RELAY_PORT and RELAY_PID
#   relay_down                it is cut
#   relay_count WORD          a number of its statistics: connections, open, most, up, down

relay_program=${VMIMAGEFS_RELAY:-$(dirname "${VMIMAGEFS_HOSTILE:-$tests_dir/../.build/tests/lib/hostile}")/relay}
[ -x "$relay_program" ] || skip_all 'tests/lib/relay is not built'

relay_stop() {
	kill "$1" 2>/dev/null && wait "$1" 2>/dev/null
	return 0
}

relay_up() {
	local port=$1 dir

	shift
	dir=$(mktemp -d "${TMPDIR:-/tmp}/vmimagefs-relay.XXXXXX") || bail 'mktemp failed'
	at_exit rm -rf "$dir"
	"$relay_program" --to "$port" "$@" >"$dir/ports" </dev/null &
	RELAY_PID=$!
	at_exit relay_stop "$RELAY_PID"
	wait_for 10 grep -qx ready "$dir/ports" || bail 'the relay does not start'
	RELAY_PORT=$(sed -n 's/^port //p' "$dir/ports")
	RELAY_STATS=$(sed -n 's/^stats //p' "$dir/ports")
	RELAY=http://127.0.0.1:$RELAY_PORT
}

relay_down() {
	relay_stop "$RELAY_PID"
}

relay_count() {
	(exec 3<>"/dev/tcp/127.0.0.1/$RELAY_STATS" && sed -n "s/^$1 //p" <&3)
}
