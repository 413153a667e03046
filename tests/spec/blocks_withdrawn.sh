#!/bin/bash
# time limit: 180 s
#
# An image that is read block by block and not whole yet leaves: replaced, dropped by the list,
# deselected, unsubscribed, past its date.  Who has it open, a running machine, goes on reading, of
# what is here and of what is not; the rest is fetched at once, and then it is an image that has
# expired.  Only who is no longer trusted takes it from its readers.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576
# What lies behind it does not come before it is released: no image gets whole by itself.
mode=stallat:$((3 * mib))

images_up fill=never stall_timeout=30s block_timeout=60s expire_keep=always
for name in bob carol; do
	pki_user $name root || bail 'no PKI'
done
for name in replaced dropped deselected dated parked back purged closed crashed kept; do
	image_disk $name $mode 4
	image_blocks $name
done
image_disk coming ok 4

# At an address of its own, and in the list of another endorser.
for name in unsubscribed distrusted late; do
	image_disk $name $mode 4
	unset 'image_names[-1]' 'image_uris[-1]'
	image_blocks $name
done

# another_list USER VERSION NAME...: as USER.list
another_list() {
	local user=$1 version=$2 name entries=()

	shift 2
	for name in "$@"; do
		# shellcheck disable=SC2086 # words
		entries+=("$(pki_image "$name" "The $name image" 1.0 "$SERVER/$mode/$name" $((4 * mib)) \
		    "$(image_hex "$name")" ${image_keys[$name]})")
	done
	pki_list "$SITE/$user.json" "$user-list" "$version" "$(pki_dn "$user")" "$(pki_issuer "$user")" \
	    "${entries[@]}" && pki_sign "$user" "$SITE/$user.json" "$WWW/$user.new" &&
	    mv "$WWW/$user.new" "$WWW/$user.list" || bail 'no list'
}

# entry_is NAME FILE VERSION [MODE]: from now on the image has these bytes, and another address.
entry_is() {
	local i

	for i in "${!image_names[@]}"; do
		[ "${image_names[i]}" = "$1" ] || continue
		image_uris[i]=$SERVER/${4:-$mode}/$2
	done
	image_version[$1]=$3
	image_keys[$1]=" sl:checksum:fsverity-sha512=$(verity_of "$WWW/$2" "$WWW/$2.fsv")"
	image_sha512[$1]=$(image_hex "$2")
}

no_entry() {
	local i

	for i in "${!image_names[@]}"; do
		[ "${image_names[i]}" != "$1" ] || unset "image_names[i]" "image_uris[i]"
	done
}

another_list carol 1 unsubscribed
another_list bob 1 distrusted late
images_subscribe
for user in bob carol; do
	ctl -q endorser add $user --from-cert "$PKI/$user.pem" &&
	    ctl -q subscribe "$SERVER/ok/$user.list" --endorser $user --select all ||
	    bail "the list of $user is not accepted"
done
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads coming --mode pread >/dev/null && wait_for "$VMI_PATIENCE" state_is coming verified || bail 'no first version'

page() {
	[ "$(held "$1" page $(($2 * granule)) "$WWW/${3:-$1}")" = same ]
}
begin() {
	hold "$1" "$(image "$1")" && page "$1" 0 && [ -f "$(blocks_of "$1")" ] || bail "$1 cannot be held"
}
stored() {
	[ -f "$(object_of "$1")" ]
}
gets_whole() {
	server_get /release
	stored "$1"
}
nothing_left() {
	[ -z "$(find "$SITE/cache" -name "$(image_hex "$1")*")" ]
}
# The last directory in expired/ of an image.
gone() {
	expired_of "$@" | tail -n 1
}

# ---- each way to leave ---------------------------------------------------------------------------

replace() {
	head -c $((4 * mib)) /dev/urandom >"$WWW/second"
	entry_is "$1" second 2.0 && images_update
}
drop() {
	no_entry "$1" && images_update
}
expire() {
	image_keys[$1]+=" dc:date:expires=$(utc '+3 seconds')" && images_update
}
unsubscribe() {
	ctl -q unsubscribe carol-list
}

# leaves NAME REASON COMMAND...
leaves() {
	local name=$1 why=$2

	shift 2
	begin $name
	"$@" || not_ok "$*"
	check "an image that is here in part leaves ($why)" wait_for 20 has_expired "$name" "$why"
	check "C07 who has it open reads what is here ($why)" page "$name" 0
	check "C07 and what is not here yet ($why)" page "$name" 7
	check_not "it is not whole ($why)" stored "$name"
	check_is "who has it open does not hinder others to open it ($why)" open "$(opens "$(gone "$name")/image")"
	check_like "its progress is told ($why)" '^[1-9][0-9]* 4194304 [0-9]+$' "$(value "$(gone "$name")/progress")"
	check "it is filled to its end, although fill = never, and kept ($why)" wait_for 30 gets_whole "$name"
	check_is "C07 who has it open finds all of it right ($why)" same "$(held "$name" same "$WWW/$name")"
	check "in expired/ it is an image like any that was whole ($why)" cmp "$(gone "$name")/image" "$WWW/$name"
	check "its progress says so ($why)" wait_for "$VMI_PATIENCE" is_value '4194304 4194304 100' "$(gone "$name")/progress"
	let_go "$name"
	check_is "nothing of it is left in partial/ ($why)" '' \
	    "$(find "$SITE/cache/partial" -name "$(image_hex "$name")*")"
}

leaves replaced replaced replace replaced
check_is 'the new version is what the mount shows' 2.0 "$(value "$MNT/images/replaced/version")"
leaves dropped removed-from-list drop dropped
leaves deselected deselected ctl -q deselect deselected
leaves unsubscribed unsubscribed unsubscribe
leaves dated image-expired expire dated
no_entry dated
fetched=$(sent deselected)
ctl -q select deselected
check 'an image that comes back is there' wait_for "$VMI_PATIENCE" state_is deselected verified
check_is 'and is not fetched again' "$fetched" "$(sent deselected)"

# ---- a version that never was whole ------------------------------------------------------------------

shows_version() {
	is_value "$2" "$MNT/images/$1/version"
}
image_disk second-to-come ok 4 && no_entry second-to-come
image_disk third-to-come ok 4 && no_entry third-to-come
entry_is coming second-to-come 2.0
images_update
check 'a new version is shown as soon as its blocks can be read' \
    wait_for "$VMI_PATIENCE" shows_version coming 2.0
hold coming "$(image coming)" && page coming 1 second-to-come || not_ok 'it is read'
entry_is coming third-to-come 3.0 ok
# Not by check, in whose subshell the version of the list would not be counted.
if images_update; then
	ok 'a third version replaces it before it is whole'
else
	not_ok 'a third version replaces it before it is whole'
fi
check 'and is shown' wait_for "$VMI_PATIENCE" shows_version coming 3.0
check 'C07 who has the second open goes on reading it' page coming 8 second-to-come
version_of_expired() {
	cat "$MNT/expired/coming".*/version | grep -qx "$1"
}
check 'the second version stands in expired/' wait_for "$VMI_PATIENCE" version_of_expired 2.0
check 'it, too, is filled to its end' wait_for 30 gets_whole second-to-come
check_is 'C07 and read to its end' same "$(held coming same "$WWW/second-to-come")"
let_go coming

# ---- who waits -----------------------------------------------------------------------------------

begin parked
echo "page $((12 * granule)) $WWW/parked" >&"${hold_in[parked]}"
wait_for "$VMI_PATIENCE" parked -ge 1 || not_ok 'a read waits'
drop parked
wait_for "$VMI_PATIENCE" has_expired parked removed-from-list || not_ok 'it leaves'
check 'a read that waits for a block when the image leaves goes on waiting' parked -ge 1
check 'the rest comes, too' wait_for 30 gets_whole parked
check_is 'and it is answered' same "$(hold_answer parked)"
let_go parked

# ---- who comes back -----------------------------------------------------------------------------

begin back
before=("${image_names[@]}") uris=("${image_uris[@]}")
drop back
check 'it left, and is read on' page back 4
image_names=("${before[@]}") image_uris=("${uris[@]}")
images_update
check 'an image that is listed again before it is whole is wanted as before' \
    is_value yes "$MNT/images/back/selected"
check 'who has it open goes on' page back 8
let_go back
check 'it stays when it is closed' lasting 3 test -f "$(blocks_of back)"
server_get /release

# ---- who closes it -------------------------------------------------------------------------------

begin closed
drop closed
check 'it is read on while it is open' page closed 5
let_go closed
check 'what was here of it is dropped when the last reader closes it' wait_for 10 nothing_left closed
has_no_bytes() {
	[ ! -e "$(gone "$1")/image" ]
}
check 'and has nothing to read in expired/' wait_for 10 has_no_bytes closed
check_is 'but what it was stays there' 'removed-from-list|The closed image' \
    "$(value "$(gone closed)"/{reason,title})"
server_get /release

# ---- trust ---------------------------------------------------------------------------------------

is_cut() {
	[ "$(held "$1" page $(($2 * granule)) "$WWW/$1")" = ESTALE ]
}
begin distrusted
begin late
another_list bob 2 distrusted && ctl -q update bob-list
check 'it left, and is read on' page late 6
check 'it is read while it is trusted' page distrusted 6
ctl -q endorser remove bob
for name in distrusted late; do
	check "X26 an image of an endorser that is removed is cut ($name)" wait_for "$VMI_PATIENCE" is_cut $name 7
	check "X26 what was here of it, too ($name)" is_cut $name 0
	check "nothing is left of it ($name)" wait_for 10 nothing_left $name
	check "it has nothing to read in expired/ ($name)" wait_for 10 has_no_bytes $name
done
server_get /release
ctl -q unsubscribe bob-list

# ---- a crash -------------------------------------------------------------------------------------

begin kept
begin crashed
drop crashed
check 'it is read before the crash' page crashed 5
before=$(sent kept)
# What is noted of it every few seconds outlives a crash.
wait_for 15 test -f "$SITE/cache/partial/$(image_hex kept).map" || not_ok 'there is no map of what is here'
mount_kill
let_go crashed
let_go kept
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check 'P08 after a crash nobody has it open, and it is dropped' wait_for 10 nothing_left crashed
check 'it has nothing to read in expired/' wait_for 10 has_no_bytes crashed
check 'an image that is wanted has its blocks still' spot kept 0
check_is 'and they are not fetched again' "$before" "$(sent kept)"
check 'images that had got whole are still there' cmp "$(gone dropped)/image" "$WWW/dropped"
check 'nothing was moved to lost+found' [ -z "$(find "$SITE/cache" -path '*lost+found*' -type f)" ]
# ---- expire_keep --------------------------------------------------------------------------------

configure expire_keep never
begin purged
drop purged
check 'whether expired images are kept or not: it is read on' page purged 4
purged_whole() {
	server_get /release
	nothing_left purged
}
open_whole() {
	server_get /release
	stored purged
}
check 'it is filled while it is open' wait_for 30 open_whole
check_is 'C07 who has it open reads on' same "$(held purged same "$WWW/purged")"
check 'another worker finds it under its name' worker_kill
check_is 'C07 and who has it open reads on from that one' same "$(held purged same "$WWW/purged")"
let_go purged
check 'when it is whole, closed, and not to be kept, its file goes' wait_for 30 purged_whole
mount_down || not_ok 'the daemon ends'
plan_done
