#!/bin/bash
# Whose word counts: endorsers, links, credentials, revocation, and what becomes of images when trust
# ends or comes back.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up
# Whose certificate ends while this test runs.
pki_user frank root to='+10 seconds' && pki_ca sub by=root && pki_user sally sub &&
    pki_user alice2 root dn='/DC=org/DC=example/OU=Robots/CN=alice' && pki_user carl root &&
    pki_user dora root && pki_trust "$CERTS" sub || bail 'no PKI'
for name in apple pear plum fig date; do
	image_file "$name.img"
done
apple=$(image_entry apple Apple 1 apple.img)
pear=$(image_entry pear Pear 1 pear.img)
plum=$(image_entry plum Plum 1 plum.img)
fig=$(image_entry fig Fig 1 fig.img)
date=$(image_entry date Date 1 date.img)
list=$MNT/subscriptions/one
publish alice one.list one 1 "$apple" "$pear"
publish frank short.list short 1 "$fig"
publish sally sub.list sub 1 "$plum"
publish carl auto.list auto 1 "$date"

# served: the state before is served byte for byte.
served() {
	cmp "$SITE/one.good" "$list/list.smime" && cmp "$MNT/cache/apple" "$WWW/apple.img"
}

# refused WITH CODE: update exits with 4 and says the code, and the reason stands in the tree.
refused() {
	local said

	said=$(refusal update one)
	[[ $said == "4: "* ]] || { echo "$said"; return 1; }
	wait_for "$VMI_PATIENCE" grep -q . "$list/error"
	[[ $(<"$list/error") =~ $2 && $said =~ $2 ]] || { echo "$said"; cat "$list/error"; return 1; }
	[ "$(ctl --json subscriptions one | grep -oE '"code": *[0-9]+' | grep -oE '[0-9]+')" = "$1" ] &&
	    served
}

# ---- who may sign -------------------------------------------------------------------------------

for user in alice bob frank sally; do
	ctl -q endorser add $user --from-cert "$PKI/$user.pem" || bail "no endorser $user"
done
check_like 'S36 a list of somebody who is not registered cannot be subscribed' \
    '^4: .*is no registered endorser' \
    "$(refusal subscribe "$WEB_URL/auto.list")"
check_is 'S36 a refused subscription leaves nothing behind' \
    '' "$(ctl subscriptions; ls "$SITE/state/messages")"
check 'S36 --auto-endorse registers who signed the first list' \
    ctl subscribe "$WEB_URL/auto.list" --auto-endorse --select all
check_like 'S36 an endorser that was registered automatically has the names of the certificate' \
    "^carl +$(pki_dn carl) +$(pki_issuer carl)\$" \
    "$(ctl endorser list | grep ^carl)"
check_like 'S22 the endorser named at subscribing must be the one who signed' "^4: .*not by 'bob'" \
    "$(refusal subscribe "$WEB_URL/one.list" --endorser bob)"
ctl -q subscribe "$WEB_URL/one.list" --endorser alice --select all &&
    ctl -q subscribe "$WEB_URL/short.list" --endorser frank --select all &&
    ctl -q subscribe "$WEB_URL/sub.list" --endorser sally --select all || bail 'no subscriptions'
cp "$WWW/one.list" "$SITE/one.good"
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
ctl -q fetch --all >/dev/null || bail 'nothing can be fetched'
wait_for "$VMI_PATIENCE" test -e "$MNT/cache/date" || bail 'the images do not come'

publish bob one.list one 2 "$apple"
check 'S22 an endorser who is not linked to a list cannot sign it' \
    refused 13 "endorser 'bob' is not linked"
publish dora one.list one 2 "$apple"
check 'S22 a good certificate of somebody who is not registered is worth nothing' \
    refused 13 'is no registered endorser'
LIST_DN=/DC=org/DC=example/OU=People/CN=bob publish alice one.list one 2 "$apple"
check 'S23 hv:dn must be the subject of the certificate' \
    refused 12 'hv:dn is .*bob.* subject is .*alice'
LIST_CA=/DC=org/DC=example/CN=other publish alice one.list one 2 "$apple"
check 'S24 hv:ca must be the issuer of the certificate' \
    refused 12 'hv:ca is .*other.* issuer is .*root'
publish alice one.list two 2 "$apple" "$plum"
check 'S35 another list at the same address is refused' refused 31 "'two', not 'one'"
check_not 'S35 nothing is shown of a list that was refused' test -e "$MNT/subscriptions/two"
publish dora auto.list auto 2
check_like 'S36 after --auto-endorse later lists must be signed by the same endorser' \
    '^4: .*is no registered endorser' \
    "$(refusal update auto)"
check_is 'S36 an update registers nobody' 'alice bob carl frank sally' \
    "$(ctl endorser list | cut -d' ' -f1 | sort | paste -sd' ')"

# ---- credentials --------------------------------------------------------------------------------

ctl -q endorser add alice --from-cert "$PKI/alice2.pem"
version_is() {
	is_value "$1" "$list/version"
}
publish alice2 one.list one 2 "$apple" "$pear" && ctl -q update one
check 'S38 an endorser may sign with any of the credentials registered' \
    wait_for "$VMI_PATIENCE" version_is 2
publish alice one.list one 3 "$apple" "$pear" && ctl -q update one
check 'S38 a second credential does not replace the first one' wait_for "$VMI_PATIENCE" version_is 3
ctl -q endorser remove alice --subject "$(pki_dn alice2)" --issuer "$(pki_issuer alice2)"
publish alice2 one.list one 4 "$apple"
check_like 'S38 a credential that was removed does not count any more' \
    '^4: .*is no registered endorser' \
    "$(refusal update one)"
publish alice one.list one 4 "$apple" "$pear" && ctl -q update one
check 'S38 the credential that is left goes on working' wait_for "$VMI_PATIENCE" version_is 4
check_is 'S38 removing a credential that signed nothing withdraws nothing' '' "$(expired_of apple)"
cp "$WWW/one.list" "$SITE/one.good"

# ---- the end of trust ---------------------------------------------------------------------------

# gone ID REASON: not in the valid views; in expired/ with the reason, without a name to read it by.
gone() {
	[ ! -e "$MNT/images/$1" ] && [ ! -e "$MNT/cache/$1" ] && has_expired "$1" "$2" &&
	    [ ! -e "$(expired_of "$1" "$2" | tail -n 1)/image" ]
}

# cut NAME: an open file of an image that is no longer trusted gives nothing any more.
cut_off() {
	hold_is "$1" ESTALE read 0 && hold_is "$1" SIGBUS touch 8192 && hold_is "$1" 0 pages
}

object_of() {
	echo "$MNT/by-sha512/$(sha512sum <"$WWW/$1.img" | cut -d' ' -f1)"
}

file_is_kept() {
	local hex

	hex=$(sha512sum <"$WWW/$1.img" | cut -d' ' -f1)
	[ -f "$SITE/cache/objects/${hex:0:2}/$hex" ]
}

object=$(object_of apple)
hold guest "$object" || bail 'an image cannot be opened'
held guest "same $WWW/apple.img" >/dev/null
check 'an image that is read stays in memory' test "$(held guest pages)" -gt 0
ctl -q endorser unlink alice one
check_is 'S37 opening an image is refused as soon as unlink returns' \
    EKEYREJECTED "$(held guest open)"
check 'S37 unlinking takes the images of the list away' \
    wait_for "$VMI_PATIENCE" gone apple endorser-unlinked
check 'S37 whoever has an image open reads no more of it once its list is unlinked' \
    wait_for "$VMI_PATIENCE" cut_off guest
check 'S37 the file of an image that is no longer trusted stays in the cache' file_is_kept apple
check 'S37 a subscription that is no longer trusted says why' \
    is_value "distrusted|endorser 'alice' was unlinked" "$list/state" "$list/error"
requests=$(web_requests .)
check 'S37 linking again brings the images back' ctl endorser link alice one
check 'S37 what is trusted again is served from the list and the files that are stored' \
    wait_for "$VMI_PATIENCE" served
check_is 'S37 trust comes back without any request' "$requests" "$(web_requests .)"
check_is 'an open file of an image that is trusted again can be read again' \
    same "$(held guest "same $WWW/apple.img")"
ctl -q endorser unlink alice one && ctl -q endorser link alice one && ctl -q endorser remove alice
check 'S37 removing an endorser takes the images of its lists away' \
    wait_for "$VMI_PATIENCE" gone apple endorser-removed
check_like 'S37 the next list of an endorser who was removed is refused' \
    '^4: .*is no registered endorser' "$(refusal update one)"
ctl -q endorser add alice --from-cert "$PKI/alice.pem" && ctl -q endorser link alice one
check 'S37 registering and linking an endorser again brings its images back' \
    wait_for "$VMI_PATIENCE" served
publish bob shared.list shared 1 "$(image_entry apfel Apfel 1 apple.img)"
ctl -q subscribe "$WEB_URL/shared.list" --endorser bob && ctl -q endorser unlink alice one
check 'an image that two lists have leaves with the one' \
    wait_for "$VMI_PATIENCE" gone apple endorser-unlinked
check_is 'bytes can be opened as long as one list that is trusted names them' \
    open "$(opens "$object")"
check_is 'bytes that one list still vouches for are not cut off' \
    same "$(held guest "same $WWW/apple.img")"
ctl -q endorser unlink bob shared
check_is 'bytes that no trusted list names any more cannot be opened' \
    EKEYREJECTED "$(opens "$object")"
ctl -q unsubscribe shared && ctl -q endorser link alice one
check 'unsubscribing one of two lists does not hold up the other' wait_for "$VMI_PATIENCE" served
mv "$SITE/run/control" "$SITE/run/away"
ctl -q endorser unlink alice one
check 'a daemon that could not be told sees it by itself' \
    wait_for "$VMI_PATIENCE" gone apple endorser-unlinked
mv "$SITE/run/away" "$SITE/run/control"
ctl -q endorser link alice one
wait_for "$VMI_PATIENCE" served
let_go guest

# ---- what proves nothing ------------------------------------------------------------------------

said_after() {
	tail -n "+$1" "$LOG" | grep -qE "$2"
}

# A new CRL in the trust directory, of which the daemon has taken note.
new_crl() {
	local line

	line=$(($(wc -l <"$LOG") + 1))
	pki_crl "$@" && pki_trust_crl "$CERTS" "$1" || return 1
	wait_for "$VMI_PATIENCE" said_after "$line" "list 'one': its stored message is refused now, its images stay"
}

check 'the daemon looks at a CRL that is new in the trust directory' \
    new_crl root from='-10 days' to='-1 hour'
check 'S11 an expired CRL leaves cached images alone' served
check_is 'S11 images can be opened while the CRL is expired' open "$(opens "$object")"
publish alice one.list one 5 "$apple"
check_like 'S11 no new list is accepted while the CRL is expired' \
    "^4: .*CRL of CA '.*' expired" "$(refusal update one)"
served
check 'S14 the daemon looks at a forged CRL, too' new_crl root as=bob
check_like 'S14 with a forged CRL lists are refused as if there were none' \
    '^4: .*not signed by that CA' "$(refusal update one)"
pki_revoke root alice && check 'S14 a forged CRL revokes nobody' new_crl root as=bob
check 'S14 images stay when a forged CRL revokes their endorser' served
pki_quiet sed -i 's/^R\(.*\)\t[^\t]*\t\([0-9A-F]*\tunknown\)/V\1\t\t\2/' "$PKI/root.ca/index.txt"

pki_crl root && pki_trust_crl "$CERTS" root
check 'S11 a good CRL makes lists acceptable again' ctl update one
check 'S11 the list that was refused for want of a CRL is taken then' \
    wait_for "$VMI_PATIENCE" version_is 5
cp "$WWW/one.list" "$SITE/one.good"
has_ended() {
	! openssl x509 -noout -checkend 0 -in "$PKI/$1.pem"
}
wait_for 30 has_ended frank
line=$(($(wc -l <"$LOG") + 1))
ctl expire >/dev/null 2>>"$LOG"
check 'S08 a certificate that has ended since leaves its list alone' \
    said_after "$line" "list 'short': its stored message is refused now, its images stay: .*has expired"
check 'S08 images stay when the certificate of their endorser ends' \
    cmp "$MNT/cache/fig" "$WWW/fig.img"

line=$(($(wc -l <"$LOG") + 1))
configure crl_strict yes
pki_crl root from='-10 days' to='-1 hour' && pki_trust_crl "$CERTS" root
check 'with crl_strict an expired CRL takes images away' wait_for "$VMI_PATIENCE" gone apple revoked
pki_crl root && pki_trust_crl "$CERTS" root
check 'with crl_strict the next good CRL brings them back' wait_for "$VMI_PATIENCE" served
configure crl_strict no

# ---- revoked ------------------------------------------------------------------------------------

# It is of another list, which the good CRL brings back a moment later.
check 'and those of other lists' wait_for "$VMI_PATIENCE" cmp "$MNT/cache/plum" "$WWW/plum.img"
hold guest "$MNT/cache/plum" || bail 'plum cannot be opened'
held guest "same $WWW/plum.img" >/dev/null
web_down
pki_revoke root sub && pki_crl root && pki_trust_crl "$CERTS" root
check 'S15 the revocation of a CA on the way takes the images away, with no network' \
    wait_for "$VMI_PATIENCE" gone plum revoked
check 'S15 whoever has an image open reads no more of it once its signer is revoked' \
    wait_for "$VMI_PATIENCE" cut_off guest
check_is 'S15 an image whose signer is revoked cannot be opened' \
    EKEYREJECTED "$(opens "$(object_of plum)")"
check_like 'S15 a subscription whose signer is revoked says so' \
    '^distrusted.*sub.* is revoked by its CA' \
    "$(value "$MNT/subscriptions/sub/state" "$MNT/subscriptions/sub/error")"
check 'S15 a revocation leaves the lists of others alone' cmp "$MNT/cache/apple" "$WWW/apple.img"

ctl -q endorser link bob one
mount_down
pki_revoke root alice && pki_crl root && pki_trust_crl "$CERTS" root
mount_up
check 'S10 a signer who was revoked while the daemon was down is found when it starts' \
    wait_for "$VMI_PATIENCE" gone apple revoked
check 'S10 the files of a revoked signer stay in the cache' file_is_kept apple
check_is 'S10 the files of a revoked signer cannot be opened' EKEYREJECTED "$(opens "$object")"
line=$(($(wc -l <"$LOG") + 1))
pki_crl root as=carl && pki_trust_crl "$CERTS" root
check 'S14 a forged CRL without the revocation clears nobody' \
    wait_for "$VMI_PATIENCE" said_after "$line" "list 'one': .* it stays distrusted"
check 'S14 images stay away when a forged CRL takes a revocation back' gone apple revoked

fetched=$(web_requests img)
pki_crl root && pki_trust_crl "$CERTS" root && publish bob one.list one 6 "$apple" "$pear" && web_again
check 'another endorser who is linked may sign the next list' ctl update one
cp "$WWW/one.list" "$SITE/one.good"
check 'images come back with a list that another endorser signed' wait_for "$VMI_PATIENCE" served
check_is 'images that come back to trust are not downloaded' "$fetched" "$(web_requests img)"
check_is 'what is trusted again can be opened again' open "$(opens "$object")"

# ---- a version that another signer's list has replaced --------------------------------------------

pki_user olga root && pki_user petra root || bail 'no PKI'
image_file berry1.img && image_file berry2.img
publish olga shared.list shared 1 "$(image_entry berry Berry 1 berry1.img)"
for user in olga petra; do
	ctl -q endorser add $user --from-cert "$PKI/$user.pem" || bail "no endorser $user"
done
ctl -q subscribe "$WEB_URL/shared.list" --endorser olga --select all && ctl -q endorser link petra shared &&
    ctl -q fetch berry || bail 'the shared list is not accepted'
wait_for "$VMI_PATIENCE" cmp -s "$MNT/cache/berry" "$WWW/berry1.img"
old=$(readlink -f "$MNT/cache/berry")
hold machine "$old" || bail "$old cannot be opened"
held machine "same $WWW/berry1.img" >/dev/null
publish petra shared.list shared 2 "$(image_entry berry Berry 2 berry2.img)"
ctl -q update shared && ctl -q fetch berry
check 'a version that another signer replaced stays readable' wait_for "$VMI_PATIENCE" cmp -s "$MNT/cache/berry" "$WWW/berry2.img"
check_is 'and open' open "$(opens "$old")"
pki_revoke root olga && pki_crl root && pki_trust_crl "$CERTS" root
check 'until its own signer is revoked: then whoever has it open reads no more of it' \
    wait_for "$VMI_PATIENCE" cut_off machine
check_is 'and nobody can open it' EKEYREJECTED "$(opens "$old")"
check 'the version that replaced it has its own signer, and stays' cmp "$MNT/cache/berry" "$WWW/berry2.img"
check_like 'the log says whose it was' "earlier versions signed by '.*CN=olga': no longer trusted" "$(cat "$LOG")"

plan_done
