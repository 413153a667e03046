#!/bin/bash
# What the mount shows: every entry of the tree with the right content, names that are safe whatever a
# list says, and each change as soon as the command that made it returns.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv getfattr jq
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
fscheck=$(dirname "$hostile_program")/fscheck
[ -x "$fscheck" ] || skip_all 'tests/lib/fscheck is not built'

site_up
lists_up
hostile_up
image_file disk.img 300003
image_file disk2.img 310001
image_file twin.img
image_file odd.img
image_file bob.img
image_file slow.img 2000000

odd_id="../odd id;\$(x)'ü"
odd_title="..//odd \`title' | \\\" é"
extra='hv:format=qcow2 ad:group=Debian ad:mpuri=https://example.org/mp/1 x:unknown=kept'
created=2026-02-03T04:05:06Z

# first VERSION [DISK [DISK_VERSION]]: the list of alice.
first() {
	PKI_LIST_CREATED=$created PKI_LIST_VO=vo.example publish alice image.list a-list "$1" \
	    "$(image_entry disk-1 'Rescue disk' "${3:-1.0}" "${2:-disk.img}" $extra)" \
	    "$(image_entry disk-2 'Rescue disk' 1.0 twin.img)" \
	    "$(image_entry "$odd_id" "$odd_title" 1.0 odd.img)" \
	    "$(image_entry same-1 'Same bytes' 3.0 disk.img)" \
	    "$(IMAGE_URI=$HOSTILE/stall:50/slow.img image_entry slow-1 Slow 1.0 slow.img)" || bail 'no list'
}
first 1
publish bob bob.list 'b list/odd' 1 "$(image_entry disk-1 'Not his' 9.0 bob.img)" \
    "$(image_entry bob-1 'Bob disk' 1.0 bob.img)" || bail 'no list'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" && ctl -q endorser add bob --from-cert "$PKI/bob.pem" &&
    ctl -q subscribe "$WEB_URL/image.list" --endorser alice &&
    ctl -q subscribe "$WEB_URL/bob.list" --endorser bob || bail 'the lists are not accepted'
mount_up || bail "not mounted: $(tail -n 5 "$LOG")"
bobs=$(basename "$(echo "$MNT"/subscriptions/b_*)")
sha512() {
	sha512sum <"$WWW/$1" | cut -d' ' -f1
}

# ---- names --------------------------------------------------------------------------------------

ctl -q select disk-1 disk-2 same-1 || bail 'nothing can be selected'
list_names() {
	LC_ALL=C ls -A "$MNT/$1" | paste -sd' '
}
check_is 'the root' \
    'README SHA512SUMS by-sha512 by-title cache endorsers events expired images metrics status status.json subscriptions' \
    "$(list_names .)"
image_names='arch comments created description environment error expires format group hypervisor id image metadata.json os osversion progress selected sha512 size state subscription title uri version vo'
check_is 'a selected image has every file' "$image_names" "$(list_names images/disk-1)"
check_is 'one that is not selected has no image to read' "${image_names/ image / }" \
    "$(list_names "images/$(basename "$MNT"/images/*odd*)")"
check_is 'a subscription has every file' \
    'created description endorser error expires id images list.json list.smime refused state title updated uri version' \
    "$(list_names subscriptions/a-list)"
check_is 'a refused entry has every file' 'code error id' "$(list_names "subscriptions/$bobs/refused/disk-1")"
check_is 'an endorser has every file' 'issuer subject subscriptions' "$(list_names endorsers/alice)"
check_is 'every name is made of harmless characters, and does not begin with a dot' '' \
    "$(find "$MNT" -mindepth 1 -printf '%f\n' | LC_ALL=C grep -vE '^[A-Za-z0-9_+~-][A-Za-z0-9._+~-]*$')"
check_is 'an odd identifier is mapped, with 8 digits of its digest' \
    "~$(printf %s "$odd_id" | sha512sum | cut -c1-8)" \
    "$(basename "$MNT"/images/*odd* | grep -oE '~.*')"
check_is 'and stands verbatim in the file id' "$odd_id" "$(cat "$MNT"/images/*odd*/id)"
check_is 'so does an odd title' "..//odd \`title' | \" é" "$(cat "$MNT"/images/*odd*/title)"
check_is 'and the identifier of a list' 'b list/odd' "$(cat "$MNT/subscriptions/$bobs/id")"
twins() {
	printf 'Rescue_disk~%s\n' "$(printf disk-1 | sha512sum | cut -c1-8)" "$(printf disk-2 | sha512sum | cut -c1-8)" | sort
}
check_is 'images of one title all get 8 digits of their identifier' "$(twins)" \
    "$(ls "$MNT/by-title" | grep Rescue | sort)"
check_is 'an image of a title of its own does not' ../images/same-1 "$(readlink "$MNT/by-title/Same_bytes")"
check_is 'an identifier that another list owns is refused: code, id, reason' '48|disk-1' \
    "$(value "$MNT/subscriptions/$bobs/refused/disk-1/"{code,id})"
check_like 'the reason names the other list' 'a-list' "$(cat "$MNT/subscriptions/$bobs/refused/disk-1/error")"
check_is 'the other list shows its own image' 'Rescue disk' "$(cat "$MNT/images/disk-1/title")"
check_is 'the rest of that list is there' bob-1 "$(list_names "subscriptions/$bobs/images")"

# ---- content ------------------------------------------------------------------------------------

check_is 'the files of an image say what the list says' \
    "disk-1|Rescue disk|test image Rescue disk|1.0|none|Linux|1|x86_64|kvm|qcow2|300003|$(sha512 disk.img)|$WEB_URL/disk.img|Debian|vo.example|$created" \
    "$(value "$MNT/images/disk-1/"{id,title,description,version,comments,os,osversion,arch,hypervisor,format,size,sha512,uri,group,vo,created})"
check_is 'what the list does not say is an empty file' '0 0' \
    "$(stat -c %s "$MNT/images/disk-2/"{format,group} | paste -sd' ')"
check_is 'every value ends with a newline, and is one line' '' \
    "$(find "$MNT/images" "$MNT/subscriptions" "$MNT/endorsers" -type f -size +0 -not -name '*.json' -not -name '*.smime' \
	-not -name environment -exec awk 'FNR == 2 { print FILENAME }' {} + ;
	find "$MNT/images" "$MNT/subscriptions" -type f -size +0 -not -name '*.smime' -not -name list.json |
	    while read -r f; do [ "$(tail -c 1 "$f" | wc -l)" -eq 1 ] || echo "$f"; done)"
check_is 'metadata.json is the object of the signed list, unknown keys and all' \
    "$(jq -S '."hv:imagelist"."hv:images"[0]."hv:image"' "$SITE/image.list.json")" \
    "$(jq -S . "$MNT/images/disk-1/metadata.json")"
check_is 'a shell can read environment' "..//odd \`title' | \" é" \
    "$(. "$MNT"/images/*odd*/environment && printf %s "$VMCATCHER_EVENT_DC_TITLE")"
check_is 'environment has what an event handler gets' 'disk-1 qcow2 a-list disk-1 https://example.org/mp/1' \
    "$(. "$MNT/images/disk-1/environment" && echo "$VMCATCHER_EVENT_DC_IDENTIFIER" "$VMCATCHER_EVENT_HV_FORMAT" \
	"$VMCATCHER_EVENT_IL_DC_IDENTIFIER" "$VMCATCHER_EVENT_FILENAME" "$VMCATCHER_EVENT_AD_MPURI")"
check 'the signed message is there byte for byte' cmp "$MNT/subscriptions/a-list/list.smime" "$WWW/image.list"
check 'openssl verifies it, and its payload is list.json' bash -c \
    "openssl cms -verify -CAfile '$PKI/root.pem' -in '$MNT/subscriptions/a-list/list.smime' 2>/dev/null | cmp - '$MNT/subscriptions/a-list/list.json'"
check_is 'the files of a subscription' "Test list a-list|a test list|$WEB_URL/image.list|1|ok|$created" \
    "$(value "$MNT/subscriptions/a-list/"{title,description,uri,version,state,error,created})"
check_is 'the files of an endorser' "$(pki_dn alice)|$(pki_issuer alice)" "$(value "$MNT/endorsers/alice/"{subject,issuer})"
check_is 'links are relative, and lead to' \
    "../../by-sha512/$(sha512 disk.img) ../../subscriptions/a-list ../../../images/bob-1 ../../endorsers/bob ../../../subscriptions/a-list" \
    "$(cd "$MNT" && readlink images/disk-1/{image,subscription} "subscriptions/$bobs/images/bob-1" \
	"subscriptions/$bobs/endorser" endorsers/alice/subscriptions/a-list | paste -sd' ')"
check_is 'no link is broken' '' "$(find "$MNT" -type l -not -exec test -e {} \; -print)"
check_like 'README names the version and the manual' 'vmimagefs [0-9.]+.*vmimagefs\(7\)' "$(paste -sd' ' "$MNT/README")"

# ---- attributes ---------------------------------------------------------------------------------

check_is 'F32 an image file before it is fetched: type, mode, size, date of its list, blocks' \
    "regular file 644 300003 $(date -d $created +%s) $(((300003 + 511) / 512))" \
    "$(stat -c '%F %a %s %Y %b' "$MNT/by-sha512/$(sha512 disk.img)")"
check_is 'F32 the files of an image have the date of the image' "$(date -d $created +%s)" \
    "$(stat -c %Y "$MNT"/images/disk-1/{title,metadata.json,environment} | sort -u)"
check_is 'F32 types and modes' '644 regular 755 directory 777 symbolic' \
    "$(find "$MNT" -exec stat -c '%a %F' {} + | awk '{ print $1, $2 }' | sort -u | paste -sd' ')"
types_agree() {
	local dir

	find "$MNT" -type d | while read -r dir; do
		"$fscheck" list "$dir" 1024 | awk '$3 != "." && $3 != ".." && $3 !~ /^status|^metrics|^events/ { print $1, $2, $3 }' |
		    sort >"$SITE/told"
		find "$dir" -mindepth 1 -maxdepth 1 -printf '%i %y %f\n' | sed 's/ d / 4 /; s/ f / 8 /; s/ l / 10 /' |
		    grep -vE ' (status|status.json|metrics|events)$' | sort | diff "$SITE/told" - | head -n 3
	done
}
check_is 'F32 listings tell the inode and the type of each entry' '' "$(types_agree)"
check_is 'F32 no two files have one inode' '' "$(find "$MNT" -printf '%i\n' | sort | uniq -d)"
check_is 'F32 a directory has a link for each directory in it, and two' '' \
    "$(find "$MNT" -type d | while read -r dir; do
	[ "$(stat -c %h "$dir")" -eq $(($(find "$dir" -mindepth 1 -maxdepth 1 -type d | wc -l) + 2)) ] || echo "$dir"
	done)"
check_is 'F32 all else has one' 1 "$(find "$MNT" -not -type d -printf '%n\n' | sort -u)"
sane_statfs() {
	local files free size
	read -r files free size < <(stat -f -c '%c %f %b' "$MNT")
	echo "$files $((free > 0 && size >= free)) $(stat -f -c %l "$MNT")"
}
check_is 'F29 statfs tells the number of images, sizes and the longest name' '6 1 255' "$(sane_statfs)"
check 'F29 df works' df "$MNT"
as_stranger() {
	setpriv --reuid=65533 --regid=65533 --clear-groups "$@"
}
check 'F35 every user may list and read' as_stranger bash -c "ls -lR '$MNT' && cat '$MNT/images/disk-1/title'"
check_not 'F35 and change nothing' as_stranger touch "$MNT/README"

# ---- the state of an image ------------------------------------------------------------------------

states() {
	value "$MNT/images/$1/"{state,selected,progress,error}
}
check_is 'an image is available' 'available|no|0 2000000 0' "$(states slow-1)"
ctl -q select slow-1
check_is 'then selected, as soon as the command returns' 'selected|yes|0 2000000 0' "$(states slow-1)"
cat "$MNT/images/slow-1/image" >"$SITE/read" &
reader=$!
half_there() {
	is_value fetching "$MNT/images/slow-1/state" &&
	    [[ $(cat "$MNT/images/slow-1/progress") =~ ^[1-9][0-9]*\ 2000000\ [45][0-9]$ ]]
}
check 'then fetching, and progress tells bytes, total and percent' wait_for "$VMI_PATIENCE" half_there
check_is 'its attribute says so, too' fetching \
    "$(getfattr --only-values -n user.vmimage.state --absolute-names "$(readlink -f "$MNT/images/slow-1/image")")"
check_not 'it has no name in cache/' test -e "$MNT/cache/slow-1"
check 'status counts it' wait_for 10 grep -qx 'images_fetching: 1' "$MNT/status"
check 'and the read that waits' wait_for 10 grep -qx 'reads_parked: [1-9][0-9]*' "$MNT/status"
curl -s "$HOSTILE/release?always" >/dev/null || bail 'the scripted server does not answer'
wait $reader
check 'its reader gets the bytes' cmp "$SITE/read" "$WWW/slow.img"
answered=${EPOCHREALTIME/[.,]/}
check 'then verified' wait_for 10 state_is slow-1 verified
check 'soon after the first read it has a name in cache/' wait_for 10 test -e "$MNT/cache/slow-1"
note "that took $(((${EPOCHREALTIME/[.,]/} - answered) / 1000)) ms"
check_is 'and progress is 100' '2000000 2000000 100' "$(cat "$MNT/images/slow-1/progress")"

# ---- what is there after a fetch ------------------------------------------------------------------

sums_follow() {
	local i

	for i in 1 2 3 4 5; do
		ctl -q evict disk-2 && ! grep -q disk-2 "$MNT/SHA512SUMS" && ! test -e "$MNT/cache/disk-2" &&
		    is_value selected "$MNT/images/disk-2/state" && ctl -q fetch disk-2 &&
		    grep -q "^$(sha512 twin.img)  cache/disk-2\$" "$MNT/SHA512SUMS" && test -e "$MNT/cache/disk-2" &&
		    is_value verified "$MNT/images/disk-2/state" &&
		    (cd "$MNT" && sha512sum --quiet --strict -c SHA512SUMS) || { echo "round $i"; return 1; }
	done
}
check 'SHA512SUMS, cache/ and state are true when fetch and evict have returned' sums_follow
ctl -q fetch disk-1
check_is 'one object of two images has a name for each in cache/ and SHA512SUMS' \
    "$(sha512 disk.img)  cache/disk-1|$(sha512 disk.img)  cache/same-1" "$(grep -E 'disk-1|same-1' "$MNT/SHA512SUMS" | paste -sd'|')"
attributes() {
	getfattr -d --absolute-names "$(readlink -f "$MNT/images/disk-1/image")" -e text | grep -vE '^#|^$|fetched|expires'
}
check_is 'its attributes have one line for each image, sorted' \
    'user.vmimage.endorser="alice"
user.vmimage.error=""
user.vmimage.id="disk-1\012same-1"
user.vmimage.list="a-list"
user.vmimage.pinned="no"
user.vmimage.sha512="'"$(sha512 disk.img)"'"
user.vmimage.state="verified"
user.vmimage.title="Rescue disk\012Same bytes"
user.vmimage.version="1.0\0123.0"' "$(attributes)"
check 'a stored image has the blocks of its file' \
    test "$(stat -c %b "$MNT/by-sha512/$(sha512 disk.img)")" -eq "$(stat -c %b "$SITE/cache/objects/$(sha512 disk.img | cut -c1-2)/$(sha512 disk.img)")"
figures() {
	grep -vE '^(version|daemon|worker:|reads_parked|reads_at_disk|files_open|memory_bytes|passthrough|filesystem_|sandbox\.|image\.|refused\.|subscription\.)' | sort
}
# Until the file has its version of this second.
status_agrees() {
	[ "$(figures <"$MNT/status")" = "$(ctl status | figures)" ]
}
check 'status and vmimagectl status tell the same figures' wait_for 10 status_agrees
check_is 'they count images, and files of images' \
    "images: $(ls "$MNT/images" | wc -l)|images_selected: $(grep -lx yes "$MNT"/images/*/selected | wc -l)|images_verified: $(grep -lx verified "$MNT"/images/*/state | wc -l)|cache_objects: $(find "$SITE/cache/objects" -type f ! -name "*.fsv" | wc -l)" \
    "$(ctl status | grep -E '^(images|images_selected|images_verified|cache_objects):' | paste -sd'|')"
check_is 'with one name each in status.json' "$(cut -d: -f1 "$MNT/status" | grep -vE '\.' | sort)" \
    "$(jq -r 'del(.schema, .refusals, .sandbox) | keys[]' "$MNT/status.json" | sort)"
check_is 'metrics are what Prometheus reads' '' \
    "$(grep -vE '^(# (HELP|TYPE) vmimagefs_[a-z_0-9]+ .+|vmimagefs_[a-z_0-9]+(\{[a-z]+="[^"]*"\})? -?[0-9]+)$' "$MNT/metrics")"
check_like 'what was refused stands in status' "refused\.$bobs/disk-1: code 48: " "$(cat "$MNT/status")"
check 'events are one JSON object a line, oldest first' wait_for 10 \
    jq -se 'map(.time) == (map(.time) | sort) and length > 0' "$MNT/events"

# ---- a change is seen at once ---------------------------------------------------------------------

# Names that are not there are remembered by the kernel, until they come.
missing=("$MNT/images/new-1" "$MNT/images/new-1/title" "$MNT/by-title/New_disk" "$MNT/subscriptions/a-list/images/new-1"
    "$MNT/by-sha512/$(sha512 bob.img)" "$MNT/images/bob-1/image" "$MNT/cache/bob-1" "$MNT/images/disk-1/pending")
look_for_missing() {
	local i path

	for i in {1..10}; do
		for path in "${missing[@]}"; do
			! [ -e "$path" ] || return 1
		done
	done
}
check 'F36 what is not there is not there' look_for_missing
check 'F36 10,000 names that are not there are missed quickly' \
    timeout 20 bash -c "for i in {1..10000}; do [ -e '$MNT/images/'\$i ] && exit 1; done; true"
publish alice image.list a-list 2 "$(image_entry disk-1 'Rescue disk' 1.0 disk.img)" \
    "$(image_entry disk-2 'Second disk' 1.0 twin.img)" "$(image_entry new-1 'New disk' 1.0 odd.img)"
ctl -q update
check_is 'F36 a new image is there when update returns, in all its places' 'New disk|New disk|New disk' \
    "$(value "$MNT/images/new-1/title" "$MNT/by-title/New_disk/title" "$MNT/subscriptions/a-list/images/new-1/title")"
check_is 'a new title is there, the old name and the digits are gone' 'New_disk Rescue_disk Second_disk' \
    "$(ls "$MNT/by-title" | grep disk | grep -v Bob | paste -sd' ')"
check_not 'what the list no longer names is gone' test -e "$MNT/images/same-1"
check_is 'and in expired/' removed-from-list "$(cat "$(expired_of same-1)/reason")"
ctl -q select bob-1
check_is 'F36 the image of one that was selected is there at once' "../../by-sha512/$(sha512 bob.img)" \
    "$(readlink "$MNT/images/bob-1/image")"
check 'F36 its file, too' test -f "$MNT/by-sha512/$(sha512 bob.img)"
ctl -q fetch bob-1
check 'F36 and its name in cache/ when fetch returns' cmp "$MNT/cache/bob-1" "$WWW/bob.img"
ctl -q deselect bob-1
check_not 'an image that was deselected has no image to read' test -e "$MNT/images/bob-1/image"
check_not 'nor a name in cache/' test -e "$MNT/cache/bob-1"
check_is 'and is available' available "$(image_state bob-1)"

old_image=$(readlink "$MNT/images/disk-1/image")
publish alice image.list a-list 3 "$(image_entry disk-1 'Rescue disk' 2.0 disk2.img $extra)" \
    "$(image_entry disk-2 'Second disk' 1.0 twin.img)" "$(image_entry new-1 'New disk' 1.0 odd.img)"
ctl -q update
check 'a new version takes the place of the old' wait_for 30 is_value 2.0 "$MNT/images/disk-1/version"
check_is 'with all that belongs to it' "../../by-sha512/$(sha512 disk2.img)|$(sha512 disk2.img)|310001|verified" \
    "$(readlink "$MNT/images/disk-1/image")|$(value "$MNT/images/disk-1/"{sha512,size,state})"
check_not 'nothing is pending' test -e "$MNT/images/disk-1/pending"
old=$(expired_of disk-1 replaced)
check_is 'the old one is in expired/ with all its files' \
    "$(tr ' ' '\n' <<<"$image_names expired_at reason replaced_by" | LC_ALL=C sort | paste -sd' ')" "$(list_names "expired/$(basename "$old")")"
check_is 'as they were, and why and when it left' "1.0|expired|replaced|2.0|yes|300003 300003 100|$old_image|../../subscriptions/a-list" \
    "$(value "$old/"{version,state,reason,replaced_by,selected,progress})|$(readlink "$old/image")|$(readlink "$old/subscription")"
check 'its name is its identifier and the time' bash -c \
    "[[ '$(basename "$old")' =~ ^disk-1\.[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{2}-[0-9]{2}-[0-9]{2}$ ]]"
check 'it can still be read' cmp "$old/image" "$WWW/disk.img"
ctl -q expired --purge 0
check_not 'until it is purged' test -e "$old/image"
check_not 'then its file is gone, too' test -e "$MNT/by-sha512/$(sha512 disk.img)"
# ---- a reader sees one version or the other --------------------------------------------------------

read_on() {
	local bytes

	while [ -e "$SITE/go-on" ]; do
		bytes=$(sha512sum <"$MNT/by-title/Rescue_disk/image") || echo 'no image'
		echo "${bytes%% *}"
	done
}
read_lists_on() {
	while [ -e "$SITE/go-on" ]; do
		jq -r '."hv:imagelist"."hv:version" | tonumber' "$MNT/subscriptions/a-list/list.json" || echo 'no list'
	done
}
update_on() {
	local version

	for version in {10..21}; do
		publish alice image.list a-list $version "$(image_entry disk-1 'Rescue disk' $version.0 \
		    "$([ $((version % 2)) -eq 0 ] && echo disk.img || echo disk2.img)" $extra)" \
		    "$(image_entry disk-2 'Second disk' 1.0 twin.img)" "$(image_entry new-1 'New disk' 1.0 odd.img)" &&
		    ctl -q update && wait_for 30 is_value $version.0 "$MNT/images/disk-1/version" || return 1
	done
}
: >"$SITE/go-on"
read_on >"$SITE/seen" 2>&1 &
reader=$!
read_lists_on >"$SITE/versions" 2>&1 &
list_reader=$!
check 'a list is updated twelve times' update_on
rm "$SITE/go-on"
wait $reader $list_reader
check_is 'who reads meanwhile sees the bytes of one version or the other, and always an image' \
    "$({ sha512 disk.img; sha512 disk2.img; } | sort)" "$(sort -u "$SITE/seen")"
check_is 'F33 who reads the list meanwhile sees one list or the next, whole, never an older one' '' \
    "$(sort -nC "$SITE/versions" || echo 'not in order'; grep -vxE '3|1[0-9]|2[01]' "$SITE/versions")"

ctl -q endorser add carol --subject /DC=org/CN=carol --issuer /DC=org/CN=ca
check_is 'a new endorser is there at once' /DC=org/CN=carol "$(cat "$MNT/endorsers/carol/subject")"
ctl -q endorser link carol a-list
check_is 'and its link' '../../../subscriptions/a-list' "$(readlink "$MNT/endorsers/carol/subscriptions/a-list")"
ctl -q endorser unlink carol a-list
check_not 'a link that was removed is gone at once' test -e "$MNT/endorsers/carol/subscriptions/a-list"
ctl -q endorser remove carol
check_not 'an endorser that was removed is gone at once' test -e "$MNT/endorsers/carol"
ctl -q unsubscribe 'b list/odd'
check_not 'a list that was unsubscribed is gone at once' test -e "$MNT/subscriptions/$bobs"
check_not 'with its images' test -e "$MNT/images/bob-1"

# ---- numbers that stay --------------------------------------------------------------------------

inodes() {
	find "$MNT" -not -path '*/expired/*' -not -path '*/events' -printf '%i %P\n' | sort
}
# What is in expired/ is in the catalogue alone.
ctl -q expired --purge 0
inodes >"$SITE/inodes.1"
mount_down && mount_up || bail 'not mounted again'
inodes >"$SITE/inodes.2"
check 'F32 inode numbers stay when the mount comes back' cmp "$SITE/inodes.1" "$SITE/inodes.2"
mount_down
rm "$SITE"/state/catalogue.db*
mount_up || bail "not mounted without a catalogue: $(tail -n 5 "$LOG")"
# What is stored is hashed before it is shown again.
same_inodes() {
	inodes >"$SITE/inodes.3"
	diff "$SITE/inodes.1" "$SITE/inodes.3"
}
check 'F32 and when the catalogue has to be made anew' wait_for 30 same_inodes

plan_done
