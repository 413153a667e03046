#!/bin/bash
# A new version of an image: it is fetched and verified before it takes the place of the old one, and
# whoever reads meanwhile sees one of the two, whole.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up
hostile_up
version=0

# release VERSION URL-OF-IT...: a list in which the image has that version, from $WWW/vVERSION.img.
release() {
	version=$((version + 1))
	publish alice one.list one $version "$(IMAGE_URI=$2/v$1.img image_entry apple Apple "$1" "v$1.img")" \
	    "$other" && ctl -q update one
}

is_now() {
	is_value "$1" "$MNT/images/apple/version" && cmp "$MNT/cache/apple" "$WWW/v$1.img"
}

for n in 1 2 3 4 5 6 7 8 9; do
	image_file v$n.img $((n * 100000))
done
image_file other.img
other=$(image_entry other Other 1 other.img)
ctl -q endorser add alice --from-cert "$PKI/alice.pem"
version=1
publish alice one.list one 1 "$(image_entry apple Apple 1 v1.img)" "$other"
ctl -q subscribe "$WEB_URL/one.list" --select all && mount_up || bail "no mount: $(tail -n 5 "$LOG")"
ctl -q fetch apple && wait_for "$VMI_PATIENCE" is_now 1 || bail 'no image'
hold guest "$MNT/cache/apple"
held guest "same $WWW/v1.img" >/dev/null

# ---- the usual way ------------------------------------------------------------------------------

asked() {
	grep -q "$1.img" "$SITE/requests"
}
unread() {
	[ "$(web_requests other.img)" -eq 0 ] && is_value selected "$MNT/images/other/state"
}
release 2 "$HOSTILE/stall:50"
check 'a new version is fetched by itself' wait_for "$VMI_PATIENCE" asked v2
check 'L24 while a new version is fetched the old one is served' is_now 1
check 'L24 while a new version is fetched all values are those of the old one' \
    is_value '1|100000|yes|verified' "$MNT"/images/apple/{version,size,selected,state}
half() {
	[[ $(<"$MNT/images/apple/pending") =~ 50\ ?%|100000 ]]
}
sha512=$(sha512sum <"$WWW/v2.img" | cut -d' ' -f1)
check_like 'the file pending says what is coming' \
    "version:? 2.*$sha512" "$(value "$MNT/images/apple/pending")"
check 'the file pending says how much of it has come' wait_for "$VMI_PATIENCE" half
curl -s -m 10 "$HOSTILE/release" >/dev/null
check 'L24 a new version takes the place of the old one when all of it has come' \
    wait_for "$VMI_PATIENCE" is_now 2
check_not 'the file pending goes when the new version is there' test -e "$MNT/images/apple/pending"
check_is 'L24 whoever has the old version open goes on with it' \
    same "$(held guest "same $WWW/v1.img")"
dir=$(expired_of apple replaced)
check 'L24 the old version is in expired/, with its successor' \
    is_value 'replaced|1|2' "$dir"/{reason,version,replaced_by}
check 'L24 the old version can be read in expired/' cmp "$dir/image" "$WWW/v1.img"
check 'an image that nobody has read is not fetched by itself' unread

# ---- what goes wrong ----------------------------------------------------------------------------

failed_once() {
	[ "$(grep -c 'v3.img' "$SITE/requests")" -ge 2 ]
}
release 3 "$HOSTILE/flip:middle"
check 'a new version with other bytes than signed is tried again' wait_for 60 failed_once
check 'a new version with wrong bytes leaves the old one in its place' is_now 2
check 'readers get the old version as long as the new one is not good' \
    cmp "$MNT/images/apple/image" "$WWW/v2.img"
check_like 'the file error says why a new version does not come' \
    'SHA-512' "$(value "$MNT/images/apple/error")"
check_is 'the state is that of the version that is served' verified "$(image_state apple)"
release 4 "$HOSTILE/status:404"
check 'a new version that is not there leaves the old one, too' lasting 1 is_now 2
release 2 "$HOSTILE/ok"
gone() {
	[ ! -e "$MNT/images/apple/pending" ]
}
check 'a list that goes back to what is there ends the wait' wait_for "$VMI_PATIENCE" gone
check 'going back to a version that is there needs no download' is_now 2

# ---- readers all the while ----------------------------------------------------------------------

# watch NAME DIR: every name is there at each look, and what it leads to is one of the versions.
watch() {
	local sums=$SITE/sums sum errors=0 rounds=0

	while [ ! -e "$SITE/stop" ]; do
		sum=$(sha512sum <"$1" | cut -d' ' -f1) && grep -qx "$sum" "$sums" || {
			echo "$1: no version has the bytes read: $sum" >>"$SITE/seen"
			break
		}
		rounds=$((rounds + 1))
	done 2>>"$SITE/seen"
	echo "$rounds" >>"$SITE/rounds"
}
for n in 2 5 6 7 8 9; do
	sha512sum <"$WWW/v$n.img" | cut -d' ' -f1
done >"$SITE/sums"
: >"$SITE/seen"
watchers=
for name in cache/apple images/apple/image by-title/Apple/image subscriptions/one/images/apple/image; do
	watch "$MNT/$name" &
	watchers="$watchers $!"
done
for n in 5 6 7 8 9; do
	release $n "$WEB_URL"
	wait_for "$VMI_PATIENCE" is_now $n || not_ok "version $n comes"
done
touch "$SITE/stop"
# shellcheck disable=SC2086 # a list of words
wait $watchers
check_is 'a reader in a loop sees the old or the new image, never a mixture, never none' \
    '' "$(<"$SITE/seen")"
check_is "readers in a loop find it by every name" 4 "$(awk '$1 > 5' "$SITE/rounds" | wc -l)"
check_is 'each version that was replaced has its entry in expired/' \
    '1 2 5 6 7 8' "$(cat "$MNT"/expired/apple.*/version | sort -n | paste -sd' ')"
check_is 'whoever opened the first of many versions still reads it' \
    same "$(held guest "same $WWW/v1.img")"
let_go guest

# ---- other ways ---------------------------------------------------------------------------------

configure prefetch never
image_file va.img && release a "$WEB_URL"
check 'with prefetch = never a new version takes its place at once' \
    wait_for "$VMI_PATIENCE" is_value 'a|selected' "$MNT"/images/apple/{version,state}
check_is 'with prefetch = never a new version is not fetched by itself' 0 "$(web_requests va.img)"
check 'with prefetch = never a new version is fetched when it is read' \
    cmp "$MNT/images/apple/image" "$WWW/va.img"
configure prefetch always
check 'with prefetch = always what is selected is fetched' \
    wait_for "$VMI_PATIENCE" cmp "$MNT/cache/other" "$WWW/other.img"
image_file vb.img && release b "$WEB_URL"
check 'with prefetch = always a new version takes its place once it is there' \
    wait_for "$VMI_PATIENCE" is_now b

mount_down
image_file vc.img && release c "$WEB_URL"
check_like 'without a daemon the old version stays until somebody fetches' '^b$' \
    "$(ctl --json show apple | sed -nE 's/.*"version": *"([^"]*)".*/\1/p' | head -n 1)"
configure prefetch never 2>/dev/null
check 'a version that is still to come is no fault of the rows, whatever prefetch says now' ctl -q verify
configure prefetch always 2>/dev/null
check 'fetch brings the new one' ctl -q fetch apple
check_like 'a version that was fetched without a daemon is in its place' '^c$' \
    "$(ctl --json show apple | sed -nE 's/.*"version": *"([^"]*)".*/\1/p' | head -n 1)"
mount_up
check 'what was fetched without a daemon is served when it is mounted again' \
    wait_for "$VMI_PATIENCE" is_now c
configure prefetch auto
image_file vd.img && release d "$HOSTILE/stall:50"
wait_for "$VMI_PATIENCE" asked vd
asked_twice() {
	[ "$(grep -c 'vd.img' "$SITE/requests")" -ge 2 ]
}
mount_down && mount_up
check 'a fetch that a restart interrupted goes on' wait_for "$VMI_PATIENCE" asked_twice
check 'a restart in the middle of a fetch serves the old version' is_now c
curl -s -m 10 "$HOSTILE/release?always" >/dev/null
check 'the version whose fetch was interrupted comes in the end' wait_for "$VMI_PATIENCE" is_now d

plan_done
