#!/bin/bash
# vmimagectl on a site without a daemon: trust, lists, images, the cache, output and exit statuses.
#
# Lists and images are files, so that every step is certain; what the network can do to a list is
# told elsewhere.

set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/mount.sh"
. "$here/../lib/pki.sh"
. "$here/../lib/web.sh"
need root openssl sha512sum jq

ONE=11111111-1111-4111-8111-111111111111
TWO=11112222-2222-4222-8222-222222222222
OTHER=33333333-3333-4333-8333-333333333333
LIST=aaaaaaaa-0000-4000-8000-000000000001
LIST2=bbbbbbbb-0000-4000-8000-000000000002

# ---- helpers ---------------------------------------------------------------------------------------

sum() {
	sha512sum "$1" | cut -d' ' -f1
}

# image ID TITLE VERSION FILE: an image of a list, served as a file
image() {
	pki_image "$1" "$2" "$3" "file://$WWW/$4" "$(stat -c %s "$WWW/$4")" "$(sum "$WWW/$4")"
}

# publish FILE LIST VERSION SIGNER IMAGE...
publish() {
	local out=$1 list=$2 version=$3 signer=$4

	shift 4
	PKI_LIST_URI=file://$WWW/$out pki_list "$SITE/list.json" "$list" "$version" \
	    "$(pki_dn "$signer")" "$(pki_issuer "$signer")" "$@" || bail 'no list'
	pki_sign "$signer" "$SITE/list.json" "$WWW/$out.new" || bail 'cannot sign'
	mv "$WWW/$out.new" "$WWW/$out"
}

# What two commands would tell apart: the rows and site.json, but not the moments of looking.
fingerprint() {
	{
		ctl --json endorser list
		ctl --json subscriptions | jq 'del(.subscriptions[].tried)'
		ctl --json images
		ctl --json expired
	} 2>/dev/null | sum /dev/stdin
}

json() {
	ctl --json "${@:2}" 2>/dev/null | jq -r "$1"
}

# A fresh site with one endorser, one list of two images, nothing selected.
site_with_list() {
	site_up cache_min_free=1M "file_prefix=$WWW" "$@"
	pki_trust "$CERTS" root
	publish list "$LIST" 1 alice "$(image $ONE 'Image One' 1 one)" "$(image $TWO 'Image Two' 1 two)"
	ctl -q endorser add alice --from-cert "$PKI/alice.pem" || bail 'cannot register'
	ctl -q subscribe "file://$WWW/list" --endorser alice || bail 'cannot subscribe'
}

object() {
	echo "$SITE/cache/objects/${1:0:2}/$1"
}

BASE=$(mktemp -d)
at_exit rm -rf "$BASE"
chmod 755 "$BASE"
WWW=$BASE/www
mkdir "$WWW"
pki_init "$BASE/pki"
pki_ca root && pki_user alice root && pki_user bob root && pki_user carol root && pki_user host root purpose=serverAuth ||
    bail 'no PKI'
head -c 3000001 /dev/urandom >"$WWW/one"
{ head -c 65536 /dev/urandom; head -c 500000 /dev/zero; echo end; } >"$WWW/two"
head -c 4096 /dev/urandom >"$WWW/other"

# ---- the command line ------------------------------------------------------------------------------

site_up cache_min_free=1M "file_prefix=$WWW"
check_status 'A01 an unknown option is a usage error' 2 ctl endorser list --nonsense
check_status 'A01 an unknown verb is a usage error' 2 ctl nonsense
check_status 'A01 a missing argument is a usage error' 2 ctl endorser show
check_status 'A01 an argument too many is a usage error' 2 ctl endorser list x
check_status 'A01 an empty argument is a usage error' 2 ctl show ''
check_status 'A01 an argument of 100,000 bytes is a usage error' 2 ctl show "$(head -c 100000 /dev/zero | tr '\0' x)"
check_status 'A01 an argument that is not UTF-8 is a usage error' 2 ctl show $'\xff\xfe'
check_status 'A01 an option without its value is a usage error' 2 ctl endorser add x --subject
check_like 'A01 a usage error shows the usage' 'usage: vmimagectl endorser show NAME' "$(ctl endorser show 2>&1)"
check 'A01 a usage error makes nothing' test ! -e "$SITE/state"
check_status 'a verb of a later version says so and is a usage error' 2 ctl export x
check_like 'a verb of a later version says that it is not in this version' 'not in this version' "$(ctl export x 2>&1)"
check_like '--help lists the verbs' 'subscriptions' "$(ctl --help)"
check_like '--help of a verb shows its options and an example' 'reset-version.*example: vmimagectl update' "$(ctl update --help | tr '\n' ' ')"
check_like '--version needs no configuration' '^vmimagectl [0-9]' "$("$VMIMAGEFS_BUILD/vmimagectl" --version)"
for words in images 'show x' 'select x' 'pin x' 'fetch x' 'evict x' 'unsubscribe x' 'endorser remove x' \
    'endorser link x y' 'expired --purge 0'; do
	# shellcheck disable=SC2086 # words
	check_status "'$words' says that nothing is set up yet" 3 ctl $words
	# shellcheck disable=SC2086 # words
	check_like "'$words' says so in words" 'nothing has been set up yet' "$(ctl $words 2>&1)"
done
check 'and nothing is made by them' test ! -e "$SITE/state"

# ---- configuration ----------------------------------------------------------------------------------

conf_says() {
	printf '%s\n' "$1" >"$SITE/bad.conf"
	chmod 644 "$SITE/bad.conf"
	"$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/bad.conf" config check 2>&1
	echo "status $?"
}
check_like 'A11 an unknown key is an error with file and line' 'bad.conf:2.*colour.*status 2' "$(conf_says $'user = nobody\ncolour = red' | tr '\n' ' ')"
check_like 'A11 a repeated key is an error with its line' 'bad.conf:2.*status 2' "$(conf_says $'user = nobody\nuser = nobody' | tr '\n' ' ')"
check_like 'A11 a binary configuration file is an error' 'status 2' "$(conf_says $'\x7fELF\x01\x02')"
check_status 'A11 a missing configuration file is an error' 2 "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/absent" config show
check_status 'A11 a directory is no configuration file' 2 "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE" config show
truncate -s 1G "$SITE/huge.conf"
check_not 'A11 a configuration file of 1 GB is refused' "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/huge.conf" config show
cp "$CONF" "$SITE/open.conf" && chmod 666 "$SITE/open.conf"
check_status 'A11 a configuration file that others may write is refused' 7 "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/open.conf" config show
check_like 'config show names the origin of each value' "state_dir = $SITE/state +# $CONF:[0-9]+" "$(ctl config show)"
check_like 'config check finds a cert_dir that is not there' 'error: cert_dir' "$(sed "s,^cert_dir.*,cert_dir = $SITE/none," "$CONF" >"$SITE/c.conf"; "$VMIMAGEFS_BUILD/vmimagectl" -c "$SITE/c.conf" config check)"

# ---- endorsers ----------------------------------------------------------------------------------------

pki_trust "$CERTS" root
check 'an endorser is registered from a certificate' ctl endorser add alice --from-cert "$PKI/alice.pem"
check_is '--from-cert takes subject and issuer as lists write them' "$(pki_dn alice) $(pki_issuer alice)" \
    "$(json '.endorsers[0].credentials[0]|.subject+" "+.issuer' endorser list)"
check_status 'A02 registering a credential twice is an error' 1 ctl endorser add alice --from-cert "$PKI/alice.pem"
check_like 'A02 the error names whose it is' "'alice'" "$(ctl endorser add eve --from-cert "$PKI/alice.pem" 2>&1)"
check 'S38 an endorser may have a second credential' ctl endorser add alice --from-cert "$PKI/carol.pem"
check_is 'S38 both credentials are listed' 2 "$(ctl endorser list | grep -c '^alice ')"
check_status 'A02 removing an unknown endorser is an error' 3 ctl endorser remove eve
check_like 'A02 the error names the unknown endorser' "'eve'" "$(ctl endorser remove eve 2>&1)"
check_status 'a certificate that is none is a usage error' 2 ctl endorser add x --from-cert "$CONF"
check_status 'a name with a control character is a usage error' 2 ctl endorser add $'a\tb' --subject /CN=x --issuer /CN=y
check_status 'a name of more than 128 bytes is a usage error' 2 \
    ctl endorser add "$(printf 'x%.0s' {1..129})" --subject /CN=x --issuer /CN=y
check 'S38 one credential is removed' ctl endorser remove alice --subject "$(pki_dn carol)" --issuer "$(pki_issuer carol)"
check_is 'S38 the other one stays' "$(pki_dn alice)" "$(json '.endorsers[].credentials[].subject' endorser show alice)"

# ---- subscribing -----------------------------------------------------------------------------------------

publish list "$LIST" 1 alice "$(image $ONE 'Image One' 1 one)" "$(image $TWO 'Image Two' 1 two)"
publish bobs "$LIST2" 1 bob
before=$(fingerprint)
check_status 'S22 a list of an unregistered signer is refused' 4 ctl subscribe "file://$WWW/bobs"
check_like 'S22 the refusal has code 13' 'code 13' "$(ctl subscribe "file://$WWW/bobs" 2>&1)"
check_status 'a list signed by another endorser than the one named is refused' 4 ctl subscribe "file://$WWW/bobs" --endorser alice
check_status 'an endorser that is not registered cannot be named' 3 ctl subscribe "file://$WWW/list" --endorser eve
cp "$WWW/list" "$WWW/forged" && sed -i 's/Image One/Image 0ne/' "$WWW/forged"
check_like 'a list with a changed byte is refused with code 11' 'code 11' "$(ctl subscribe "file://$WWW/forged" 2>&1)"
PKI_LIST_URI=x pki_list "$SITE/l.json" $LIST2 1 "$(pki_dn bob)" "$(pki_issuer alice)" && pki_sign alice "$SITE/l.json" "$WWW/wrongdn"
check_like 'S23 hv:dn that is not the certificate is refused with code 12' 'code 12' "$(ctl subscribe "file://$WWW/wrongdn" 2>&1)"
PKI_LIST_URI=x pki_list "$SITE/l.json" $LIST2 1 "$(pki_dn alice)" "/DC=org/CN=other CA" && pki_sign alice "$SITE/l.json" "$WWW/wrongca"
check_like 'S24 hv:ca that is not the issuer is refused with code 12' 'code 12' "$(ctl subscribe "file://$WWW/wrongca" 2>&1)"
check_status 'a list that cannot be had is a temporary failure' 5 ctl subscribe "file://$WWW/absent"
check_is 'a refused list leaves nothing behind' "$before" "$(fingerprint)"
check 'a list is subscribed and imported at once' ctl subscribe "file://$WWW/list" --endorser alice
check_is 'its images are available' 'available available' "$(echo $(json '.images[].state' images))"
check_is 'its endorser is linked' "$LIST" "$(json '.endorsers[].subscriptions[]' endorser show alice)"
check_status 'A05 subscribing twice to one URL is an error' 1 ctl subscribe "file://$WWW/list"
check_like 'A05 the error names the URL' "$WWW/list" "$(ctl subscribe "file://$WWW/list" 2>&1)"
check_status 'A03 linking an unknown endorser is an error' 3 ctl endorser link eve $LIST
check_like 'A03 it names the endorser' "'eve'" "$(ctl endorser link eve $LIST 2>&1)"
check_status 'A03 linking an unknown subscription is an error' 3 ctl endorser link alice nothing
check_like 'A03 it names the subscription' "'nothing'" "$(ctl endorser link alice nothing 2>&1)"

# ---- secrets ------------------------------------------------------------------------------------------------

check_status 'A05 credentials are not sent over http' 2 ctl subscribe http://user:geheim@localhost/list
check_like 'A05 a secret in an argument brings a warning' 'secret' "$(ctl subscribe http://user:geheim@localhost/list 2>&1)"
check_is 'A05 the secret is not repeated' 0 "$(ctl subscribe http://user:geheim@localhost/list 2>&1 | grep -c geheim)"
if command -v nginx >/dev/null; then
	pki_server web root
	publish private "$LIST2" 1 bob
	web_up "$WWW" "$PKI/web.pem" "$PKI/web.key" || bail 'no web server'
	site_up cache_min_free=1M "tls_ca=$PKI/root.pem"
	pki_trust "$CERTS" root
	chmod 755 "$PKI" && chmod 644 "$PKI/root.pem"
	printf 'user:geheim\n' >"$SITE/secret" && chmod 600 "$SITE/secret"
	check 'a private list is subscribed with a file of credentials that only root can read' \
	    ctl subscribe "$WEB_URL/private" --auto-endorse --credentials "$SITE/secret"
	check_is 'A05 the URL is stored without the secret' "$WEB_URL/private" "$(json '.subscriptions[].url' subscriptions)"
	check_is 'A05 the secret is shown nowhere' 0 "$({ ctl subscriptions $LIST2; ctl --json subscriptions; ctl -v update; ctl config show; ctl events; ctl status; } 2>&1 | grep -c geheim)"
	check_is 'A05 only its owner can read the files that hold the secret' '' \
	    "$(grep -rlF geheim "$SITE/state" "$SITE/cache" "$SITE/run" | xargs -r stat -c '%a' | grep -v '^600$')"
	check 'S36 --auto-endorse registers the signer' ctl endorser show bob
	publish private "$LIST2" 2 alice
	check_like 'S36 a later signer is not registered by it: code 13' 'code 13' "$(ctl update 2>&1)"
	check_is 'S36 nobody was added' 1 "$(ctl endorser list | wc -l)"
	web_down
else
	skip 'A05 a private list' 'needs nginx'
fi

# ---- images ---------------------------------------------------------------------------------------------------

site_with_list
check 'A07 an image is selected by its identifier' ctl select $ONE
check_is 'A07 it is selected' true "$(json '.images[].selected' show $ONE)"
check 'A07 an image is deselected by its digest' ctl deselect "$(sum "$WWW/one")"
check 'A07 an image is selected by its title' ctl select 'Image Two'
check_status 'A07 an unknown image is an error' 3 ctl select 44444444
check_status 'A07 an ambiguous prefix is a usage error' 2 ctl select 1111
check_like 'A07 the error names the candidates' "$ONE.*$TWO" "$(ctl select 1111 2>&1)"
check_status 'A07 a prefix of three characters finds nothing' 3 ctl select 111
before=$(fingerprint)
check_status 'one misspelt name changes nothing' 3 ctl select $ONE misspelt
check_is 'not even the images that were found' "$before" "$(fingerprint)"
check_is 'images --state chooses' "$TWO" "$(json '.images[].id' images --state selected)"
check_is 'path names the file in the mount' "$MNT/by-sha512/$(sum "$WWW/two")" "$(ctl path $TWO)"
check_status 'path of an image that is not selected is an error' 3 ctl path $ONE
check 'deselect --all takes them all' ctl deselect --all
check_is 'none is selected' 0 "$(json '[.images[]|select(.selected)]|length' images)"

# ---- the cache --------------------------------------------------------------------------------------------------

check_status 'an image that is not selected is not fetched' 3 ctl fetch $ONE
ctl -q select --all
check 'fetch --all fetches what is selected' ctl fetch --all
check_is 'both images are verified' 'verified verified' "$(echo $(json '.images[].state' images))"
check_like 'a line is written every ten per cent' '(^|.)2 images: 100 %' "$(ctl -q evict $ONE; ctl -q evict $TWO; ctl fetch --all 2>&1)"
check_like 'what is there already is not fetched' 'nothing to fetch' "$(ctl fetch --all)"
check 'get copies an image' ctl -q get $TWO "$SITE/copy"
check 'the copy is the image' cmp "$SITE/copy" "$WWW/two"
check 'the copy is sparse where the image is zero' test "$(stat -c '%b' "$SITE/copy")" -lt 400
check 'get into a directory uses the identifier' ctl -q get $ONE "$SITE"
check 'that copy is the image' cmp "$SITE/$ONE" "$WWW/one"
check_status 'get into a directory that is not there is an error' 2 ctl get $ONE "$SITE/none/x"
check 'the destination belongs to the caller' test "$(stat -c %u "$SITE/copy")" -eq "$(id -u)"

hash=$(sum "$WWW/one")
check 'verify of a sound cache succeeds' ctl -q verify --deep
printf X | dd of="$(object "$hash")" bs=1 seek=1000 conv=notrunc status=none
check_status 'A16 verify finds a changed byte' 1 ctl verify
check_like 'A16 it names the object' "WRONG image $hash" "$(ctl verify 2>/dev/null)"
before=$(cd "$SITE" && find state cache -type f ! -name '*-shm' ! -name '*-wal' -exec sha512sum {} + | sort)
check_status 'A17 verify --fix --dry-run finds it as well' 1 ctl verify --fix --dry-run
check_is 'A17 and changes nothing' "$before" "$(cd "$SITE" && find state cache -type f ! -name '*-shm' ! -name '*-wal' -exec sha512sum {} + | sort)"
cp "$SITE/$ONE" "$SITE/keep"
check_status 'get of a damaged image is refused' 1 ctl -q get $ONE "$SITE/$ONE"
check 'and leaves the destination as it was' cmp "$SITE/$ONE" "$SITE/keep"
check_is 'and leaves nothing beside it' 0 "$(find "$SITE" -maxdepth 1 -name '.vmimagectl*' | wc -l)"
check_status 'A16 verify --fix says that something was wrong' 1 ctl verify --fix
check 'A16 the second run is clean' ctl verify --fix
check 'the image was fetched anew' cmp "$(object "$hash")" "$WWW/one"
check_is 'the bad bytes are kept in quarantine' 1 "$(find "$SITE/cache/quarantine" -type f | wc -l)"
rm "$(object "$hash")"
check_status 'verify finds a file that is gone' 1 ctl -q verify $ONE
ctl -q verify --fix >/dev/null 2>&1
check 'and --fix brings it back' cmp "$(object "$hash")" "$WWW/one"
rm "$(object "$hash")"
check_like 'B12 fetch notices a file that is gone, whatever its row says' "'$ONE' fetched and verified" "$(ctl fetch $ONE)"
check 'B12 and brings it back' cmp "$(object "$hash")" "$WWW/one"
rm "$(object "$hash")"
check 'B12 get fetches what is gone' ctl -q get $ONE "$SITE/copy"
check 'B12 and copies it' cmp "$SITE/copy" "$WWW/one"
rm "$(object "$hash")"
mv "$WWW/one" "$WWW/away"
check_status 'B12 where it cannot be had get fails' 5 ctl -q get $ONE "$SITE/copy"
check_like 'B12 and says why' "$WWW/one" "$(ctl -q get $ONE "$SITE/copy" 2>&1)"
ctl -q deselect $ONE
check_like 'B12 of an image that is not selected any more get says what to do' "vmimagectl select" \
    "$(ctl -q get $ONE "$SITE/copy" 2>&1)"
mv "$WWW/away" "$WWW/one"
ctl -q select $ONE && ctl -q fetch $ONE
check 'evict drops a file' ctl evict $ONE
check 'it is gone' test ! -e "$(object "$hash")"
check_is 'and the image is selected, not verified' selected "$(json '.images[].state' show $ONE)"
ctl -q fetch $ONE

# ---- updating -----------------------------------------------------------------------------------------------------

check_like 'L16 the same list again changes nothing' 'nothing new' "$(ctl update)"
printf more >>"$WWW/one"
publish list "$LIST" 2 alice "$(image $ONE 'Image One' 2 one)" "$(image $OTHER Other 1 other)"
before=$(fingerprint)
check_like 'update --dry-run tells what would change' "would add '$OTHER'" "$(ctl update --dry-run)"
check_like 'update --dry-run tells what would go' "'$TWO'" "$(ctl update --dry-run)"
check_is 'update --dry-run changes nothing' "$before" "$(fingerprint)"
check 'update applies a new list' ctl update
check_is 'the new version waits until it is verified' '1 2' "$(json '.images[]|.version+" "+.pending.version' show $ONE)"
check 'fetch brings the waiting version' ctl fetch $ONE
check_is 'then it is the current one' 2 "$(json '.images[].version' show $ONE)"
check_like 'the old version and the dropped image are expired' 'removed-from-list.*replaced|replaced.*removed-from-list' "$(echo $(ctl expired))"
publish list "$LIST" 1 alice "$(image $ONE 'Image One' 1 one)"
check_like 'an older list is refused with code 17' 'code 17' "$(ctl update 2>&1)"
check_status 'and that is told by the exit status' 4 ctl update
check_is 'the list that we have stands' 2 "$(json '.subscriptions[].version' subscriptions)"
check_like 'the refusal stands in the subscription' 'code 17' "$(ctl subscriptions $LIST)"
check_status '--reset-version needs a name' 2 ctl update --reset-version
check 'L17 --reset-version accepts it' ctl update --reset-version $LIST
check_is 'L17 once' 1 "$(json '.subscriptions[].version' subscriptions)"
publish list "$LIST2" 3 alice
check_like 'S35 the list of another subscription is refused with code 31' 'code 31' "$(ctl update 2>&1)"
publish list "$LIST" 3 bob "$(image $ONE 'Image One' 3 one)"
check_like 'S22 an endorser who is not linked is refused with code 13' 'code 13' "$(ctl -q endorser add bob --from-cert "$PKI/bob.pem"; ctl update 2>&1)"
ctl -q endorser link bob $LIST
check 'once linked the list is accepted' ctl update
publish list "$LIST" 4 host "$(image $ONE 'Image One' 3 one)"
ctl -q endorser add strict --from-cert "$PKI/host.pem"
ctl -q endorser link strict $LIST
check_like 'S28 a host certificate is refused for its purpose' 'code 11' "$(ctl update 2>&1)"
ctl -q endorser remove strict
ctl -q endorser add lax --from-cert "$PKI/host.pem" --any-purpose
ctl -q endorser link lax $LIST
check 'S28 unless the endorser is registered with --any-purpose' ctl update

# Three lists, the middle one bad.
site_with_list
publish a1 a1a1a1a1 1 alice
publish a2 a2a2a2a2 1 alice
publish a3 a3a3a3a3 1 alice
for i in 1 2 3; do ctl -q subscribe "file://$WWW/a$i" || bail 'cannot subscribe'; done
publish a1 a1a1a1a1 2 alice
echo 'not a list' >"$WWW/a2"
publish a3 a3a3a3a3 2 alice
check_status 'A06 one bad list of several gives its exit status' 4 ctl update
check_is 'A06 the others are updated' '2 1 2' "$(echo $(json '.subscriptions[]|select(.id|startswith("a"))|select(.id!="'$LIST'").version' subscriptions))"
check_status 'a name that means nothing does not stop the others' 3 ctl update a1a1a1a1 nothing

# ---- trust that ends ------------------------------------------------------------------------------------------------

site_with_list
ctl -q select --all
ctl -q fetch --all 2>/dev/null
check 'S37 an endorser is unlinked' ctl endorser unlink alice $LIST
check_is 'S37 its images leave at once' 0 "$(json '.images|length' images)"
check_is 'S37 as endorser-unlinked' endorser-unlinked "$(json '.expired[0].reason' expired)"
check 'S37 their files are kept' test -e "$(object "$(sum "$WWW/one")")"
check 'an endorser is linked again' ctl endorser link alice $LIST
check_is 'and the images are back, verified, without network' 'verified verified' "$(echo $(json '.images[].state' images))"
ctl -q endorser remove alice
check_is 'S37 removing the endorser withdraws too' 'endorser-removed' "$(json '.expired[].reason' expired | grep -m1 removed)"
ctl -q endorser add alice --from-cert "$PKI/alice.pem"
ctl -q endorser link alice $LIST
check_is 'registering and linking it brings them back' 2 "$(json '.images|length' images)"
pki_revoke root alice && pki_crl root && pki_trust_crl "$CERTS" root
check 'expire judges the stored list anew' ctl expire --recheck
check_is 'a revoked endorser loses its images without network' revoked "$(json '.expired[].reason' expired | grep -m1 revoked)"
check_is 'none is left' 0 "$(json '.images|length' images)"
check_like 'the subscription says so' 'state: distrusted' "$(ctl subscriptions $LIST)"
# alice signs no more

# ---- leaving ----------------------------------------------------------------------------------------------------------

site_up cache_min_free=1M "file_prefix=$WWW"
pki_trust "$CERTS" root
publish list "$LIST" 1 bob "$(image $TWO 'Image Two' 1 two)"
ctl -q endorser add bob --from-cert "$PKI/bob.pem"
check 'subscribe --select all selects' ctl subscribe "file://$WWW/list" --select all
ctl -q fetch --all 2>/dev/null
check 'A04 a list is unsubscribed without being asked twice' ctl unsubscribe aaaa
check_is 'A04 its images are in expired/' unsubscribed "$(json '.expired[].reason' expired)"
check 'A04 their files stay until they are purged' test -e "$(object "$(sum "$WWW/two")")"
check_status 'A21 a negative age is a usage error' 2 ctl expired --purge -1
check_status 'A21 an age of 10^12 seconds is a usage error' 2 ctl expired --purge 1000000000000
check_is 'what is younger than the age stays' 0 "$(json .purged expired --purge 1d)"
check_is 'A21 an age of 0 purges all' 1 "$(json .purged expired --purge 0)"
check 'the file is gone' test ! -e "$(object "$(sum "$WWW/two")")"
check_is 'the row says so' true "$(json '.expired[].purged' expired)"

# ---- output, users, and what is not there -----------------------------------------------------------------------------

check_status 'status works without a daemon' 0 ctl status
check_like 'and says that it is not running' 'daemon: not running' "$(ctl status)"
check_status 'reload without a daemon has a status of its own' 6 ctl reload
check_is 'an error with --json is an object' 'no such' "$(json 'if (.error.message|type)=="string" and (.error.code|type)=="number" and .schema==1 then "no such" else "?" end' show nothing-like-it)"
for verb in 'endorser list' subscriptions images expired events status 'config show' update; do
	# shellcheck disable=SC2086
	check_is "--json of '$verb' is one object" 1 "$(ctl --json $verb 2>/dev/null | jq -s 'length')"
done

full() {
	ctl "$@" >/dev/full
}
check_not 'A09 output to a full device is an error' full endorser list
check_not 'A09 also of a command that changes something' full endorser add carol --from-cert "$PKI/carol.pem"
check 'A09 and the change is whole' ctl endorser show carol
# The reader has gone for certain: it is waited for.
closed() {
	mkfifo "$SITE/pipe" && exec 9<>"$SITE/pipe" 8>"$SITE/pipe" && exec 9<&-
	ctl "$@" >&8
	[ $? -eq 1 ]
}
check 'A09 output to a pipe that is closed is an error, not a signal' closed endorser list
check 'A09 standard output that is closed is no place for files' sh -c '"$1" -c "$2" endorser list >&-; test $? -eq 0' - "$VMIMAGEFS_BUILD/vmimagectl" "$CONF"
check 'A19 --version with standard output closed does not crash' sh -c '"$1" --version >&-; test $? -lt 126' - "$VMIMAGEFS_BUILD/vmimagectl"
check 'A19 the locale does not matter' env LC_ALL=tr_TR.UTF-8 "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" images

as_daemon() {
	setpriv --reuid=daemon --regid=daemon --clear-groups "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" "$@"
}
check_status 'A08 another user may not read the catalogue' 7 as_daemon images
check_like 'A08 the message names the path and the mode' "$SITE/state.*mode 0" "$(as_daemon images 2>&1)"
chown daemon "$SITE/state"
check_status 'A08 a state_dir of somebody else is refused' 7 ctl endorser list
check_like 'A08 with the path' "$SITE/state" "$(ctl endorser list 2>&1)"
chown nobody "$SITE/state"

check 'the cache is marked as ours' test -e "$SITE/cache/.vmimagefs-store"
rm "$SITE/cache/.vmimagefs-store"
check_like 'B26 a cache without its marker is not used' 'marker' "$(ctl verify 2>&1)"
check_like 'B26 no command makes a new one' 'marker' "$(ctl -q endorser add dave --subject /CN=dave --issuer /CN=ca; ctl verify 2>&1)"
check 'but config init-cache does' ctl config init-cache
check 'and the cache can be used again' ctl verify

plan_done
