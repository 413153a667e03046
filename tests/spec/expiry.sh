#!/bin/bash
# What is no longer endorsed: each reason for which an image leaves, what stays of it in expired/, who
# may go on reading it, how it comes back, and when its file goes.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up
for name in apple pear plum twin fig date; do
	image_file "$name.img"
done
apple=$(image_entry apple Apple 1 apple.img)
pear=$(image_entry pear Pear 1 pear.img)
plum=$(image_entry plum Plum 1 plum.img "dc:date:expires=$(utc '+7 seconds')")
twin1=$(image_entry twin-one Twin 1 twin.img)
twin2=$(image_entry twin-two Twin 1 twin.img)
fig=$(image_entry fig Fig 1 fig.img)
date=$(image_entry date Date 1 date.img)
publish alice one.list one 1 "$apple" "$pear" "$plum" "$twin1" "$twin2"
end=$(($(date +%s) + 8))
PKI_LIST_EXPIRES=$(utc @$end) publish alice soon.list soon 1 "$fig"
publish alice third.list third 1 "$date"

# there ID NAME: in the valid views, with the right bytes.
there() {
	cmp "$MNT/cache/$1" "$WWW/$2" && cmp "$MNT/images/$1/image" "$WWW/$2" &&
	    is_value verified "$MNT/images/$1/state"
}

# withdrawn ID REASON NAME: no longer in the valid views; in expired/, and there it can be read.
withdrawn() {
	[ ! -e "$MNT/cache/$1" ] && has_expired "$1" "$2" &&
	    cmp "$(expired_of "$1" "$2" | tail -n 1)/image" "$WWW/$3"
}

not_listed() {
	[ ! -e "$MNT/images/$1" ]
}

stored() {
	local hex

	hex=$(sha512sum <"$WWW/$1" | cut -d' ' -f1)
	[ -f "$SITE/cache/objects/${hex:0:2}/$hex" ]
}

not_stored() {
	! stored "$1"
}

# events_are TYPES ID: the types of the last events of an image.
events_are() {
	local types=($1)

	[ "$(grep -F "\"$2\"" "$MNT/events" | grep -oE '(Available|Expire)(Pre|Post)fix' |
	    tail -n ${#types[@]} | paste -sd' ')" = "$1" ]
}

ctl -q endorser add alice --from-cert "$PKI/alice.pem" && ctl -q subscribe "$WEB_URL/one.list" --select all &&
    ctl -q subscribe "$WEB_URL/soon.list" --select all &&
    ctl -q subscribe "$WEB_URL/third.list" --select all || bail 'no subscriptions'
mount_up || bail "no mount: $(tail -n 5 "$LOG")"
ctl -q fetch --all && wait_for "$VMI_PATIENCE" there twin-two twin.img || bail 'the images do not come'
for id in apple fig; do
	hold $id "$MNT/cache/$id" && [ "$(held $id "same $WWW/$id.img")" = same ] || bail "$id cannot be held"
done

# ---- by the clock -------------------------------------------------------------------------------

now_is() {
	[ "$(date +%s)" -ge "$1" ]
}
web_down
there plum plum.img && there fig fig.img || bail 'this machine is too slow: they have expired already'
check 'K01 an image leaves at its own date' wait_for 30 withdrawn plum image-expired plum.img
check 'K01 an image past its date is not listed' not_listed plum
check 'K01 an image past its date takes no other with it' there apple apple.img
check 'K01 all images of a list leave at its date, with no network' \
    wait_for 30 withdrawn fig list-expired fig.img
check 'K01 images do not leave before the date' now_is "$end"
check_is 'K01 a list past its date is expired' 'expired' "$(value "$MNT/subscriptions/soon/state")"
check_is 'K01 an image that is open can be read past its date' \
    same "$(held fig "same $WWW/fig.img")"
dir=$(expired_of fig)
check_like 'what an image was stays in expired/' \
    "^$dir\|list-expired\|20[0-9-]{8}T[0-9:]{8}Z\|fig\|Fig\|1\|100000\$" \
    "$dir|$(value "$dir"/{reason,expired_at,id,title,version,size})"
check 'events tell of images that expire' \
    wait_for "$VMI_PATIENCE" events_are 'ExpirePrefix ExpirePostfix' fig
object=$(readlink -f "$dir/image")
configure expired_open deny
check 'with expired_open = deny an expired image cannot be opened' \
    wait_for "$VMI_PATIENCE" opens_as EKEYEXPIRED "$object"
check_is 'with expired_open = deny whoever has an expired image open goes on' \
    same "$(held fig "same $WWW/fig.img")"
configure expired_open allow
check 'with expired_open = allow an expired image can be opened' \
    wait_for "$VMI_PATIENCE" opens_as open "$object"
web_again || bail 'the web server does not come back'
check_like 'L14 a list past its date cannot be taken again' \
    '^4: .*the list expired at' "$(refusal update soon)"
fetched=$(web_requests img)
publish alice soon.list soon 2 "$fig" && ctl -q update soon
check 'a new list brings its images back' wait_for "$VMI_PATIENCE" there fig fig.img
check_is 'images that a new list brings back are not downloaded' "$fetched" "$(web_requests img)"
check 'events tell of images that come back' wait_for "$VMI_PATIENCE" \
    events_are 'ExpirePrefix ExpirePostfix AvailablePrefix AvailablePostfix' fig
let_go fig

# ---- by the list --------------------------------------------------------------------------------

publish alice one.list one 2 "$pear" "$twin1" "$twin2" && ctl -q update one
check 'L23 an image that the list drops leaves' \
    wait_for "$VMI_PATIENCE" withdrawn apple removed-from-list apple.img
check 'L23 an image that the list dropped is not listed' not_listed apple
check_is 'L23 whoever has an image open goes on when the list drops it' \
    same "$(held apple "same $WWW/apple.img")"
publish alice one.list one 3 "$apple" "$pear" "$twin2" && ctl -q update one
check 'L23 an image that is listed again is back' wait_for "$VMI_PATIENCE" there apple apple.img
check_is 'L23 an image that is listed again is not downloaded' "$fetched" "$(web_requests img)"
check 'L25 of two images with the same bytes one can leave' not_listed twin-one
check 'L25 when one of two images with the same bytes leaves the other one stays' \
    there twin-two twin.img
publish alice one.list one 4 && ctl -q update one
check 'L22 an empty list withdraws all images' \
    wait_for "$VMI_PATIENCE" withdrawn twin-two removed-from-list twin.img
check_is 'L22 an empty list shows no image' '' "$(ls "$MNT/subscriptions/one/images")"
check 'L22 an empty list leaves the files alone' stored pear.img
check 'L22 events tell of each image that an empty list withdraws' \
    wait_for "$VMI_PATIENCE" events_are 'ExpirePrefix ExpirePostfix' pear
publish alice one.list one 5 "$apple" "$pear" "$twin1" "$twin2" && ctl -q update one
check 'L22 the list after an empty one brings the images back' \
    wait_for "$VMI_PATIENCE" there pear pear.img

# ---- by hand ------------------------------------------------------------------------------------

ctl -q deselect apple
check 'a deselected image leaves the cache' \
    wait_for "$VMI_PATIENCE" withdrawn apple deselected apple.img
check 'a deselected image stays listed' \
    is_value 'available|no' "$MNT/images/apple/state" "$MNT/images/apple/selected"
check_not 'a deselected image has nothing to read' test -e "$MNT/images/apple/image"
check_is 'whoever has an image open goes on when it is deselected' \
    same "$(held apple "same $WWW/apple.img")"
ctl -q select apple
check 'an image that is selected again is back' wait_for "$VMI_PATIENCE" there apple apple.img
ctl -q unsubscribe third
check 'the images of a list that is unsubscribed leave' \
    wait_for "$VMI_PATIENCE" withdrawn date unsubscribed date.img
check_not 'a list that is unsubscribed is gone from the tree' test -e "$MNT/subscriptions/third"
ctl -q subscribe "$WEB_URL/third.list" --select all
check 'the images of a list that is subscribed again are back' \
    wait_for "$VMI_PATIENCE" there date date.img
check_is 'images that were deselected or unsubscribed are not downloaded again' \
    "$fetched" "$(web_requests img)"

# ---- while it is fetched ------------------------------------------------------------------------

hostile_up
image_file kiwi.img && image_file lime.img
publish alice late.list late 1 \
    "$(IMAGE_URI=$HOSTILE/stall:50/kiwi.img image_entry kiwi Kiwi 1 kiwi.img)" \
    "$(IMAGE_URI=$HOSTILE/stall:50/lime.img image_entry lime Lime 1 lime.img)"
ctl -q subscribe "$WEB_URL/late.list" --select all
for id in kiwi lime; do
	wait_for "$VMI_PATIENCE" hold $id "$MNT/images/$id/image" || bail "$id cannot be held"
	echo 'read 0' >&"${hold_in[$id]}"
	wait_for "$VMI_PATIENCE" grep -q "$id.img" "$SITE/requests" || bail "$id is not asked for"
done
ctl -q deselect kiwi
check_is 'a read that waits for an image that is withdrawn ends with ESTALE' \
    ESTALE "$(hold_answer kiwi)"
check_is 'further reads of an image that was withdrawn before it came end with ESTALE' \
    ESTALE "$(held kiwi read 4096)"
ctl -q endorser unlink alice late
check_is 'a read that waits for an image that is no longer trusted ends with ESTALE' \
    ESTALE "$(hold_answer lime)"
check_is 'what was never there expires without a file' 'endorser-unlinked' \
    "$(wait_for "$VMI_PATIENCE" has_expired lime; value "$(expired_of lime)/reason")"
check_not 'an image that was never there has nothing to read in expired/' \
    test -e "$(expired_of lime)/image"

# ---- when the file goes -------------------------------------------------------------------------

ctl -q deselect apple pear
wait_for "$VMI_PATIENCE" withdrawn pear deselected pear.img
check_like 'what expired a short while ago is not purged' \
    '^0: 0 files' "$(refusal expired --purge 1h)"
said=$(refusal expired --purge 0)
check_like 'expired --purge 0 removes the files that only expired images have' '^0: 2 files' "$said"
check_like 'but what is open stays, and that is said' '1 are open and stay' "$said"
check_is 'and whoever has it open goes on' same "$(held apple "same $WWW/apple.img")"
check 'from the file that the next worker will find' stored apple.img
let_go apple
purges_one() {
	[ "$(refusal expired --purge 0)" = '0: 1 files of expired images removed' ]
}
check 'when it is closed it can be purged' wait_for "$VMI_PATIENCE" purges_one
check 'a purged file is gone from the cache' not_stored pear.img
check 'a purged image has nothing to read in expired/' \
    wait_for "$VMI_PATIENCE" test ! -e "$(expired_of pear deselected | tail -n 1)/image"
check_is 'what else a purged image was stays in expired/' 'deselected|Pear' \
    "$(value "$(expired_of pear deselected | tail -n 1)"/{reason,title})"
check 'the files of images that are in use stay' there twin-two twin.img
check_like 'images that expired are listed' \
    "^pear\..* deselected  +Pear  \(purged\)\$" "$(ctl expired | grep ^pear | tail -n 1)"
publish alice one.list one 6 "$twin1" "$twin2" && ctl -q update one
publish alice one.list one 7 "$apple" "$twin1" "$twin2" && ctl -q update one && ctl -q select apple
check 'a purged image is fetched anew when it is read' \
    timeout $((VMI_PATIENCE * 2)) cmp "$MNT/by-title/Apple/image" "$WWW/apple.img"
downloads_are() {
	[ "$(web_requests img)" -eq $((fetched + $1)) ]
}
check 'a purged image is downloaded once' wait_for "$VMI_PATIENCE" downloads_are 1

configure expire_keep never && ctl -q deselect apple
check 'with expire_keep = never a file goes with its image' \
    wait_for "$VMI_PATIENCE" not_stored apple.img
check 'with expire_keep = never the entry in expired/ stays' \
    is_value deselected "$(expired_of apple | tail -n 1)/reason"
check 'expire_keep leaves files alone that other images have' there date date.img
configure expire_keep 3s && ctl -q deselect date
wait_for "$VMI_PATIENCE" has_expired date deselected
start=$(date +%s)
check 'with an age as expire_keep a file stays at first' stored date.img
check 'with an age as expire_keep a file goes in time' wait_for 60 not_stored date.img
check 'with an age as expire_keep the last expiry counts' now_is $((start + 2))

# ---- without a daemon ---------------------------------------------------------------------------

mount_down
PKI_LIST_EXPIRES=$(utc '+2 seconds') publish alice soon.list soon 3 "$fig" && ctl -q update soon
# Of four lists, and of some of their earlier signers.
few_messages() {
	local messages=("$SITE"/state/messages/*.smime)

	[ ${#messages[@]} -le 8 ]
}
check 'lists that were replaced before are not kept' few_messages
will_expire() {
	[[ $(ctl expire 2>&1) =~ ^1\ images\ expired ]]
}
check 'the command expire withdraws what is past its date where no daemon runs' \
    wait_for "$VMI_PATIENCE" will_expire
check_like 'the command expired shows what left and why' \
    '^fig\..*list-expired' "$(ctl expired | grep ^fig | tail -n 1)"

plan_done
