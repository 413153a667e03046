#!/bin/bash
# time limit: 300 s
# A clock that is wrong, jumps, passes the ends of counters, or belongs to another place: what the daemon
# and its commands make of it.  The wall clock of all their programs is what clock_set says.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl sqlite3
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/clock.sh"

day=86400
count_objects() {
	find "$SITE/cache/objects" -type f | wc -l
}

n_events() {
	wc -l <"$MNT/events"
}

# stays SECONDS COMMAND...: it succeeds now and until then.
stays() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))

	shift
	while [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ]; do
		"$@" || return 1
		sleep 0.1
	done
}

is_shown() {
	[ -e "$MNT/cache/$1" ]
}

is_hidden() {
	! is_shown "$1"
}

said_54() {
	grep -q 'code 54: clock: ' "$LOG"
}

# exits_with N PATTERN COMMAND...: that exit status, and something like that said.
exits_with() {
	local wanted=$1 pattern=$2 status=0 said

	shift 2
	said=$("$@" 2>&1 </dev/null) || status=$?
	[ "$status" -eq "$wanted" ] && [[ $said =~ $pattern ]] || { echo "status $status: $said"; return 1; }
}

# ---- a clock that is far off when the daemon starts ---------------------------------------------------

images_up expire_keep=30d
clock_up
image_add kept ok
image_add gone ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads kept --mode pread && reads gone --mode pread || bail "$oracle_said"
unset 'image_names[1]' 'image_uris[1]'
images_update || bail 'no update'
wait_for 10 is_hidden gone || bail 'it is still there'
objects=$(count_objects)
mount_down || bail 'the daemon does not end'

clock_set $((3653 * day))
: >"$LOG"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'K02 ten years later every image has expired' wait_for 10 is_hidden kept
check 'K02 which is said with code 54' wait_for 10 said_54
check_like 'K02 and stands in the status' 'clock\.host: code 54: .* 36[0-9][0-9] days later' "$(cat "$MNT/status")"
nothing_deleted() {
	[ "$(count_objects)" -eq "$objects" ]
}
check 'K02 nothing is deleted for it, not even what had expired before' stays 2 nothing_deleted
mount_down || not_ok 'the daemon ends'
clock_set 0
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'K02 when the clock is right again the list counts again' ctl -q update
check 'K02 and the images are back' wait_for 10 is_shown kept
check 'K02 without being fetched again' eval 'reads kept --mode pread && [ "$(requests kept)" -eq 1 ]'
events=$(n_events)
mount_down || not_ok 'the daemon ends'

image_add later ok
years=1970
[ -z "${VMI_LONG:-}" ] || years="1970 2000"
for year in $years; do
	clock_set 0
	images_sign
	clock_set $(($(date -d "$year-01-03" +%s) - $(date +%s)))
	: >"$LOG"
	mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	check "K03 a clock of $year is said with code 54" wait_for 10 said_54
	check "K03 no list is accepted by a clock of $year" exits_with 5 'code 54' ctl update
	check "K03 nor subscribed to by a clock of $year" exits_with 5 'code 54' \
	    ctl subscribe "$SERVER/ok/list" --endorser alice
	check "K03 cached images are read by a clock of $year" reads kept --mode pread
	check "K03 I15 nothing new is shown by a clock of $year" test ! -e "$MNT/images/later"
	same_events() {
		[ "$(n_events)" -eq "$events" ]
	}
	check "K03 no event is made of it by a clock of $year" stays 2 same_events
	check "K03 nothing is deleted by a clock of $year" nothing_deleted
	mount_down || not_ok 'the daemon ends'
done
clock_set 0
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'K03 with the right clock the list is accepted' ctl -q update
check 'K03 and its images are there' wait_for 10 test -e "$MNT/images/later"

# ---- times that are none of ours ----------------------------------------------------------------------

mount_down || not_ok 'the daemon ends'
find "$SITE/cache" -type f -newermt 2000-01-01 ! -name '.*' -print0 | shuf -z --random-source="$WWW/kept" |
    while IFS= read -rd '' file; do
	touch -d "$([ $((n++ % 2)) -eq 0 ] && echo @0 || echo 2099-01-01)" "$file"
done
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'K10 whatever the times of stored files say, they are what they were' reads kept
check 'K10 and are not fetched again' [ "$(requests kept)" -eq 1 ]
check 'K10 and what has expired is kept as long as it was to be' nothing_deleted

# ---- lists that expire in the second in which they are looked at -----------------------------------------

PKI_LIST_CREATED=$(date -u -d '-1 minute' +%Y-%m-%dT%H:%M:%SZ) PKI_LIST_EXPIRES=$(date -u -d '-1 minute' +%Y-%m-%dT%H:%M:%SZ) \
    images_sign
check 'K09 a list that expires in the second of its making is refused' exits_with 4 'code 34' ctl update
PKI_LIST_EXPIRES=$(date -u +%Y-%m-%dT%H:%M:%SZ) images_sign
check 'K09 a list that expires in this second has expired' exits_with 4 'code 34' ctl update
check 'K09 the list before stays' reads kept --mode pread

# ---- other places ----------------------------------------------------------------------------------------

# A CRL of half an hour is one of yesterday, or of tomorrow, to whoever mixes local time with UTC.
pki_crl root from='-30 minutes' to='+30 minutes' && pki_trust_crl "$CERTS" root || bail 'no CRL'
shown() {
	(cd "$MNT" && cat images/*/{title,version,created,expires} subscriptions/*/{created,expires}
	    stat -L -c '%n %Y %s' images/*/image) 2>/dev/null
}
images_sign
mount_down || not_ok 'the daemon ends'
zones=(UTC Pacific/Kiritimati America/Caracas)
[ -z "${VMI_LONG:-}" ] || zones+=(No/Where 'XXX-9YYY,J1/0,J364/23')
for zone in "${zones[@]}"; do
	export TZ=$zone
	mount_up || bail "no mount with TZ=$zone"
	check "K06 with TZ=$zone a list is accepted as anywhere" ctl -q update
	wait_for 10 is_shown kept
	if [ "$zone" = UTC ]; then
		utc=$(shown)
	else
		check_is "K06 with TZ=$zone all dates are those of UTC" "$utc" "$(shown)"
	fi
	mount_down || not_ok 'the daemon ends'
done
unset TZ

# ---- a CRL that runs out while the daemon runs --------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
pki_crl root from='-1 hour' to='+2 seconds' && pki_trust_crl "$CERTS" root || bail 'no CRL'
sleep 3
image_add last ok
images_sign
check 'K05 after nextUpdate of a CRL no new list is accepted' exits_with 4 'code 50' ctl update
check 'K05 cached images stay' stays 1 reads kept --mode pread
pki_crl root && pki_trust_crl "$CERTS" root || bail 'no CRL'
check 'K05 with a new CRL lists are accepted again' ctl -q update
check 'K05 and their images are there' wait_for 10 reads last --mode pread
mount_down || not_ok 'the daemon ends'

# ---- a suspended host ---------------------------------------------------------------------------------------

sed -i 's/^update_interval = .*/update_interval = 1h/' "$CONF"
n_updates() {
	requests list
}
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
before=$(n_updates)
[ "$(sed -n 's/^next_update: //p' "$MNT/status")" != 0 ] || not_ok 'it updates by itself'
updated() {
	[ "$(n_updates)" -eq $((before + 1)) ]
}
# At each start there is one.
wait_for 10 updated && before=$((before + 1))
no_updater() {
	! pgrep -f "vmimagectl .*$SITE" >/dev/null
}
wait_for 10 no_updater
clock_set $((8 * 3600))
check 'K08 after a night asleep the update that is due is made' wait_for 10 updated
check 'K08 once, and not once for each that was missed' stays 2 updated
before=$(n_updates)
clock_set 0
check 'K08 when the clock is set back lists go on being updated' wait_for 10 updated
check 'K08 at most once' stays 2 updated
check 'K08 images are read all the time' reads kept --mode pread
mount_down || not_ok 'the daemon ends'
sed -i 's/^update_interval = .*/update_interval = off/; s/^read_timeout = .*/read_timeout = 2s/' "$CONF"
image_add never silent
images_update
if unshare -T --fork --monotonic 31536000 --boottime 63072000 true 2>/dev/null; then
	VMI_WRAP="$VMI_WRAP unshare -T --fork --monotonic 31536000 --boottime 63072000" mount_up ||
	    bail 'no mount in a time namespace'
	check 'K08 on a host that was up for years, asleep for half of it, images are read' reads kept
	waits_two_seconds() {
		timed fails never ETIMEDOUT || return 1
		[ "$took" -ge 1900 ] && [ "$took" -lt 20000 ] || { echo "after $took ms"; return 1; }
	}
	check 'K08 and deadlines are what they were' waits_two_seconds
	mount_down || not_ok 'the daemon ends'
else
	skip 'K08 deadlines in a time namespace' 'no time namespaces'
fi

# ---- a clock that is ahead, on a host that is never up for a day --------------------------------------------

export VMI_WRAP=
images_up expire_keep=30d
clock_up
image_add kept ok
image_add gone ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads kept --mode pread && reads gone --mode pread || bail "$oracle_said"
gone=$(object_of gone)
unset 'image_names[1]' 'image_uris[1]'
images_update || bail 'no update'
wait_for 10 is_hidden gone || bail 'it is still there'
mount_down || bail 'the daemon does not end'
ahead() {
	sqlite3 -cmd '.timeout 10000' "$SITE/state/catalogue.db" "$1"
}
clock_set $((40 * day))
: >"$LOG"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'K02 a host that was off for 40 days has a clock that is ahead' wait_for 10 said_54
mount_down || not_ok 'the daemon ends'
check_like 'K02 for how long stands in the catalogue' '^[0-9]+ [0-9]+$' \
    "$(ahead "SELECT value FROM note WHERE key = 'clock_ahead'")"
ahead "UPDATE note SET value = '86398' || substr(value, instr(value, ' ')) WHERE key = 'clock_ahead'"
: >"$LOG"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'K02 the next run counts on from there' wait_for 20 grep -q 'as it was expected again' "$LOG"
check 'K02 and deletes what has expired long ago' wait_for 10 test ! -e "$gone"
mount_down || not_ok 'the daemon ends'
check_is 'K02 what was counted is forgotten then' '' \
    "$(ahead "SELECT value FROM note WHERE key = 'clock_ahead'")"

# ---- a clock that leaps while the daemon runs ---------------------------------------------------------------

export VMI_WRAP=
images_up event_command=/bin/true
clock_up
image_add kept ok
PKI_LIST_EXPIRES=$(date -u -d '+300 days' +%Y-%m-%dT%H:%M:%SZ)
export PKI_LIST_EXPIRES
images_subscribe
unset PKI_LIST_EXPIRES
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads kept --mode pread || bail "$oracle_said"
: >"$LOG"
clock_set $((40 * day))
check 'K02 a clock that leaps by 40 days is ahead' wait_for 10 said_54
has_handler() {
	[ "$(ahead 'SELECT count(*) FROM handler')" -eq 1 ]
}
check 'K02 event handlers are not forgotten for it' stays 3 has_handler
ctl -q deselect kept || bail 'it cannot be deselected'
told() {
	[ "$(ahead "SELECT count(*) FROM delivery JOIN event ON id = event WHERE type = 'ExpirePostfix'
	    AND delivery.state = 'delivered'")" -eq 1 ]
}
check 'K02 and are told of what happens then' wait_for 10 told
ahead 'PRAGMA foreign_keys = ON; DELETE FROM handler'
check 'handlers that were forgotten are told again while the daemon runs' wait_for 10 has_handler
clock_set $((80 * day))
has_kept_handler() {
	ctl -q expire && has_handler
}
check 'K02 commands do not forget them after a leap' has_kept_handler
mount_down || not_ok 'the daemon ends'
clock_set $((120 * day))
check 'K02 nor where no daemon runs' has_kept_handler

# ---- a recheck that hangs -----------------------------------------------------------------------------------

export VMI_WRAP=
images_up expire_interval=1s watchdog=off
clock_up
image_add kept ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
wait_for 10 test -d "$MNT/images/kept" || bail 'no image'
stop_rechecker() {
	local pid

	for pid in $(cat "/proc/$1/task/$1/children"); do
		grep -qx vmimagectl "/proc/$pid/comm" && kill -STOP "$pid" && hung=$pid && return 0
	done 2>/dev/null
	return 1
}
hung=
check 'a recheck is stopped on its way' wait_for "$VMI_PATIENCE" stop_rechecker "$(daemon_pid starter)"
pki_revoke root alice && pki_crl root && pki_trust "$CERTS" root || bail 'no CRL'
check 'no other takes its place' stays 3 test -d "$MNT/images/kept"
: >"$LOG"
clock_set 0 4201
check 'after an hour it is killed, and that is said' wait_for "$VMI_PATIENCE" grep -q 'recheck: it has not ended' "$LOG"
check 'and the next one finds who was revoked' wait_for "$VMI_PATIENCE" is_hidden kept
check_not 'it is gone' kill -0 "$hung"
mount_down || not_ok 'the daemon ends'

# ---- the ends of counters -----------------------------------------------------------------------------------

export VMI_WRAP=
images_up
clock_up
rm -rf "$SITE/pki" "$CERTS"
mkdir "$CERTS"
pki_init "$SITE/pki" && pki_ca root to=2120-01-01 && pki_user alice root to=2120-01-01 &&
    pki_crl root to=2120-01-01 && pki_trust "$CERTS" root || bail 'no PKI that lasts'
image_add old ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for moment in 2038-01-19T03:14:08Z 2106-02-07T06:28:16Z; do
	second=$(date -d "$moment" +%s)
	clock_set $((second - 2 - $(date +%s)))
	image_add "at-${moment%%-*}" ok
	PKI_LIST_CREATED=$(date -u -d "@$((second - 60))" +%Y-%m-%dT%H:%M:%SZ)
	PKI_LIST_EXPIRES=$(date -u -d "@$((second + 86400))" +%Y-%m-%dT%H:%M:%SZ)
	export PKI_LIST_CREATED PKI_LIST_EXPIRES
	check "K07 two seconds before $moment a list is accepted" images_update
	check "K07 around $moment images are fetched and read" wait_for 10 reads "at-${moment%%-*}" --mode pread
	sleep 3
	check "K07 after $moment, too" reads old --mode pread
	check "K07 a list is accepted after $moment" images_update
	check_like "K07 the time of it is shown as it is, after $moment" "last_update: ${moment%%-*}-" "$(cat "$MNT/status")"
	check "K07 what is shown has not expired after $moment" stays 1 is_shown old
done
plan_done
