#!/bin/bash
# What a list may say, which list may follow which, and where lists and images may come from.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up
mkdir -m 755 "$WWW/pool"
printf 'file_prefix = %s\nmax_valid_time = 3650d\n' "$WWW/pool" >>"$CONF"
image_file apple.img && image_file pear.img && image_file pool/plum.img && image_file outside.img
apple=$(image_entry apple Apple 1 apple.img)
pear=$(image_entry pear Pear 1 pear.img)
list=$MNT/subscriptions/one

# What must not change when a list is refused, or only looked at.
all_of_it() {
	(cd "$MNT" && ls -lR images cache subscriptions expired by-title &&
	    find images subscriptions -type f -exec cat {} + ) | grep -av '^total'
	sha512sum "$SITE/state/site.json"
	ls "$SITE/state/messages"
	ctl --json subscriptions | grep -v '"tried"'
}

is_version() {
	is_value "$1" "$list/version"
}

# stays WORDS: the update is refused with a message that matches, and the list before it stands.
stays() {
	local said before=$(<"$list/list.smime")

	said=$(refusal update one)
	[[ $said =~ ^4:\ .*$1 ]] || { echo "$said"; return 1; }
	wait_for "$VMI_PATIENCE" is_value failed "$list/state"
	[ "$before" = "$(<"$list/list.smime")" ] && cmp "$MNT/cache/apple" "$WWW/apple.img"
}

# changed SED: the text of the last list, changed, is signed as the next.
changed() {
	sed -i "$1" "$SITE/one.list.json" && sign_as alice one.list
}

ctl -q endorser add alice --from-cert "$PKI/alice.pem"
PKI_LIST_CREATED=$(utc '-30 minutes') publish alice one.list one 1 "$apple" "$pear"
ctl -q subscribe "$WEB_URL/one.list" --endorser alice || bail 'no subscription'
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
ctl -q select apple && ctl -q fetch apple && wait_for "$VMI_PATIENCE" test -e "$MNT/cache/apple" || bail 'no image'

# ---- one list after the other -------------------------------------------------------------------

all_of_it >"$SITE/before"
check_like 'L16 the same list again is nothing new' \
    "^0: list 'one': nothing new" "$(refusal update one)"
check_is 'L16 the same list again sends no event' \
    "$(grep -vc Process "$MNT/events")" "$(grep -c Available "$MNT/events")"
created=$(utc '-1 hour')
PKI_LIST_CREATED=$created publish alice one.list one 1 "$pear"
check 'L15 the same version with other content, and not newer, is refused' \
    stays 'published before with other content'
check_is 'L15 the same version with other content has a code of its own' \
    16 "$(ctl --json subscriptions one | sed -nE 's/.*"code": *([0-9]+).*/\1/p')"
publish alice one.list one 1 "$apple"
check_like 'L15 the same version with newer content is accepted with a warning' \
    "^0: .*warning: version '1' has new content" "$(refusal update one)"
publish alice one.list one 10 "$apple" "$pear" && ctl -q update one
check 'L15 versions are compared by number' wait_for "$VMI_PATIENCE" is_version 10
cp "$WWW/one.list" "$SITE/ten.list"
publish alice one.list one 9 "$apple"
check 'L15 a lower version is refused' stays "version '9' is lower than '10'"
PKI_LIST_CREATED=$created publish alice one.list one 11 "$apple"
check 'L15 a higher version that was made before is refused' stays 'was created before'
PKI_LIST_CREATED=$(utc '+10 minutes') publish alice one.list one 11 "$apple"
check 'L14 a list from the future is refused' stays 'created in the future'
PKI_LIST_EXPIRES=$(utc '-2 minutes') publish alice one.list one 11 "$apple"
check 'L14 a list that ends before it begins is refused' stays 'not after its dc:date:created'
PKI_LIST_CREATED=$(utc '-2 days') PKI_LIST_EXPIRES=$(utc '-1 day') publish alice one.list one 11 "$apple"
check 'L14 a list that has expired is refused' stays 'the list expired at'
publish alice one.list other 11 "$apple"
check 'L12 a list with another identifier is refused' stays "now serves list 'other'"

publish alice one.list one 99999999999999999999 "$apple" "$pear" && ctl -q update one
wait_for "$VMI_PATIENCE" is_version 99999999999999999999
publish alice one.list one 2 "$apple" "$pear"
check 'L17 a version of twenty digits is a number like others' \
    stays "'2' is lower than '99999999999999999999'"
check_like 'L17 --reset-version must name the list' '^2: ' "$(refusal update --reset-version)"
check_like 'L17 update --dry-run --reset-version says what it would do' '^0: ' \
    "$(refusal update one --dry-run --reset-version)"
check 'L17 update --dry-run --reset-version does not do it' is_version 99999999999999999999
check_like 'L17 --reset-version accepts a lower one, and logs that' "^0: .*--reset-version" \
    "$(refusal update one --reset-version)"
check 'L17 the list that --reset-version accepted is the current one' \
    wait_for "$VMI_PATIENCE" is_version 2
publish alice one.list one 1 "$apple"
check 'L17 --reset-version holds once' stays "'1' is lower than '2'"
publish alice one.list one 3 "$apple" "$pear" && ctl -q update one
ctl -q update one --reset-version
publish alice one.list one 2 "$apple"
check 'L17 --reset-version does not hold later if there was nothing to accept' \
    stays "'2' is lower than '3'"

# ---- looking only -------------------------------------------------------------------------------

publish alice one.list one 4 "$(image_entry apple Apple 2 pear.img)" \
    "$(image_entry new New 1 apple.img)" "$(IMAGE_URI=ftp://localhost/x image_entry bad Bad 1 apple.img)"
all_of_it >"$SITE/before"
said=$(refusal update one --dry-run | sort)
for what in "would change 'apple'" "would add 'new'" "would remove 'pear'" "would refuse 'bad'"; do
	check_like "update --dry-run says: $what" "$what" "$said"
done
check_is 'update --dry-run changes nothing' '' "$(all_of_it | diff "$SITE/before" - 2>&1)"
sed 's/Apple/Apfel/' "$WWW/one.list" >"$WWW/forged.list" && mv "$WWW/forged.list" "$WWW/one.list"
check_like 'update --dry-run of a forged list says so' '^4: ' "$(refusal update one --dry-run)"
check_is 'update --dry-run of a forged list changes nothing' \
    '' "$(all_of_it | diff "$SITE/before" - 2>&1)"

# ---- what is in it ------------------------------------------------------------------------------

publish alice one.list one 4 "$apple" "$pear"
changed '/"hv:version": "4"/s/"hv:version": "4",//'
check 'L03 a list without one of its keys is refused as a whole' stays "'hv:version' is missing"
publish alice one.list one 4 "$apple" "$pear"
changed 's/"hv:dn": "[^"]*"/"hv:dn": 7/'
check 'L04 a list whose endorser has a key of the wrong type is refused as a whole' \
    stays "'hv:dn' is not a string"
publish alice one.list one 4 "$apple" "$pear"
changed '0,/"dc:title": "Test list one"/s//"dc:title": "one", "dc:title": "two"/'
check 'L05 a list with a key twice is refused' stays 'more than once|twice|duplicate'

# entry ID KEY TEXT: the apple under another identifier, with KEY changed to TEXT (JSON).
entry() {
	image_entry "$1" "$1" 1 apple.img | sed "s|\"$2\": [^,]*,|$3|"
}
uri() {
	entry "$1" hv:uri "\"hv:uri\": \"$2\","
}
publish alice one.list one 4 "$apple" "$pear" "$(entry no-size hv:size '')" \
    "$(entry odd-size hv:size '"hv:size": [1],')" "$(uri shadow file:///etc/shadow)" \
    "$(uri outside "file://$WWW/outside.img")" "$(uri dots "file://$WWW/pool/../outside.img")" \
    "$(uri ftp ftp://localhost/x)" "$(uri gopher gopher://localhost/x)" "$(uri data data:,x)" \
    "$(uri relative x.img)" "$(uri spaces 'http://localhost/a b')" "$(uri semicolon "http://localhost/';touch $SITE/made'")" \
    "$(uri backtick "http://localhost/\`touch $SITE/made\`")" "$(uri line 'http://localhost/a\\nb')" \
    "$(uri secret http://user:hunter2@localhost/x)" "$(uri long "http://localhost/$(printf '%02048d' 0)")" \
    "$(uri cloud http://169.254.169.254/latest)"
check_like 'L03 a malformed image does not stop the others' \
    "^0: list 'one': .* 16 refused" "$(refusal update one)"
wait_for "$VMI_PATIENCE" is_version 4
check_is 'L03 the images beside malformed ones are there' \
    'apple pear' "$(ls "$list/images" | paste -sd' ')"
check 'L03 a malformed image is shown with its code and the reason' \
    is_value "no-size|34|'hv:size' is missing" "$list"/refused/no-size/{id,code,error}
check 'L04 an image with a value of the wrong type is malformed' \
    is_value 34 "$list/refused/odd-size/code"
for id in shadow outside dots ftp gopher data relative spaces semicolon backtick line secret long cloud; do
	check "L26 an image with an address like that is refused: $id" is_value 34 "$list/refused/$id/code"
done
check_is 'L26 a password in the address of an image is not shown' \
    '' "$(grep -rl hunter2 "$list/refused" "$LOG"; ctl --json subscriptions one | grep hunter2)"
check_not 'L26 nothing of an address is executed' test -e "$SITE/made"

long=$(printf '%010240d' 0)
titles() {
	image_entry "$1" x 1 apple.img | sed "s|\"dc:title\": \"x\"|\"dc:title\": \"$2\"|"
}
publish alice one.list one 5 "$apple" "$(titles slash a/../b)" \
    "$(titles newline 'a\\nb')" "$(titles escape 'a\\u001b[2Jb')" \
    "$(titles emoji '\xf0\x9f\x98\x80 smile')" "$(titles long "$long")"
check_like 'L29 titles may hold anything' '^0: ' "$(refusal update one)"
wait_for "$VMI_PATIENCE" is_version 5
check_is 'L29 names made of titles are safe' \
    '' "$(ls -f "$MNT/by-title" | grep -vE '^([A-Za-z0-9_+-][A-Za-z0-9._+~-]{0,110}|[.]{1,2})$')"
check_is 'L29 each image has a name made of its title' 6 "$(ls "$MNT/by-title" | wc -l)"
check_is 'L29 what commands print holds no control characters' '' \
    "$(ctl images | LC_ALL=C grep -aP '[\x00-\x08\x0b-\x1f\x7f]')"
check_is 'L29 the log holds no control characters' \
    '' "$(LC_ALL=C grep -aP '[\x00-\x08\x0b-\x1f\x7f]' "$LOG")"

PKI_LIST_EXPIRES=$(utc '+100 years') publish alice one.list one 6 "$apple" "$pear" && ctl -q update one
wait_for "$VMI_PATIENCE" is_version 6
check_is 'L30 max_valid_time ends a list earlier than it says' \
    "$(date -d "$(<"$list/created") +3650 days" +%s)" \
    "$(date -d "$(<"$list/expires")" +%s)"

sed -i 's/"one"/"opaque"/; s/"apple"/"apfel"/; s/"pear"/"birne"/' "$SITE/one.list.json"
pki_sign alice "$SITE/one.list.json" "$WWW/opaque.list" opaque && chmod 644 "$WWW/opaque.list"
check 'S02 an opaque signature is as good' ctl -q subscribe "$WEB_URL/opaque.list"
check 'S02 list.smime is the message' \
    wait_for "$VMI_PATIENCE" cmp "$WWW/opaque.list" "$MNT/subscriptions/opaque/list.smime"
check_is 'S02 list.json is the text that was signed' "$(<"$SITE/one.list.json")" \
    "$(tr -d '\r' <"$MNT/subscriptions/opaque/list.json")"

# ---- where from -----------------------------------------------------------------------------------

hostile_up
# files VERSION: the lists that come in other ways than TLS.
files() {
	publish alice http.list http "$1" "$(image_entry by-http Http 1 pear.img)" &&
	    publish alice file.list file "$1" \
		"$(IMAGE_URI=file://$WWW/pool/plum.img image_entry by-file File 1 pool/plum.img)" \
		"$(IMAGE_URI=file://$WWW/pool/link.img image_entry by-link Link 1 outside.img)"
}
files 1
ln -s "$WWW/outside.img" "$WWW/pool/link.img"
check 'a list may come by http' ctl -q subscribe "$HOSTILE/ok/http.list"
check 'a list may be a file' ctl -q subscribe "file://$WWW/file.list" --select all
files 2
check 'lists are updated by http and from files' ctl -q update http file
check 'lists that came by http and from files are the new ones' \
    wait_for "$VMI_PATIENCE" is_value '2|2' "$MNT"/subscriptions/{http,file}/version
check 'L26 an image may be a file below file_prefix' \
    cmp "$MNT/images/by-file/image" "$WWW/pool/plum.img"
check_like 'L26 an image file below file_prefix that leads elsewhere is not read' \
    '^4: |^5: ' "$(refusal fetch by-link)"
check_like 'L26 the reason why a file is not read is shown' \
    'cannot open|below' "$(value "$MNT/images/by-link/error")"

# ---- many -----------------------------------------------------------------------------------------

publish bob bob.list bobs 1
publish alice good.list good 1 "$(image_entry good-one Good 1 apple.img)"
ctl -q endorser add bob --from-cert "$PKI/bob.pem" && ctl -q subscribe "$WEB_URL/good.list" &&
    ctl -q subscribe "$WEB_URL/bob.list"
publish bob bob.list bobs 2 && publish alice good.list good 2
# In the order in which they are asked: one, opaque, http, file, good, bobs.
sed -i 's/Good/Evil/; s/Test list good/Test list evil/' "$WWW/good.list"
check_status 'A06 update ends with the code of the list that is refused' 4 ctl update
check 'A06 the lists before and after one that is refused are new' \
    wait_for "$VMI_PATIENCE" is_value 2 "$MNT/subscriptions/bobs/version"
check 'A06 the list that is refused is as it was' \
    is_value '1|failed' "$MNT"/subscriptions/good/{version,state}
publish alice good.list good 3 && mv "$WWW/file.list" "$WWW/gone.list" && publish bob bob.list bobs 3
check_status 'A06 a list that is not there is a matter of time' 5 ctl update
check 'A06 the lists beside one that is not there are new' \
    wait_for "$VMI_PATIENCE" is_value '3|3' "$MNT"/subscriptions/{good,bobs}/version
check 'T24 a list that cannot be had takes nothing away' \
    cmp "$MNT/images/by-file/image" "$WWW/pool/plum.img"
check_like 'A06 a list that is not known stops no other' \
    '^3: ' "$(publish bob bob.list bobs 4; refusal update nonsense bobs)"
check 'A06 the list beside an unknown one is new' \
    wait_for "$VMI_PATIENCE" is_value 4 "$MNT/subscriptions/bobs/version"
one_is_last() {
	ctl -q update one
	[ "$(ctl --json update --dry-run | grep -o '"id": *"[^"]*"' | tail -n 1 | cut -d'"' -f4)" = one ]
}
check 'the lists that were tried longest ago are asked first' wait_for "$VMI_PATIENCE" one_is_last

thousand() {
	local i

	for ((i = 0; i < 1000; i++)); do
		printf '%s{"hv:image": {"dc:identifier": "many-%d", "dc:title": "Image %d", "dc:description": "d",
		    "hv:version": "%s", "hv:uri": "%s/%d.img", "hv:size": 1000, "sl:checksum:sha512": "%0128x",
		    "hv:hypervisor": "kvm", "sl:arch": "x86_64", "sl:os": "Linux", "sl:osversion": "1", "sl:comments": ""}}' \
		    "${comma:-}" $i $i "$1" "$WEB_URL" $i $(($1 * 1000 + i))
		comma=,
	done
}
publish alice many.list many 1 "$(comma=; thousand 1)" && ctl -q subscribe "$WEB_URL/many.list" --endorser alice ||
    bail 'a thousand images are too many'
publish alice many.list many 2 "$(comma=; thousand 2)"
start=${EPOCHREALTIME/[.,]/}
ctl -q update many
took=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
check "a new version of a list of 1,000 images is taken in a moment ($took ms)" test $took -lt 5000
check 'a new version of a list of 1,000 images is shown' \
    wait_for "$VMI_PATIENCE" is_value '2|2|2' "$MNT"/images/many-{0,500,999}/version

mount_down
sed -i 's/^max_valid_time.*/max_valid_time = 20d/' "$CONF"
mount_up
check_is 'L30 max_valid_time that is shorter now counts from the next start on' \
    "$(date -d "$(<"$list/created") +20 days" +%s)" "$(date -d "$(<"$list/expires")" +%s)"

# ---- a CA of its own for one list's server ------------------------------------------------------

pki_ca other && pki_server second other || bail 'no second CA'
web_up "$WWW" "$PKI/second.pem" "$PKI/second.key"
publish alice second.list second 1
configure tls_ca "$PKI/other.pem" && ctl -q subscribe "$WEB_URL/second.list" && configure tls_ca "$PKI/root.pem" ||
    bail 'the second server is of no use'
publish alice second.list second 2
check_like 'a server whose CA is not in tls_ca is not believed' '^5: .*certificate' "$(refusal update second)"
configure tls_ca.second "$PKI/other.pem"
check 'tls_ca.LIST holds for the server of one list' ctl -q update second
check 'tls_ca goes on holding for the others' ctl -q update one

plan_done
