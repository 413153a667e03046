#!/bin/bash
# time limit: 600 s
#
# Commands are killed at each call that changes anything on disk; nobody mends anything by hand
# afterwards (lib/kill.sh).

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root openssl jq setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/tiny.sh"
. "$here/../lib/verity.sh"

tiny_up
pki_user bob root || bail 'no PKI'
. "$here/../lib/kill.sh"

# ---- trust, lists, images: each begins where the one before ended ------------------------------------

kill_scenario begin atomic endorser add alice --from-cert "$PKI/alice.pem"
kill_scenario credential atomic endorser add alice --from-cert "$PKI/bob.pem"
kill_scenario uncredential atomic endorser remove alice --subject "$(pki_dn bob)" --issuer "$(pki_issuer bob)"
kill_scenario subscribe atomic subscribe "file://$WWW/list" --endorser alice
kill_scenario select atomic select one two
kill_scenario fetch atomic fetch one
tiny_save one
tiny_file one-2
tiny_file four 5000
tiny_list 2 one:2:one-2 four
kill_scenario update atomic update
kill_scenario replace atomic fetch one
kill_scenario deselect atomic deselect one
ctl -q select one
# First the files that nobody needs, then the versions whose file is needed still.
kill_scenario purge steps expired --purge 0
tiny_save fetched
kill_scenario remove atomic endorser remove alice
tiny_load fetched
kill_scenario unlink atomic endorser unlink alice tiny
kill_scenario link steps endorser link alice tiny
tiny_load fetched
kill_scenario unsubscribe atomic unsubscribe tiny
tiny_load fetched
kill_scenario evict atomic evict one
tiny_load fetched
tiny_list 1 one
kill_scenario reset atomic update tiny --reset-version

# ---- room ----------------------------------------------------------------------------------------------

tiny_load fetched
kill_scenario pin atomic pin one
kill_scenario unpin atomic unpin one
# The file of an old version leaves before another comes; there is room for five pages of trees and the like.
tiny_load replace
ctl -q fetch one && ctl -q select four || bail 'no image'
cp "$CONF" "$SITE/small.conf"
echo "cache_size = $(($(du -sk "$SITE/cache/objects" | cut -f1) - 8))K" >>"$SITE/small.conf"
home=$CONF CONF=$SITE/small.conf
kill_scenario room steps fetch four
CONF=$home

# ---- what was lost or damaged ------------------------------------------------------------------------

tiny_load fetched
echo 'this was a catalogue' >"$SITE/state/catalogue.db"
rm -f "$SITE"/state/catalogue.db-*
kill_scenario rebuild atomic verify --deep
tiny_load fetched
printf 'rot' | dd of="$(tiny_object one-2)" bs=1 seek=4711 conv=notrunc status=none
kill_scenario heal steps verify --fix
kill_accept heal '^quarantine/'
# What was healed before it was noted is not told.
kill_ignore heal 'select(.events == null)'
tiny_load fetched
rm "$SITE/cache/.vmimagefs-store"
kill_scenario marker atomic config init-cache
kill_refuses marker 'cache marker missing'
tiny_load fetched
rm -r "$SITE/cache"
kill_scenario cache steps config init-cache
kill_refuses cache 'cache marker missing'

# ---- what ends by itself -----------------------------------------------------------------------------

# A list that has just run out; nothing expires by itself while no daemon runs.
tiny_load fetched
tiny_file five
PKI_LIST_EXPIRES=$(date -u -d "+$((2 + VMI_PATIENCE / 10)) seconds" +%Y-%m-%dT%H:%M:%SZ) tiny_list 3 one:2:one-2 five
ctl -q update
list_is_past() {
	[ "$(date +%s)" -gt "$(date -d "$(ctl --json subscriptions | jq -r '.subscriptions[0].expires')" +%s)" ]
}
wait_for 60 list_is_past || bail 'the list does not run out'
kill_scenario expire atomic expire

# The endorser's certificate is revoked; everything comes back when it is not.
tiny_load fetched
cp -a "$CERTS" "$SITE/certificates.good"
pki_revoke root alice && pki_crl root && pki_trust_crl "$CERTS" root || bail 'no CRL'
tiny_dirs+=(certificates)
kill_scenario recheck atomic expire --recheck
nothing_is_trusted() {
	ctl --json subscriptions | jq -e 'all(.subscriptions[]; .state == "distrusted")' >/dev/null
}
kill_awaits recheck nothing_is_trusted
unset 'tiny_dirs[-1]'
rm -rf "$CERTS" && mv "$SITE/certificates.good" "$CERTS"

# ---- events ------------------------------------------------------------------------------------------

tiny_load one
mkdir "$SITE/handlers"
printf '#!/bin/sh\nexit 0\n' >"$SITE/handlers/record"
chmod 755 "$SITE/handlers/record"
echo "event_dir = $SITE/handlers" >>"$CONF"
event=$(ctl --json events | jq -r '[.events[] | select(.type == "AvailablePostfix")][0].uuid')
kill_scenario replay atomic replay "$event"
sed -i '/^event_dir/d' "$CONF"

# ---- files of the caller's ---------------------------------------------------------------------------

# What is beside the file that was asked for, and what is in it.
got() {
	[ "$(ls -A "$SITE/out")" = "$1" ] || echo "found: $(ls -A "$SITE/out")"
	cmp "$SITE/out/$1" "$2" 2>&1
}

tiny_load one
mkdir "$SITE/out"
tiny_dirs+=(out)
kill_roots+=(--root "$SITE/out")
kill_scenario get atomic get one "$SITE/out/one.img"
kill_also get got one.img "$WWW/one"
echo 'this was another image' >"$SITE/out/one.img"
kill_scenario overwrite atomic get one "$SITE/out/one.img"
kill_also overwrite got one.img "$WWW/one"
if command -v fsverity >/dev/null; then
	verity_of "$WWW/one" "$SITE/one.fsv" >/dev/null
	tiny_load get
	kill_scenario digest atomic digest "$WWW/one" -o "$SITE/out/one.fsv"
	kill_also digest got one.fsv "$SITE/one.fsv"
fi
tiny_load get
kill_scenario sign atomic attest --sign "$PKI/bob.key" --cert "$PKI/bob.pem" --out "$SITE/out" one
attestation=$SITE/attestation
mkdir "$attestation" && cp "$SITE"/out/* "$attestation" && chmod -R a+rX "$attestation"
tiny_load get
ctl -q endorser add bob --from-cert "$PKI/bob.pem" --blocks-only
ctl -q evict one
kill_scenario attest atomic attest "$attestation/attestation.smime"

# ---- all of them -------------------------------------------------------------------------------------

kill_new_every=2
kill_run begin 'P01 a new site is begun or not, wherever the command is killed'
kill_new_every=1
kill_run credential 'P01 an endorser has a further credential or not'
kill_run uncredential 'P01 one credential of an endorser is trusted or not'
kill_run subscribe 'P01 a list is subscribed or not'
kill_run select 'P01 images are selected or not'
kill_run fetch 'P01 an image is fetched or not, and fetching goes on'
kill_run update 'P01 a new version of a list is taken whole or not at all'
kill_run replace 'P01 a new version of an image replaces the old one or does not'
kill_run deselect 'P01 an image is deselected or not'
kill_run purge 'P01 files of expired images are removed or not, never lost'
kill_run remove 'P01 an endorser is trusted or not, and nothing between'
kill_run unlink 'P01 an endorser is linked to a list no longer, or still'
kill_run link 'P01 an endorser is linked to a list again, or not yet'
kill_run unsubscribe 'P01 a list is unsubscribed or not'
kill_run pin 'P01 an image is pinned or not'
kill_run unpin 'P01 an image is pinned no longer, or still'
kill_run room 'P01 B29 what leaves to make room has left, or not yet'
kill_run evict 'P01 the file of an image is dropped or not'
kill_run reset 'P01 an older list is accepted by an admin, or not'
kill_run rebuild 'P01 B20 a rebuild of the catalogue is finished by the next start'
kill_run heal 'P01 a damaged image is replaced, whenever that is interrupted'
kill_run marker 'P01 B26 a cache is marked or not'
kill_run cache 'P01 B26 a cache that was lost is made anew, or not yet'
kill_run expire 'P01 images past their date are withdrawn or not'
kill_run recheck 'P01 images of a revoked endorser are withdrawn or not'
kill_run replay 'P01 an event is delivered again or not'
kill_run get 'P01 a copy of an image has its name when it is whole'
kill_run overwrite 'P01 a copy replaces a file when it is whole'
[ -z "${kill_words[digest]:-}" ] || kill_run digest 'P01 a tree has its name when it is whole'
kill_run sign 'P01 an attestation has its name when it is whole'
kill_run attest 'P01 block digests are taken in or not'
kill_total

plan_done
