#!/bin/bash
# Servers that serve what was signed long ago: older lists in turns with newer ones, and the same list
# for ever.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl nginx curl
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up update_interval=10s
lists_up
image_file disk
ctl -q endorser add alice --from-cert "$PKI/alice.pem" || bail 'no endorser'

# ---- replay --------------------------------------------------------------------------------------

for version in 4 5; do
	publish alice "list.$version" a-list $version "$(image_entry disk "Disk $version" $version.0 disk)" ||
	    bail 'no list'
done
cp "$WWW/list.5" "$WWW/list"
ctl -q subscribe "$WEB_URL/list" --endorser alice --select all || bail 'the list is not accepted'
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check_is 'version 5 is shown' 5.0 "$(value "$MNT/images/disk/version")"
serve() {
	cp "$WWW/list.$1" "$WWW/list.new" && mv "$WWW/list.new" "$WWW/list"
	ctl -q update
}
stays() {
	is_value 5.0 "$MNT/images/disk/version" && is_value 5 "$MNT/subscriptions/a-list/version"
}
replayed() {
	local i status=0

	for i in 1 2 3; do
		serve 4
		status=$?
		[ $status -eq 4 ] || { echo "status $status"; return 1; }
		stays || { echo "version $(value "$MNT/images/disk/version")"; return 1; }
		ctl -q update
		serve 5 || { echo "the newer one is refused: $?"; return 1; }
		stays || return 1
	done
}
check 'T42 a server that serves an older list every other time does not bring it back' replayed
check 'T42 the image is read' cmp "$MNT/images/disk/image" "$WWW/disk"
told() {
	grep -c "version '4' is lower than '5'" "$LOG"
}
polls() {
	web_requests 'GET /list '
}
cp "$WWW/list.4" "$WWW/list.new" && mv "$WWW/list.new" "$WWW/list"
before=$(told)
poll=$(polls)
polled() {
	[ "$(polls)" -ge $((poll + $1)) ]
}
told_again() {
	[ "$(told)" -gt "$before" ]
}
check 'T42 the daemon that finds an older list logs it' wait_for 30 told_again
check 'T42 it looks again' wait_for 30 polled 3
check_is 'T42 but says it once, and not at each look' $((before + 1)) "$(told)"
check_like 'T42 the subscription says so' "version '4' is lower than '5'" \
    "$(value "$MNT/subscriptions/a-list/error")"
check_not 'T42 so does a command' ctl -q update
serve 5
check 'T42 until it is right again' wait_for 10 is_value '' "$MNT/subscriptions/a-list/error"

# ---- freeze --------------------------------------------------------------------------------------

PKI_LIST_EXPIRES=$(utc '+6 seconds') publish alice frozen frozen 1 "$(image_entry ice Ice 1.0 disk)" ||
    bail 'no list'
ctl -q subscribe "$WEB_URL/frozen" --endorser alice --select all || bail 'the list is not accepted'
check 'T43 a list that has a few seconds left is in force' is_value 1.0 "$MNT/images/ice/version"
check 'T43 its image is read' cmp "$MNT/images/ice/image" "$WWW/disk"
gone() {
	ctl -q update frozen
	[ ! -e "$MNT/images/ice" ] && [ ! -e "$MNT/cache/ice" ]
}
check 'T43 when it has expired, a server that goes on serving it does not keep it in force' wait_for 20 gone
check 'T43 its image is among the expired ones' has_expired ice list-expired
PKI_LIST_EXPIRES=$(utc '+6 seconds') publish alice gone gone 1 "$(image_entry steam Steam 1.0 disk)" ||
    bail 'no list'
ctl -q subscribe "$WEB_URL/gone" --endorser alice --select all || bail 'the list is not accepted'
check 'T43 another list is in force' is_value 1.0 "$MNT/images/steam/version"
web_down
steam_is_gone() {
	ctl -q update gone
	[ ! -e "$MNT/images/steam" ]
}
check 'T43 nor does a server that is gone' wait_for 20 steam_is_gone
check 'T43 the other images stay' stays
plan_done
