# day.sh - a day of a site, in steps, and what must be so after each of them, whatever happened since.
#
# A bash library: source it after tiny.sh, web.sh and verity.sh.  Catalogue and cache lie below $SITE/disk, which
# may be a disk of its own; a web server has the lists and images; an event handler writes down what it
# is told.  A step that was done once can be done again.
#
#   day_up                    the site; nothing is on its disk yet but two directories (day_disk)
#   day_disk                  makes these
#   day_live FROM MARK        does the steps from FROM on; MARK N is called when somebody was told that
#                             step N is done.  1: one could not be done.  Steps need a daemon from 4 on
#   day_steps                 how many there are
#   day_facts_wrong N         prints what does not hold although step N was done
#   day_told_wrong KIND [WHERE]   what is wrong with what handlers were told.  KIND all: not all of what has
#                             happened; some: something that has not.  WHERE: of what was told before
#                             ($SITE/told.before) only what was when WHERE was said
#   day_daemon_wrong [COMMAND...]   what is wrong with a daemon that is started now, and ends when all is
#                             told (and the command has ended)
#   day_verify_wrong          what the second `verify --deep` finds, and what is left that nobody knows
#
# shellcheck shell=bash

day_up() {
	tiny_up
	sed -i '/^state_dir\|^cache_dir/d' "$CONF"
	printf '%s\n' "state_dir = $SITE/disk/state" "cache_dir = $SITE/disk/cache" "event_dir = $SITE/handlers" >>"$CONF"
	mkdir "$SITE/disk" "$SITE/handlers"
	web_up "$WWW"
	tiny_base=$WEB_URL
	tiny_file one-2
	tiny_file big 700000
	tiny_keys[big]="sl:checksum:fsverity-sha512=$(verity_of "$WWW/big" "$WWW/big.fsv")"
	chmod 644 "$WWW/big.fsv"
	tiny_list 1 one two big
	cp "$WWW/list" "$SITE/list.1"
	tiny_list 2 one:2:one-2 two big
	mv "$WWW/list" "$SITE/list.2"
	cp "$SITE/list.1" "$WWW/list"
	: >"$SITE/writes"
	# What the handler was told: "TYPE ID UUID WHERE", WHERE: how much was written to $SITE/writes then.
	printf '#!/bin/sh\necho "$VMCATCHER_EVENT_TYPE ${VMCATCHER_EVENT_DC_IDENTIFIER:--} $VMCATCHER_EVENT_UUID %s" >>%s\n' \
	    "\$(stat -c %s $SITE/writes)" "$SITE/told" >"$SITE/handlers/record"
	chmod 755 "$SITE/handlers/record"
	day_forget_told
}

day_disk() {
	mkdir -m 755 "$SITE/disk/state" "$SITE/disk/cache" && chown nobody:nogroup "$SITE"/disk/{state,cache}
}

day_forget_told() {
	rm -f "$SITE/told"
	: >"$SITE/untold"
	: >"$SITE/told.before"
	: >"$SITE/told"
	chown nobody "$SITE/told"
}

# ---- the steps -------------------------------------------------------------------------------------------

day_version_is() {
	[ "$(cat "$MNT/images/one/version" 2>/dev/null)" = "$1" ]
}

day_reads() {
	cmp "$MNT/images/$1/image" "$WWW/${2:-$1}"
}

day_all_told() {
	ctl --json events | jq -e 'all(.events[]; .state != "waiting")'
}

day_waiting() {
	ctl --json events | jq -c '.events[] | select(.state == "waiting") | [.type, .identifier, .tries, .error]' | head -n 5
}

day_object() {
	local object

	object=$(tiny_object "$1")
	printf '%s\n' "$SITE/disk/${object#"$SITE/"}"
}

# For wait_for: a daemon that has gone ends the waiting.
day_wait() {
	day_held=
	wait_for "$VMI_PATIENCE" day_holds "$@" && [ -n "$day_held" ]
}

day_holds() {
	if "$@"; then day_held=yes; else no_daemon_left; fi
}

day_steps=14

day_step() {
	case $1 in
	1)	ctl -q endorser add alice --from-cert "$PKI/alice.pem" || ctl -q endorser show alice ;;
	2)	ctl -q subscribe "$WEB_URL/list" --endorser alice || ctl -q subscriptions tiny ;;
	3)	ctl -q select one two ;;
	4)	day_reads one && day_wait state_is one verified ;;
	5)	day_reads two && day_wait day_all_told ;;
	6)	cp "$SITE/list.2" "$WWW/list" && ctl -q update ;;
	7)	day_wait day_version_is 2 && day_reads one one-2 ;;
	8)	ctl -q select big && day_reads big && day_wait state_is big verified ;;
	9)	ctl -q deselect two || ! ctl --json images | jq -e '.images[] | select(.id == "two" and .selected)' ;;
	10)	ctl -q expired --purge 0 ;;
	11)	printf 'rot' | dd of="$(day_object one-2)" bs=1 seek=4711 conv=notrunc status=none ;;
	12)	ctl -q verify --fix one; ctl -q verify one && state_is one verified ;;
	13)	day_wait day_all_told ;;
	14)	ctl -q endorser unlink alice tiny ;;
	esac >/dev/null
}

day_live() {
	local n

	for ((n = $1; n <= day_steps; n++)); do
		day_step "$n" && "$2" "$n" || return 1
	done
}

# ---- what must be so -------------------------------------------------------------------------------------

# Each line: after which step, until which one is begun, what (jq, of the view).
day_facts='
1 99 any(.endorsers[]?; .name == "alice")
2 99 any(.subscriptions[]?; .id == "tiny")
3 14 any(.images[]?; .id == "one" and .selected)
3 9 any(.images[]?; .id == "two" and .selected)
4 11 any(.images[]?; .id == "one" and .state == "verified")
5 9 any(.images[]?; .id == "two" and .state == "verified")
5 99 any(.events[]?; .type == "AvailablePostfix" and .identifier == "one" and .state == "delivered")
6 14 any(.subscriptions[]?; .version == "2")
7 14 any(.images[]?; .id == "one" and .version == "2")
7 99 any(.expired[]?; .id == "one" and .version == "1")
8 14 any(.images[]?; .id == "big" and .state == "verified")
9 14 any(.images[]?; .id == "two" and (.selected | not))
9 99 any(.expired[]?; .id == "two")
10 99 all(.expired[]? | select(.id == "two" or (.id == "one" and .version == "1")); .purged)
12 14 any(.images[]?; .id == "one" and .state == "verified")
13 14 all(.events[]?; .state != "waiting")
14 99 (.images | length) == 0
14 99 any(.expired[]?; .id == "big" and .distrusted)
'

# What commands say, in $SITE/now; prints what is wrong with that.
day_look() {
	{
		ctl --json endorser list && ctl --json subscriptions && ctl --json images && ctl --json expired &&
		    ctl --json events
	} >"$SITE/now" 2>"$SITE/now.error" || {
		[ "$1" -eq 0 ] || echo "after step $1 a command fails: $(<"$SITE/now.error")"
		return 1
	}
}

# The bytes of what is said to be verified.
day_objects_wrong() {
	local hex

	for hex in $(jq -r '.images[]? | select(.state == "verified") | .sha512' "$SITE/now"); do
		[ "$(sha512sum <"$SITE/disk/cache/objects/${hex:0:2}/$hex" | cut -d' ' -f1)" = "$hex" ] ||
		    { [ "$1" -ge 10 ] && [ "$1" -lt 12 ]; } || echo "the object $hex is wrong"
	done
}

day_facts_wrong() {
	local from until fact filter='empty'

	day_look "$1" || return 1
	while read -r from until fact; do
		[ -n "$from" ] && [ "$from" -le "$1" ] && [ $(($1 + 1)) -lt "$until" ] || continue
		filter+=", (if $fact then empty else \"after step $1: not ${fact//\"/\\\"}\" end)"
	done <<<"$day_facts"
	jq -rs "add | $filter" "$SITE/now" 2>&1
	day_objects_wrong "$1"
	return 0
}

# Of a version that was gone before its turn came: by their numbers, as the log says.
day_untold() {
	sed -nE 's/.* is not told of event ([0-9a-f-]{36}), .*may not be given out.*/\1/p' "$LOG"
}

# In the order in which it happened for each image.
day_told_wrong() {
	local id

	ctl --json events 2>/dev/null | jq -r '.events[] | select(.type | startswith("Process") | not)
	    | "\(.identifier) \(.uuid)"' >"$SITE/happened"
	awk -v end="${2:-99999999999}" 'FILENAME == ARGV[1] && $4 > end { next }
	    $1 !~ /^Process/ && !seen[$3]++ { print $2, $3 }' "$SITE/told.before" "$SITE/told" >"$SITE/told.once"
	if [ "$1" = all ]; then
		day_untold >>"$SITE/untold"
		for id in one two big; do
			diff <(grep "^$id " "$SITE/happened" | grep -vFf "$SITE/untold") \
			    <(grep "^$id " "$SITE/told.once" | grep -vFf "$SITE/untold") >"$SITE/told.diff" ||
			    echo "of $id handlers were told: $(head -n 5 "$SITE/told.diff")"
		done
	elif grep -vxFf "$SITE/happened" "$SITE/told.once" >"$SITE/told.diff"; then
		echo "handlers were told of what has not happened: $(head -n 5 "$SITE/told.diff")"
	fi
}

# Within 5 s; tenfold where others take the machine's time.
day_daemon_wrong() {
	local begin=${EPOCHREALTIME/[.,]/} took

	day_untold >>"$SITE/untold"
	: >"$LOG"
	mount_up || { echo "no start: $(tail -n 2 "$LOG")"; return 1; }
	took=$((${EPOCHREALTIME/[.,]/} - begin))
	[ "$took" -le $((VMI_PATIENCE > 15 ? 50000000 : 5000000)) ] || echo "the start took $took us"
	[ $# -eq 0 ] || "$@"
	day_wait day_all_told >/dev/null || echo "events still wait: $(day_waiting)" "$(tail -n 3 "$LOG")"
	mount_down || { echo 'the daemon does not end'; mount_kill; }
	# What it has found to tell in the last moment is told by the next one.
	[ -n "${day_again:-}" ] || day_all_told >/dev/null 2>&1 || day_again=yes day_daemon_wrong
}

day_verify_wrong() {
	local left

	if ! ctl -q verify --deep --fix >"$SITE/verify" 2>&1 </dev/null || [ -s "$SITE/verify" ]; then
		ctl verify --deep >"$SITE/verify" 2>&1 </dev/null || echo "the second verify finds: $(<"$SITE/verify")"
	fi
	left=$(find "$SITE/disk/state" "$SITE/disk/cache" \( -name '*.new' -o -name '*.new-*' -o \
	    -path '*/lost+found*/*' \) -printf '%P\n')
	[ -z "$left" ] || echo "left over: $left"
}
