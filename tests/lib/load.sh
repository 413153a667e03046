# load.sh - who reads in the background while something happens to the daemon.
#
# A bash library: source it after images.sh.  What goes wrong is kept in $SITE/wrong; load holds the pids.
#
#   load_begin             clears what was kept; from now on at_work is true
#   at_work                whether those in the background go on: until end_load, the end of the site, or ours
#   reader NAME N ARG...   reads the image with the oracle while at_work; $SITE/rounds.N grows with each time
#   end_load               waits for all of load; whether nothing went wrong

load_begin() {
	touch "$SITE/at_work"
	rm -f "$SITE"/rounds.*
	: >"$SITE/wrong"
	load=()
}

at_work() {
	[ -e "$SITE/at_work" ] && kill -0 $$ 2>/dev/null
}

reader() {
	local name=$1 n=$2 said

	shift 2
	while at_work; do
		said=$("$oracle_program" "$@" "$(image "$name")" "$WWW/$name" 2>&1 </dev/null) ||
		    echo "$n $name $*: $? $said" >>"$SITE/wrong"
		echo >>"$SITE/rounds.$n"
	done
}

end_load() {
	rm -f "$SITE/at_work"
	wait "${load[@]}"
	[ ! -s "$SITE/wrong" ] || { head -n 20 "$SITE/wrong"; return 1; }
}
