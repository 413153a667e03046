#!/bin/bash
# vmcatcher_subscribe: subscriptions, their updates and terms, and all of its exit codes.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/vmcatcher.sh"
golden=$here/../data/golden

site_up
lists_pki
printf 'harry:%s\n' "$(openssl passwd -apr1 wand/er)" >"$SITE/passwords"
chmod 644 "$SITE/passwords"
WEB_SERVER_CONF="location /private/ { auth_basic lists; auth_basic_user_file $SITE/passwords; }"
web_up "$WWW" "$PKI/web.pem" "$PKI/web.key"
mkdir -m 755 "$WWW/private" && image_file apple.img && image_file pear.img || bail 'no files'
one=5a6a0f84-1f4e-4f0c-9d0e-2b7f3c1d0a01 apple=0b1f7a52-55d2-4b8e-8c77-9d8a2f4c1e02 pear=7c3e9d11-0a4b-4d3a-b6a5-1e2f3a4b5c03
new=9d4fae22-1b5c-4e4b-a7b6-2f3a4b5c6d04
entry() {
	image_entry "$1" "$2" 1 "$3"
}
entries=("$(entry "$apple" Apple apple.img)" "$(entry "$pear" Pear pear.img)")
more=("${entries[@]}" "$(entry "$new" New apple.img)")

# said NAME ARG...: "exit status: all of the output".
said() {
	local text status=0

	text=$(vmc "$@" 2>&1 </dev/null) || status=$?
	printf '%s: %s\n' "$status" "$text"
}

subscribe() {
	said subscribe "$@"
}

states() {
	vmc image -l | awk '{ print $2 }' | paste -sd' '
}

state_of() {
	vmc image -l | awk -v id="$1" '$1 == id { print $2 }'
}

# What changes from run to run.
plain() {
	sed -E "s|$WEB_URL|https://localhost|g; s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z/DATE/g"
}

# is_golden TITLE FILE ARG...
is_golden() {
	local title=$1 file=$2

	shift 2
	check_is "$title" '' "$(diff "$golden/$file" <(vmc subscribe "$@" 2>&1 | plain) 2>&1)"
}

vmc endorser -C -e Alice -S "$(pki_dn alice)" -I "$(pki_issuer alice)" || bail 'no endorser'
export VMCATCHER_DIR_CERT=$CERTS

# ---- subscribing ------------------------------------------------------------------------------------

PKI_LIST_CREATED=$(utc '-2 hours') publish alice one.list "$one" 1 "${entries[@]}"
publish bob bob.list bobs 1
check_is 'subscribing to a list of an endorser who is not known exits 1' \
    "1: ERROR:db_controler:Endorser '$(pki_dn bob)':'$(pki_issuer bob)' was not found in database.
ERROR:db_controler:subscriptions subscribe failed for $WEB_URL/bob.list
ERROR:main:Failed to subscribe to '['$WEB_URL/bob.list']'" "$(subscribe -s "$WEB_URL/bob.list")"
check_is 'nothing is left of a subscription that failed' '' "$(vmc subscribe -l)"
check_like 'a list that cannot be downloaded is not subscribed to: exit 1' \
    "^1: ERROR:db_controler:.*, while retrieving $WEB_URL/gone.list" "$(subscribe -s "$WEB_URL/gone.list")"
check_is 'subscribing says nothing and exits 0' '0: ' "$(subscribe -s "$WEB_URL/one.list")"
is_golden '-l has four columns' subscribe-list.lines -l
is_golden '-l in JSON' subscribe-list.json -l -f json
is_golden '-i of what was never updated' subscribe-info-new.lines -i -u "$one"
check_is 'the images of a list that was subscribed to are known and not available' '0 0' "$(states)"
check_is 'subscribing again to the same URL changes nothing' '0: ' "$(subscribe -s "$WEB_URL/one.list")"
check_is 'and leaves one subscription' 1 "$(vmc subscribe -l | wc -l)"
publish alice again.list "$one" 1 "${entries[@]}"
check_like 'the same list at another URL is refused' '^1: ' "$(subscribe -s "$WEB_URL/again.list")"
check_is '-e registers the signer of the list' '0: ' "$(subscribe -e -s "$WEB_URL/bob.list")"
check_like '-e registered the signer under a name' "bob" "$(vmc endorser -l)"
check_is '-D deletes a subscription' '0: ' "$(subscribe -D -r "$WEB_URL/bob.list")"
check_is '-D of what is not there exits 1' \
    "1: ERROR:main:Failed to remove a subscription from '['bobs']'" "$(subscribe -D -u bobs)"

# ---- updating ---------------------------------------------------------------------------------------

check_is 'the first -U makes the images available' "0: INFO:db_controler:Updating:$one
INFO:db_controler:First version of:$one" "$(subscribe -v -U)"
check_is 'what is available has state 2' '2 2' "$(states)"
is_golden '-i in lines' subscribe-info.lines -i -u "$one"
is_golden '-i in JSON' subscribe-info.json -i -u "$one" -f json
is_golden '--image-list in lines' subscribe-images.lines --image-list -u "$one"
is_golden '--image-list in JSON' subscribe-images.json --image-list -r "$WEB_URL/one.list" -f json
vmc subscribe -i -u "$one" -f SMIME >"$SITE/smime"
check 'A14 -f SMIME is the list byte for byte' cmp "$WWW/one.list" "$SITE/smime"
vmc subscribe -i -u "$one" -f message >"$SITE/message"
check 'A14 -f message is the text that was signed, with the ends of lines it was signed with' \
    cmp <(sed 's/$/\r/' "$SITE/one.list.json") "$SITE/message"
vmc subscribe -i -u "$one" -f SMIME -o "$SITE/exported"
check 'A14 -o writes to a file' cmp "$WWW/one.list" "$SITE/exported"
check_like '-i of what is not there is a warning and exits 0' \
    "^0: WARNING:db_controler:Selections 'nothing' does not match any known subscriptions" \
    "$(subscribe -i -u nothing)"

# ---- every refusal ------------------------------------------------------------------------------------

# refused CODE PATTERN WHAT [ARG...]: -U exits with the code and says that, and the list before it stands.
refused() {
	local code=$1 pattern=$2 what=$3

	shift 3
	check_like "A22 -U exits $code: $what" "^$code: .*$pattern" "$(subscribe -v -U "$@")"
	check_is "A22 after $code what was available still is" '2 2' "$(states)"
}

good() {
	publish alice one.list "$one" "$1" "${entries[@]}"
}

mv "$WWW/one.list" "$WWW/gone"
refused 10 ', while retrieving' 'a list that is not there'
good 2 && sed -i 's/Apple/Apfel/' "$WWW/one.list"
refused 11 'ERROR:fileView:.*Failed to verify subscription' 'a list whose signature is wrong'
LIST_DN=/CN=other good 2
refused 12 'Endorser DN does not match signature' 'a list that names another endorser'
LIST_CA=/CN=other good 2
refused 12 'list hv:ca does not match signature' 'a list that names another CA'
publish bob one.list "$one" 2 "${entries[@]}"
refused 13 "Endorser subject='$(pki_dn bob)'.* not authorised on" 'a list of an endorser who is not linked'
good 2
mkdir "$SITE/empty"
refused 14 'Failed to verify' 'a directory without trust anchors' -c "$SITE/empty"
PKI_LIST_CREATED=$(utc '-3 hours') publish alice one.list "$one" 1 "${entries[0]}"
refused 16 'published before' 'the same version with other content, and not newer'
good 0.9
refused 17 "Downloaded version \"$one\" version \"0.9\" has lower version number than the old version \"1\"" \
    'a version that is lower'
publish alice one.list other 2 "${entries[@]}"
refused 31 "Downloaded identifier 'other'" 'a list with another identifier'
PKI_LIST_CREATED=$(utc '+1 hour') good 2
refused 33 'invalid creation date as in the future' 'a list from the future'
PKI_LIST_CREATED=$(utc '-2 days') PKI_LIST_EXPIRES=$(utc '-1 day') good 2
refused 34 'has expired' 'a list that has expired'
echo 'no JSON' >"$SITE/one.list.json" && sign_as alice one.list
refused 37 'Failed to verify' 'a text that is no JSON'
echo '{"hv:imagelist": {}}' >"$SITE/one.list.json" && sign_as alice one.list
refused 38 'Failed to verify' 'JSON that is no list of images'
check_status 'A22 an unknown option exits 2' 2 vmc subscribe --nonsense
check_is 'A22 no action exits 1' '1: ERROR:main:No actions selected' "$(subscribe)"
check_is 'A22 two actions exit 1' '1: ERROR:main:More than one action selected.' "$(subscribe -l -U)"
check_is 'A22 nothing selected exits 1' '1: ERROR:main:No subscription selections made.' "$(subscribe -i)"
check_is 'A22 both selectors exit 1' '1: ERROR:main:Conflicting selectors.' "$(subscribe -i -u a -r b)"
check_like 'A22 a format that there is not exits 1' "^1: ERROR:main:Invalid format 'xml'" "$(subscribe -l -f xml)"

# ---- images that are new ------------------------------------------------------------------------------

event_writer "$SITE/ev.sh"
publish alice one.list "$one" 2 "${more[@]}"
check_is 'A22 -U exits 32 for an image that is new, and takes the rest of the list' \
    "32: INFO:db_controler:Updating:$one
INFO:db_controler:ImageId '$new' refused by subscription '$one'" "$(subscribe -v -U -x "$SITE/ev.sh")"
check_is 'an image that was refused is not known' '2 2' "$(states)"
check_is 'the handler of -x is told of an image that is new, and of nothing else' \
    SubscriptionImageNew "$(event_types "$SITE/ev.sh.log")"
check_is 'it gets the keys of the image, but none that only the cache knows' \
    'DC_DESCRIPTION DC_IDENTIFIER DC_TITLE HV_HYPERVISOR HV_SIZE HV_URI HV_VERSION SL_ARCH SL_CHECKSUM_SHA512 SL_COMMENTS SL_OS SL_OSVERSION TYPE UUID UUID_SESSION' \
    "$(sed -n 's/^VMCATCHER_EVENT_\([A-Z0-9_]*\)=.*/\1/p' "$SITE/ev.sh.log" | LC_ALL=C sort | paste -sd' ')"
check_is 'the same list again is no news' '0: ' "$(subscribe -U -x "$SITE/ev.sh")"
check_is 'nobody is told twice' SubscriptionImageNew "$(event_types "$SITE/ev.sh.log")"
check_is '--image-accept takes an image' '0: ' "$(subscribe --image-accept "$new" -u "$one")"
check_is 'what was accepted is not available before -U' 0 "$(state_of "$new")"
check_is '-U takes what was accepted, be it the same list' '0: ' "$(subscribe -U)"
check_is 'what was accepted is available after -U' 2 "$(state_of "$new")"
check_is '--image-accept of what is there says so and exits 0' \
    "0: ERROR:db_controler:Subscription '$one' has image '$new' already." \
    "$(subscribe --image-accept "$new" -u "$one")"
check_is '--image-refuse forgets an image' '0:  ' "$(subscribe --image-refuse "$new" -u "$one") $(state_of "$new")"
check_is '--image-refuse of what is not there says so and exits 0' \
    "0: ERROR:db_controler:Subscription '$one' already refuses image '$new'." \
    "$(subscribe --image-refuse "$new" -u "$one")"
check_like 'what was refused is refused by -U' '^32: ' "$(subscribe -U)"
check_is 'half a pair exits 1' '1: ERROR:db_controler:Not enough subscriptions selected' \
    "$(subscribe --image-accept "$new" --image-accept x -u "$one")"
check_is 'a subscription that is not known exits 1' "1: ERROR:db_controler:Subscription 'nothing' is unknown." \
    "$(subscribe --image-accept "$new" -u nothing)"
check_is '--imagelist-newimage-accept has -U take what is new' '0:  0:  2' \
    "$(subscribe --imagelist-newimage-accept -u "$one") $(subscribe -U) $(state_of "$new")"
check_is '-i shows the policy' 'subscription.updateMode=1' "$(vmc subscribe -i -u "$one" | grep updateMode)"
subscribe --image-refuse "$new" -u "$one" >/dev/null
check_is '--imagelist-newimage-subscribe has -U subscribe to what is new' '0:  0:  3' \
    "$(subscribe --imagelist-newimage-subscribe -u "$one") $(subscribe -U) $(state_of "$new")"
subscribe --image-refuse "$new" -u "$one" >/dev/null
check_is '--imagelist-newimage-refuse has -U refuse it' '0:  32: ' \
    "$(subscribe --imagelist-newimage-refuse -u "$one") $(subscribe -U)"
check_is '--uri-trustanchor-set is kept and shown' '0:  Browser' \
    "$(subscribe --uri-trustanchor-set browser -u "$one") $(vmc subscribe -l | cut -f3)"
check_like 'a trust anchor that there is not exits 1' "^1: ERROR:main:Invalid trust anchor 'x'" \
    "$(subscribe --uri-trustanchor-set x -u "$one")"

# ---- one bad list among good ones -----------------------------------------------------------------------

publish alice two.list two 1 && publish alice three.list three 1 &&
    vmc subscribe -s "$WEB_URL/two.list" -s "$WEB_URL/three.list" || bail 'no subscriptions'
publish alice two.list two 2 && publish alice three.list three 2 && good 3
sed -i 's/Test list two/Test list zwei/' "$WWW/two.list"
check_like 'A06 -U goes on after a list that is refused and exits with its code' \
    "^11: .*Updating:two.*Failed to verify subscription 'two'.*Updating:three.*First version of:three.*Updating:$one" \
    "$(subscribe -v -U)"
check_is 'A06 the lists beside it are new' '3 2' \
    "$(ctl --json subscriptions | sed -nE 's/.*"version": *"([0-9]+)".*/\1/p' | paste -sd' ')"
mv "$WWW/three.list" "$WWW/gone"
check_like 'A06 the code is that of the last one that failed' '^10: ' "$(subscribe -U)"

# ---- secrets --------------------------------------------------------------------------------------------

publish alice private/four.list four 1
url=${WEB_URL/https:\/\//https:\/\/harry:wand%2Fer@}/private/four.list
check_like 'A05 a wrong password is not repeated' "^1: [^@]*$" "$(subscribe -v -v -s "${url/wand/wind}")"
check_is 'A05 user and password may stand in the URL' '0: ' "$(subscribe -s "$url")"
check_is 'A05 they are shown nowhere' '' \
    "$({ vmc subscribe -l; vmc subscribe -i -u four; vmc subscribe -i -u four -f json
	vmc subscribe -v -v -U; cat "$LOG"; } 2>&1 | grep -E 'harry|wand')"
check_is 'A05 only the owner of the store can read them' '600 nobody' "$(stat -c '%a %U' "$SITE/state/catalogue.db")"
four_code() {
	ctl --json subscriptions four | sed -nE 's/.*"code": *([0-9]+).*/\1/p'
}
check_is '--uri-password-clear forgets the password' '0:  10' \
    "$(subscribe --uri-password-clear --uri-username-clear -u four) $(subscribe -U >/dev/null; four_code)"
check_is '--uri-username-set and --uri-password-set give them' '0:  0' \
    "$(subscribe --uri-username-set harry --uri-password-set wand/er -u four) $(subscribe -U >/dev/null; four_code)"
check_like 'a password is not sent without TLS' '^1: .*over https only' \
    "$(subscribe -s http://harry:wand@localhost:1/x)"

# ---- time -----------------------------------------------------------------------------------------------

vmc subscribe -D -u two -u three -u four
vmc image -a -u "$apple"
good 4 && PKI_LIST_EXPIRES=$(utc '+3 seconds') good 5
check_is 'a list is good until its date' '0:  3' "$(subscribe -U) $(state_of "$apple")"
is_over() {
	[[ $(subscribe -U) == 34:* ]]
}
check 'K01 a list that is past its date is refused by -U with 34' wait_for 10 is_over
check_is 'K01 its images are not available any more' 1 "$(state_of "$apple")"
check_like 'K01 -i says that it has expired' 'imagelist.expired=True' "$(vmc subscribe -i -u "$one")"

plan_done
