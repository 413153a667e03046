#!/bin/bash
# Detached attestations: one host verifies images and signs their block digests; another believes that
# key in this and nothing else, and reads at once what its lists alone would make it wait for.

set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl jq fsverity
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

size=$((8 * 1048576))

# The exit status and what is said, to be matched.
refusal() {
	local said status=0

	said=$(ctl "$@" 2>&1 </dev/null) || status=$?
	printf '%s: %s\n' "$status" "$said"
}

# Signs a text as an attestation: attestation_of USER TEXT FILE
attestation_of() {
	printf '%s\n' "$2" >"$work/claim.json"
	pki_sign "$1" "$work/claim.json" "$3"
}

# The entry of an image: entry NAME [SIZE [DIGEST]]
entry() {
	printf '{"dc:identifier": "%s", "sl:checksum:sha512": "%s", "hv:size": %s,' "$1" "$(image_hex "$1")" \
	    "${2:-$size}"
	printf ' "sl:checksum:fsverity-sha512": "%s", "hv:fsverity:uri": "%s"}' \
	    "${3:-$(verity_of "$WWW/$1")}" "$ANOTHER/ok/$1.fsv"
}

# Whether a page in the middle of an image costs a small part of it.
reads_lazily() {
	local before after

	before=$(sent "$1")
	spot "$1" $((size / 2)) || return 1
	after=$(sent "$1")
	[ $((after - before)) -le $((size / 8)) ] || { echo "$((after - before)) bytes of $1 were sent"; return 1; }
}

# Whether it costs all of it.
reads_whole() {
	local before after

	before=$(sent "$1")
	spot "$1" $((size / 2)) || return 1
	after=$(sent "$1")
	[ $((after - before)) -ge "$size" ] || { echo "only $((after - before)) bytes of $1 were sent"; return 1; }
}

# ---- the host that verifies ------------------------------------------------------------------------

images_up
builder=$SITE
work=$SITE/work
mkdir "$work"
another_server
pki_user site root && pki_user stranger root && pki_ca sub by=root && pki_user branch sub || bail 'no PKI'
for name in first second third fourth fifth contradicted; do
	image_disk "$name" ok 8
done
images_subscribe
check_like 'what is not verified here is not attested' '^5: .*first.*not verified here.*vmimagectl fetch' \
    "$(refusal attest --sign "$PKI/site.key" --cert "$PKI/site.pem" --out "$work" first)"
check 'and nothing is written' test ! -e "$work/attestation.smime"
ctl -q fetch --all || bail 'the builder cannot fetch'

attest_all() {
	ctl attest --sign "$PKI/site.key" --cert "$PKI/site.pem" --base-url "$ANOTHER/ok" \
	    --out "$WWW" "$@" 2>&1 | grep -v ' bytes)$'
}

check_like 'a site key signs the block digests of verified images' 'block digests of 5 images' \
    "$(attest_all first second third fourth fifth)"
sidecars_are_right() {
	local name

	for name in first second third fourth fifth; do
		verity_of "$WWW/$name" "$work/$name.fsv" >"$work/$name.digest" &&
		    cmp "$work/$name.fsv" "$WWW/$name.fsv" || return 1
	done
}
check 'the sidecars are what fsverity writes' sidecars_are_right
check 'the message is S/MIME that openssl verifies' openssl cms -verify -CAfile "$PKI/root.pem" \
    -purpose smimesign -in "$WWW/attestation.smime" -out "$work/payload"
check_is 'it names each image with its digest' "$(cat "$work/first.digest")" \
    "$(jq -r '.[] | select(."dc:identifier" == "first") | ."sl:checksum:fsverity-sha512"' "$work/payload")"
check_is 'and where its sidecar is' "$ANOTHER/ok/first.fsv" \
    "$(jq -r '.[0]."hv:fsverity:uri"' "$work/payload")"
check_is 'the files belong to the caller' "$(id -u)" "$(stat -c %u "$WWW/attestation.smime")"
check_is 'JSON names what was signed' 2 \
    "$(ctl --json attest --sign "$PKI/site.key" --cert "$PKI/site.pem" --out "$work" first second |
	jq -r '.images | length')"

check 'further certificates go into the message' \
    ctl -q attest --sign "$PKI/branch.key" --cert "$PKI/branch.pem" --chain "$PKI/sub.pem" --out "$work" first
check 'so that it can be verified with the root alone' openssl cms -verify -CAfile "$PKI/root.pem" \
    -purpose smimesign -in "$work/attestation.smime" -out "$work/payload"
check_is 'without an address the sidecar is looked for beside the image' null \
    "$(jq -r '.[0]."hv:fsverity:uri"' "$work/payload")"
openssl pkey -in "$PKI/site.key" -aes128 -passout pass:secret -out "$work/locked.key" 2>/dev/null
check_like 'a key with a passphrase is refused, and nobody is asked' '^2: .*passphrase.*openssl pkey' \
    "$(refusal attest --sign "$work/locked.key" --cert "$PKI/site.pem" --out "$work" first)"
check_like 'so is a key of another certificate' '^2: .*not that of the certificate' \
    "$(refusal attest --sign "$PKI/alice.key" --cert "$PKI/site.pem" --out "$work" first)"
check_like 'and one without a certificate' '^2: .*--cert' \
    "$(refusal attest --sign "$PKI/site.key" --out "$work" first)"
check_like 'an image that is not there is told' '^3: .*nothing' \
    "$(refusal attest --sign "$PKI/site.key" --cert "$PKI/site.pem" --out "$work" nothing)"
chmod 644 "$PKI/site.key"
check_like 'a key that others can read is warned of' 'others can use the private key' \
    "$(attest_all first second third fourth fifth)"
chmod 600 "$PKI/site.key"

rm -f "$work/attestation.smime"
flip_byte "$(object_of fifth)" 5000000
check_like 'a stored file that is damaged is not attested' '^1: .*fifth.*damaged' \
    "$(refusal attest --sign "$PKI/site.key" --cert "$PKI/site.pem" --out "$work" fifth)"
check 'and no message is written' test ! -e "$work/attestation.smime"

# ---- another host ----------------------------------------------------------------------------------

site_up "attestation=$SERVER/ok/attestation.smime" fill=never
reader=$SITE
pki_trust "$CERTS" root
ctl -q endorser add alice --from-cert "$PKI/alice.pem" || bail 'no endorser'
said=$(ctl subscribe "$SERVER/ok/list" --endorser alice --select all 2>&1)
check_like 'an attestation of somebody who is not registered is told and refused (13)' \
    'block digests from .* are not used: code 13' "$said"
check_is 'and the list is none the worse' ok "$(ctl --json subscriptions | jq -r '.subscriptions[0].state')"
mount_up || bail 'no mount'
check 'without block digests a read waits for the whole image' reads_whole fourth

check 'a key can be registered for block digests only' ctl -q endorser add site --from-cert "$PKI/site.pem" \
    --blocks-only
check_like 'and is shown as such' 'blocks_only: yes' "$(ctl endorser show site)"
check_like 'it cannot be linked to a list (13)' '^4: .*block digests only.*code 13' \
    "$(refusal endorser link site a-list)"
check_like 'and takes no credential that may do more' '^[0-9]: .*--blocks-only' \
    "$(refusal endorser add site --from-cert "$PKI/stranger.pem")"
pki_list "$work/other.json" other-list 1 "$(pki_dn site)" "$(pki_issuer site)" \
    "$(pki_image mine Mine 1.0 "$SERVER/ok/first" "$size" "$(image_hex first)")" &&
    pki_sign site "$work/other.json" "$WWW/other"
check_like 'a list that it signed is refused (13)' '^4: .*block digests only.*code 13' \
    "$(refusal subscribe "$SERVER/ok/other")"
check_like 'also with --auto-endorse' '^4: .*block digests only.*code 13' \
    "$(refusal subscribe "$SERVER/ok/other" --auto-endorse)"

check 'the next update takes the attestation' ctl -q update
check 'and an image of a list without block digests is read block by block' reads_lazily first
check 'its tree is fetched from where the attestation says' \
    grep -q '/first.fsv' <(curl -s -m 10 "$ANOTHER/stats")
check 'every byte of it is right' reads first
check_is 'what others attest has no say in which images there are' 6 \
    "$(ctl --json images | jq '.images | length')"
check 'a further update finds nothing new' ctl -q update
mv "$WWW/attestation.smime" "$work/kept.smime"
check_like 'an address that gives nothing is told' 'block digests from .* are not used: code 10' \
    "$(ctl update 2>&1)"
check 'and what was attested stands' reads_lazily second

# ---- given by hand ---------------------------------------------------------------------------------

sed -i "/^attestation = /d" "$CONF"
ctl -q endorser remove site
check 'who is removed is believed no longer, at once' reads_whole third
ctl -q endorser add site --from-cert "$PKI/site.pem" --blocks-only
attestation_of site "[$(entry fifth 7), $(entry fourth)]" "$work/size.smime"
check_like 'an entry of another size than the image is refused (41), the others stand' '^1: .*fifth.*code 41' \
    "$(refusal attest "$work/size.smime")"
attestation_of site "$(entry fifth 7)" "$work/size.smime"
check_like 'and so is a message that says nothing else' '^4: .*code 41' "$(refusal attest "$work/size.smime")"
attestation_of site "$(entry fifth "$size" ABC)" "$work/form.smime"
check_like 'L19 a malformed digest is refused (34)' '^4: .*lower case.*code 34' "$(refusal attest "$work/form.smime")"
attestation_of stranger "$(entry fifth)" "$work/stranger.smime"
check_like 'a stranger attests nothing (13)' '^4: .*code 13' "$(refusal attest "$work/stranger.smime")"
check_like 'a list is no attestation (38)' '^4: .*code 38' "$(refusal attest "$WWW/list")"
cp "$work/kept.smime" "$WWW/kept"
check_like 'and an attestation is no list (38)' '^4: .*code 38' "$(refusal subscribe "$SERVER/ok/kept")"
entry fifth >"$work/plain"
check_like 'what is not signed is refused (11)' '^4: .*code 11' "$(refusal attest "$work/plain")"
attestation_of site "$(entry contradicted "$size" "$(image_hex first)")" "$work/liar.smime"
check_like 'one object alone is an attestation, too' 'block digests of 1 images' "$(ctl attest "$work/liar.smime" 2>&1)"
check 'a digest that is not the image'"'"'s (40) gives an error and no byte' fails contradicted EBADMSG
attestation_of site "$(entry contradicted)" "$work/right.smime"
ctl -q attest "$work/right.smime"
check 'until something else is signed' reads contradicted --mode pread

attestation_of site "$(entry fifth)" "$work/fifth.smime"
check 'a message is taken in from a file' ctl -q attest "$work/fifth.smime"
check 'and counts at once' reads_lazily fifth
attest_from_pipe() {
	ctl attest - <"$work/fifth.smime"
}
check_like 'also from standard input' 'nothing new' "$(attest_from_pipe 2>&1)"
check_like 'the same again is nothing new' 'nothing new' "$(ctl attest "$work/fifth.smime" 2>&1)"

attestation_of site "$(entry second)" "$work/second.smime"
ctl -q endorser remove site && ctl -q endorser add site --from-cert "$PKI/site.pem" --blocks-only
has_root() {
	ctl --json show "$1" | jq -e '.images[0].fsverity_sha512 != ""'
}
has_no_root() {
	! has_root "$1"
}
check 'who is registered again is believed again, from the stored messages' has_root fifth
echo "attestation.a-list = file://$work/second.smime" >>"$CONF"
chmod 755 "$work" && chmod 644 "$work/second.smime"
ctl -q update
check 'one list may have an address of its own, a file too' has_root second
sed -i '/^attestation/d' "$CONF"

# ---- an endorser of lists --------------------------------------------------------------------------

image_disk late ok 8
image_disk foreign ok 8
(site_use "$builder"; images_sign)
ctl -q update
attestation_of alice "[$(entry late)]" "$work/alice.smime"
verity_of "$WWW/late" "$WWW/late.fsv" >/dev/null
check 'an endorser attests images of the lists that it is linked to' ctl -q attest "$work/alice.smime"
check 'which are read block by block' reads_lazily late

# ---- two that disagree -----------------------------------------------------------------------------

attestation_of site "$(entry foreign)" "$work/one.smime"
attestation_of alice "$(entry foreign "$size" "$(image_hex late)")" "$work/two.smime"
verity_of "$WWW/foreign" "$WWW/foreign.fsv" >/dev/null
ctl -q attest "$work/one.smime"
check_like 'that two name different block digests for an image is told' 'several block digests are signed' \
    "$(ctl attest "$work/two.smime" 2>&1)"
check 'and none of them is used' reads_whole foreign

# ---- revoked ---------------------------------------------------------------------------------------

image_disk last ok 8
(site_use "$builder"; images_sign)
ctl -q update
attestation_of site "$(entry last)" "$work/last.smime"
verity_of "$WWW/last" "$WWW/last.fsv" >/dev/null
check 'before the key is revoked it is believed' ctl -q attest "$work/last.smime"
check_is 'and show tells the digest that counts' "$(verity_of "$WWW/last")" \
    "$(ctl show last | sed -n 's/^fsverity_sha512: //p')"
pki_revoke root site && pki_crl root && pki_trust_crl "$CERTS" root || bail 'cannot revoke'
check 'a revoked key is noticed without network' wait_for 10 has_no_root last
check_like 'and told' "block digests signed by '.*CN=site': no longer trusted" "$(cat "$LOG")"
check 'and what it attested counts no longer' reads_whole last
check_like 'it cannot attest anything new (11)' '^4: .*revoked.*code 11' "$(refusal attest "$work/last.smime")"

check 'the daemon ends' mount_down

# ---- the configuration -----------------------------------------------------------------------------

check_like 'config show tells where attestations are looked for' 'attestation = none' "$(ctl config show)"
echo 'attestation.a-list = https://user:secret@localhost/x' >>"$CONF"
check_like 'an address with credentials is refused' '^2: .*credentials' "$(refusal config show)"
sed -i '/^attestation/d' "$CONF"
echo 'integrity = open' >>"$CONF"
check_like 'config check says what integrity = open means for distrust' \
    'warning: integrity: open: .*distrusted' "$(ctl config check 2>&1)"
site_use "$reader"
plan_done
