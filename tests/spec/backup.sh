#!/bin/bash
# A backup that is made while the daemon runs and lists change, and what another host makes of it.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv sqlite3 jq
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up
ctl -q endorser add alice --from-cert "$PKI/alice.pem"
ctl -q endorser add 'Größe & Söhne' --from-cert "$PKI/bob.pem"
for image in apple pear plum; do
	image_file $image.img
done
one() {
	publish alice one.list one "$1" "$(image_entry apple Apple "$1" apple.img)" "$(image_entry pear Pear 1 pear.img)"
}
one 1
publish bob two.list two 1 "$(image_entry plum Plum 1 plum.img)"
ctl -q subscribe "$WEB_URL/one.list" --endorser alice --select all
ctl -q subscribe "$WEB_URL/two.list" --select none
mount_up || bail 'no mount'
check 'images are fetched' ctl -q fetch --all
# One that has been replaced, so that expired/ is not empty.
image_file apple.img && one 2 && ctl -q update one
ctl -q fetch --all
check 'a replaced image is kept in expired/' wait_for "$VMI_PATIENCE" has_expired apple

# What vmimagefs.8 says.  A message may go while it is copied.
copy() {
	cp -a "$@" 2>"$SITE/copy.said" || {
		cat "$SITE/copy.said" >&2
		! grep -v '/messages/.* No such file or directory$' "$SITE/copy.said"
	}
}
back_up() {
	mkdir -p "$2" &&
	    copy "$1/site.json" "$1/messages" "$2" &&
	    sqlite3 "$1/catalogue.db" ".timeout 10000" ".backup '$2/catalogue.db'" &&
	    copy "$1/messages" "$2"
}
put_back() {
	cp -a "$1/." "$2" && chmod 600 "$2/catalogue.db" && chown -R nobody:nogroup "$2"
}

# Names and what stands in the files; not when a list was looked at last, nor the daemon's own figures.
view() {
	(cd "$MNT" && find . -path ./status -prune -o -path ./log -prune -o -type f -size -64k ! -name image ! -name tried \
	    ! -name updated -print0 | LC_ALL=C sort -z | xargs -0 grep -aH . | grep -avE '^\./(status|metrics)')
	(cd "$MNT" && find . \( -type d -o -type l -o -type f \) -printf '%p %y %i %l %m\n' | LC_ALL=C sort)
	for words in 'endorser list' subscriptions images expired; do
		# shellcheck disable=SC2086
		ctl --json $words | jq -cS 'del(.. | .tried?, .updated?)'
	done
}

# While lists and decisions change, without an end.
changing() {
	local n

	for ((n = 3; ; n++)); do
		one "$n.0" && ctl -q update one
		ctl -q select plum && ctl -q deselect plum
	done >/dev/null 2>&1
}
changing &
changer=$!
at_exit kill "$changer"
failed=0
for n in {1..8}; do
	back_up "$SITE/state" "$SITE/backup.$n" || failed=$((failed + 1))
done
kill "$changer" && wait "$changer" 2>/dev/null
check_is 'A20 a backup can be made while lists and decisions change' 0 "$failed"
wait_for "$VMI_PATIENCE" ctl -q deselect plum
ctl -q fetch --all
check 'A20 a backup of a daemon that runs is made' back_up "$SITE/state" "$SITE/backup"
wanted=$(view)
first=$SITE www=$WWW

# ---- on another host ----------------------------------------------------------------------------

# other NAME BACKUP: a host that has the same configuration, and nothing else.
other() {
	site_up
	cp -a "$first/certificates/." "$CERTS"
	grep '^tls_ca' "$first/vmimagefs.conf" >>"$CONF"
	mkdir -m 711 "$SITE/state"
	put_back "$1" "$SITE/state"
}

other "$first/backup"
cp -a "$first/cache" "$SITE/cache"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check_is 'A20 with the cache the other host shows the same, without a request' '' "$(diff <(echo "$wanted") <(view) | head -n 20)"
check 'A20 the images there have their bytes' cmp "$MNT/images/apple/image" "$www/apple.img"
check 'A20 what the other host says of its catalogue is good' ctl -q verify --deep
mount_down

other "$first/backup"
said=$(mount_up 2>&1; tail -n 3 "$LOG")
check_like 'A20 without the cache the other host says what is missing' 'init-cache' "$said"
check 'A20 a new cache can be marked as its own' ctl -q config init-cache
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
# Until the daemon has looked, the catalogue calls verified what is not there: what is read is there.
fetched() {
	ctl -q fetch --all && cmp "$MNT/images/apple/image" "$www/apple.img" &&
	    cmp "$MNT/images/pear/image" "$www/pear.img" && state_is apple verified && state_is pear verified
}
check 'A20 then the images are fetched again' wait_for "$VMI_PATIENCE" fetched
# What only expired/ had is not to be had any more, and events tell of what was not there.
listed() {
	grep -aE '^\./(images|cache|subscriptions|endorsers|SHA512SUMS)|^\{.*"(endorsers|subscriptions|images)":'
}
check_is 'A20 and the endorsed images are the same' '' \
    "$(diff <(listed <<<"$wanted") <(view | listed) | head -n 20)"
mount_down

good=0
for n in {1..8}; do
	other "$first/backup.$n"
	cp -a "$first/cache" "$SITE/cache"
	if mount_up && ctl -q verify --deep && [ -n "$(ctl --json images | jq -r '.images[]|select(.id == "pear").id')" ] &&
	    ctl -q update >/dev/null; then
		good=$((good + 1))
	else
		note "backup $n:" "$(tail -n 3 "$LOG")"
	fi
	mount_down
done
check_is 'A20 each backup that was made amid changes can be used' 8 "$good"

plan_done
