#!/bin/bash
# time limit: 240 s
#
# What lies in the store is verified each time it is read: bytes that went bad are fetched anew, one
# granule at a time, and never read.  The trees that prove them may go bad, too, or be exchanged.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq sqlite3 script fallocate
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576

# ---- helpers ---------------------------------------------------------------------------------------

object_is_whole() {
	cmp -s "$(object_of "$1")" "$WWW/$1"
}

tree_of() {
	printf '%s.fsv\n' "$(object_of "$1")"
}

stored() {
	local name

	for name in "$@"; do
		reads "$name" --mode pread >/dev/null || bail "cannot read $name: $oracle_said"
		wait_for "$VMI_PATIENCE" state_is "$name" verified || bail "$name is not verified"
		wait_for "$VMI_PATIENCE" test -e "$(tree_of "$name")" || bail "$name has no tree"
	done
}

# With O_DIRECT the daemon is asked each time; buffered after the kernel forgot the pages.
spot_in() {
	if [ "$1" = direct ]; then
		spot "$2" "$3"
	else
		reads "$2" --mode pread --from "$3" --length 4096
	fi
}

quarantined() {
	find "$SITE/cache/quarantine" -name "$(image_hex "$1")*" | wc -l
}

server_again() {
	"$hostile" --root "$WWW" --log "$SITE/requests" --port "${SERVER##*:}" >"$SITE/ports" </dev/null &
	SERVER_PID=$!
	at_exit images_server_stop "$SERVER_PID"
	wait_for 10 grep -qx ready "$SITE/ports"
}

# healed_by WAY NAME OFFSET: read right there, and whole again, by one more request for one granule.
healed_by() {
	local before n

	before=$(sent "$2")
	n=$(requests "$2")
	spot_in "$1" "$2" "$3" || return 1
	wait_for "$VMI_PATIENCE" object_is_whole "$2" || { echo 'it is not whole again'; return 1; }
	[ $(($(requests "$2") - n)) -eq 1 ] || { echo "$(($(requests "$2") - n)) requests"; return 1; }
	[ $(($(sent "$2") - before)) -le $granule ] || { echo "$(($(sent "$2") - before)) bytes"; return 1; }
}

# ---- bits that flip at rest -----------------------------------------------------------------------

images_up stall_timeout=3s fill=now
# One whose list signs block digests, and one whose tree was derived when it was fetched.
image_disk signed ok 4
image_blocks signed
image_disk derived ok 4
image_disk trees ok 4
image_disk trees2 ok 4
image_disk lost-tree ok 4
image_disk both ok 4
image_disk many ok 16
image_disk offline ok 4
image_disk offline2 ok 4
image_disk rot ok 16
image_blocks rot
image_disk swapping ok 4
image_blocks offline2
image_blocks trees2
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
stored signed derived trees trees2 lost-tree both many offline offline2 rot swapping

for name in signed derived; do
	flip_byte "$(object_of $name)" 300000
	check "B09 a bit that flips in a stored file ($name) is healed when it is read, buffered" \
	    healed_by buffered $name 299008
	check "B09 there is an event of it ($name)" wait_for 5 has_event $name CorruptFound
	check "B09 and one when it is healed ($name)" wait_for 5 has_event $name CorruptHealed
	check_like "B09 in this order ($name)" 'CorruptFound CorruptHealed' "$(events_of $name)"
	check "B09 the image is verified ($name)" wait_for 5 state_is $name verified
	check_is "B09 the bad bytes are kept ($name)" 1 "$(quarantined $name)"
	flip_byte "$(object_of $name)" $((4 * mib - 1))
	check "B09 a bit in the last byte ($name) is healed by an O_DIRECT read" \
	    healed_by direct $name $((4 * mib - 4096))
	flip_byte "$(object_of $name)" 0
	check "B09 one in the first byte ($name), too" healed_by direct $name 0
	check "I1 what was healed is read in all ways ($name)" reads $name
	fallocate -p -o $((mib + 8192)) -l $mib "$(object_of $name)"
	check "B14 a hole that was punched in a stored file ($name) is filled again" \
	    reads $name --mode direct
	check "B14 and the file is whole ($name)" wait_for "$VMI_PATIENCE" object_is_whole $name
	dd if=/dev/urandom of="$(object_of $name)" bs=64k count=48 seek=3 conv=notrunc status=none
	check "B09 three quarters of the bytes may be bad ($name)" reads $name --mode random
	check "B09 and the file is whole ($name)" wait_for "$VMI_PATIENCE" object_is_whole $name
done
check 'B09 the mount counts what was found and healed' \
    [ "$(status_of healed_granules)" -ge 20 ]
degraded_are() {
	[ "$(status_of images_degraded)" -eq "$1" ]
}
check 'B09 no image is degraded' wait_for 5 degraded_are 0

# One at a time, so that each would have its file.
for ((i = 0; i < 40; i++)); do
	flip_byte "$(object_of many)" $((i * granule + i))
	spot many $((i * granule)) >/dev/null || not_ok "granule $i is healed"
done
check 'B09 forty granules are healed' wait_for "$VMI_PATIENCE" object_is_whole many
n=$(find "$SITE/cache/quarantine" -type f | wc -l)
check 'B09 but quarantine is bounded' [ "$n" -ge 1 -a "$n" -le 16 ]

# ---- without the network ------------------------------------------------------------------------

server_down
for name in offline offline2; do
	flip_byte "$(object_of $name)" $((mib + 5))
	check "B09 without the network a bad granule is EIO ($name)" spot_fails $name $mib EIO
	check "B09 for a buffered reader, too ($name)" fails $name EIO --from $mib --length 4096
	check "B09 for that granule alone ($name)" \
	    reads $name --mode direct --from 0 --length $mib
	check "B09 also behind it ($name)" reads $name --mode direct --from $((mib + granule))
	check "B09 the state is degraded ($name)" wait_for 10 state_is $name degraded
	check "B09 the error says so ($name)" [ -s "$MNT/images/$name/error" ]
	check_is "B09 there is one event ($name)" 1 "$(events_of $name | grep -o CorruptFound | wc -l)"
	check "B09 and none that it was healed ($name)" bash -c "! grep -q Healed <<<'$(events_of $name)'"
done
check 'B09 the mount counts them' wait_for 5 degraded_are 2
check 'B09 the file is kept' [ -e "$(object_of offline)" ]
server_again || bail 'the server does not start again'
for name in offline offline2; do
	check "B09 when the network is back, the next reader heals it ($name)" \
	    wait_for 20 spot $name $mib
	check "B09 it is not degraded any more ($name)" wait_for 10 state_is $name verified
	check "B09 the event says so ($name)" wait_for 5 has_event $name CorruptHealed
	check "B09 it is read in all ways ($name)" reads $name
done

# ---- trees -------------------------------------------------------------------------------------------

restart() {
	mount_down && mount_up
}

# right_again NAME: read right, and its tree is what it was, without a byte from the network.
right_again() {
	local n

	n=$(requests "$1")
	reads "$1" --mode direct || return 1
	wait_for "$VMI_PATIENCE" cmp -s "$(tree_of "$1")" "$SITE/$1.fsv" || { echo 'the tree is not as it was'; return 1; }
	[ "$(requests "$1")" -eq "$n" ] || { echo "fetched: $(($(requests "$1") - n)) requests"; return 1; }
}

mount_down
for name in trees trees2 lost-tree both; do
	cp "$(tree_of $name)" "$SITE/$name.fsv"
done
mount_up
for what in 'a bit of its header' 'a bit of its levels' 'its end' 'all of it'; do
	mount_down
	for name in trees trees2; do
		case $what in
		*header) flip_byte "$(tree_of $name)" 30 ;;
		*levels) flip_byte "$(tree_of $name)" 4500 ;;
		*end)	truncate -s 5000 "$(tree_of $name)" ;;
		*all*)	: >"$(tree_of $name)" ;;
		esac
	done
	mount_up
	check "B15 a derived tree that lost $what is made anew from the bytes it proves" right_again trees
	check "B15 so is a signed one" right_again trees2
done
mount_down
rm "$(tree_of lost-tree)" "$(tree_of trees2)"
mount_up
check 'B16 a tree that is missing is made anew' right_again lost-tree
check 'B16 so is a signed one' right_again trees2

# Both are bad: the tree must not be made from bytes that are not the image's.
mount_down
flip_byte "$(tree_of both)" 4200
flip_byte "$(object_of both)" 2000000
mount_up
check 'B15 of bytes that are bad, too, no tree is made: the image is fetched anew' reads both --mode direct
check 'B15 and whole' wait_for "$VMI_PATIENCE" object_is_whole both
check 'B15 with its tree' wait_for "$VMI_PATIENCE" cmp "$(tree_of both)" "$SITE/both.fsv"

# ---- things that changed places -----------------------------------------------------------------

swap_files() {
	mv "$1" "$SITE/swap" && mv "$2" "$1" && mv "$SITE/swap" "$2"
}
mount_down
swap_files "$(tree_of trees)" "$(tree_of trees2)"
mount_up
check 'X28 trees that changed places are made anew' right_again trees
check 'X28 both of them' right_again trees2
mount_down
swap_rows() {
	local a b

	a=$(sqlite3 "$SITE/state/catalogue.db" "SELECT hex(tree) FROM object WHERE hex(digest) = upper('$(image_hex trees)')")
	b=$(sqlite3 "$SITE/state/catalogue.db" "SELECT hex(tree) FROM object WHERE hex(digest) = upper('$(image_hex lost-tree)')")
	[ -n "$a" ] && [ -n "$b" ] && [ "$a" != "$b" ] &&
	    sqlite3 "$SITE/state/catalogue.db" "
		UPDATE object SET tree = x'$b' WHERE hex(digest) = upper('$(image_hex trees)');
		UPDATE object SET tree = x'$a' WHERE hex(digest) = upper('$(image_hex lost-tree)');"
}
check 'the digests of two trees change places in the catalogue' swap_rows
mount_up
check 'X28 then they are found anew from the bytes' right_again trees
check 'X28 both of them' right_again lost-tree
mount_down
check 'the digests change places once more' swap_rows
swap_files "$(tree_of trees)" "$(tree_of lost-tree)"
mount_up
check 'X28 trees and digests that changed places together prove nothing: the header ties them to the image' \
    right_again trees
check 'X28 both of them' right_again lost-tree
mount_down
swap_files "$(object_of trees)" "$(object_of trees2)"
mount_up
check 'X28 images that changed places are not read in place of each other' reads trees --mode direct
check 'X28 neither of them' reads trees2 --mode direct

# ---- while it is read ------------------------------------------------------------------------------

seconds=${VMI_NIGHTLY:+600}
seconds=${seconds:-8}
rot() {
	local i object

	object=$(object_of rot)
	for ((i = 0; ; i++)); do
		flip_byte "$object" $(((RANDOM * 32768 + RANDOM) % (16 * mib))) 2>/dev/null
	done
}
rot &
rotter=$!
at_exit kill "$rotter"
waiters rot
waiter direct rot --mode directspots --seconds "$seconds" --seed 11
waiter direct2 rot --mode directspots --seconds "$seconds" --seed 12
waiter spots rot --mode spots --seconds "$seconds" --seed 13
waiter pread rot --mode pread,mmap --seconds "$seconds" --seed 14
waited
kill "$rotter"
wait "$rotter" 2>/dev/null
check_is 'I16 while bits flip all the time, readers see none of it' '4 right' "$waiters_saw"
check 'B09 in the end all is healed' wait_for 20 reads rot --mode direct
check 'B09 and whole' wait_for 20 object_is_whole rot

# The name of the object leads to right bytes and wrong ones, in turns.
head -c $((4 * mib)) /dev/urandom >"$SITE/cache/impostor"
chown nobody:nogroup "$SITE/cache/impostor"
cp -p "$(object_of swapping)" "$SITE/cache/good"
exchange() {
	local object

	object=$(object_of swapping)
	while :; do
		cp -p "$SITE/cache/impostor" "$SITE/cache/x" && mv "$SITE/cache/x" "$object"
		cp -p "$SITE/cache/good" "$SITE/cache/x" && mv "$SITE/cache/x" "$object"
	done 2>/dev/null
}
exchange &
exchanger=$!
at_exit kill "$exchanger"
waiters swap
for ((i = 0; i < 4; i++)); do
	waiter $i swapping --mode directspots,spots --seconds "$seconds" --seed $i --errors EIO,EBADMSG
done
waited
kill "$exchanger"
wait "$exchanger" 2>/dev/null
check_is 'X27 whatever file is behind the name from one moment to the next, no wrong byte is read' '4 right' "$waiters_saw"
rm -f "$SITE/cache/impostor" "$SITE/cache/x" "$SITE/cache/good"
check 'X27 when it is over, the image is read' wait_for 30 reads swapping --mode direct

# ---- verify ----------------------------------------------------------------------------------------

wait_for 10 state_is signed verified
check 'verify finds nothing wrong' ctl verify
flip_byte "$(object_of signed)" $((mib * 2 + 7))
flip_byte "$(object_of derived)" $((mib * 3 + 7))
check_status 'verify finds what is bad' 1 ctl -q verify signed derived
check_status 'verify --fix says that it found something' 1 ctl -q verify --fix signed derived
check 'and heals it: it is whole then' wait_for 10 object_is_whole signed
check 'both are' wait_for 10 object_is_whole derived
check 'verify finds nothing wrong any more' ctl -q verify
# shellcheck disable=SC2016 # for the inner shell
script -qec "$(tap_quote "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" verify many)" /dev/null \
    >"$SITE/terminal" </dev/null
check 'on a terminal verify draws a bar' grep -q '\[#*\.*\]' "$SITE/terminal"
mount_down || not_ok 'the daemon ends'
flip_byte "$(object_of signed)" $((mib * 2 + 7))
check_status 'verify works without a daemon' 1 ctl -q verify signed
check_status 'verify --fix, too' 1 ctl -q verify --fix signed
check 'and the image is whole' object_is_whole signed
check 'verify says so' ctl -q verify signed
plan_done
