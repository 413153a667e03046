#!/bin/bash
# time limit: 180 s
#
# How an image that is read block by block becomes a whole one: what readers did not ask for is
# fetched in the background, the whole is checked against its SHA-512, and only then has it its name
# in cache/.  What a crash in the middle leaves, and what becomes of lists that contradict themselves.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576

set_fill() {
	sed -i "s/^fill = .*/fill = $1/" "$CONF"
	ctl -q reload
}

# lasting SECONDS COMMAND...: whether it succeeds each time in all of that time.
lasting() {
	local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))

	shift
	while [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ]; do
		"$@" >/dev/null 2>&1 || return 1
	done
}

in_partial() {
	find "$SITE/cache/partial" -name "$(image_hex "$1")*"
}

in_quarantine() {
	find "$SITE/cache/quarantine" -name "$1*" | wc -l
}

object_is_whole() {
	cmp -s "$(object_of "$1")" "$WWW/$1"
}

# ---- filling -------------------------------------------------------------------------------------

images_up fill=never stall_timeout=3s
image_disk idle ok 12
image_disk now ok 12
image_disk never ok 12
image_disk unread ok 2
image_disk fetched ok 4
for name in "${image_names[@]}"; do
	image_blocks "$name"
done
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

check 'with fill = never a granule is read' part never 7
check 'and nothing else is fetched' lasting 3 sent_is never $granule
check 'the image has no name in cache/' [ ! -e "$MNT/cache/never" ]
check 'it is not in SHA512SUMS, either' bash -c "! grep -q cache/never '$MNT/SHA512SUMS'"
check_is 'nothing was announced to handlers' '' "$(events_of never | grep -o Available)"
check 'a fetch by hand fetches the rest' ctl -q fetch never
check_is 'and no byte twice' $((12 * mib)) "$(sent never)"
check 'I2 then it is verified' wait_for "$VMI_PATIENCE" state_is never verified
check 'it has its name in cache/' cmp "$MNT/cache/never" "$WWW/never"
check_like 'and is announced' 'AvailablePrefix AvailablePostfix$' "$(events_of never)"
check 'what is fetched by hand before anybody reads it is verified' ctl -q fetch fetched
check 'and read' reads fetched

set_fill idle
check 'with fill = idle a granule is read' part idle 3
check 'and the rest is fetched when the link is quiet' wait_for 30 state_is idle verified
check_is 'no byte twice' $((12 * mib)) "$(sent idle)"
check 'it is read in all ways' reads idle
set_fill now
check 'with fill = now a granule is read' part now 9
check 'and the rest is fetched at once' wait_for 30 state_is now verified
check_is 'no byte twice' $((12 * mib)) "$(sent now)"
check 'it is read in all ways' reads now
check 'what nobody has read is not fetched, whatever fill says' sent_is unread 0
check 'I2 the stored files are the images' object_is_whole now
check_is 'nothing is left in partial/' '' "$(in_partial idle)$(in_partial now)$(in_partial never)"
mount_down || not_ok 'the daemon ends'

# ---- lists that contradict themselves ------------------------------------------------------------

images_up fill=never stall_timeout=3s read_timeout=30s
image_disk wrong-whole ok 2
image_disk wrong-tree ok 2
image_disk other-tree ok 2
image_disk wrong-both ok 2
another=$(head -c 100 /dev/urandom | sha512sum | cut -d' ' -f1)
image_blocks wrong-whole "sha512=$another"
image_blocks wrong-tree digest="$another"
# The digest and the sidecar belong together, but not to these bytes.
image_blocks other-tree of="$WWW/wrong-both"
image_blocks wrong-both "sha512=$(head -c 200 /dev/urandom | sha512sum | cut -d' ' -f1)" sidecar=no
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

exec 8<"$(image wrong-whole)"
held_read() {
	dd if=/dev/fd/8 bs=4096 skip="$1" count=1 iflag=direct status=none 2>&1 >/dev/null
}
check 'bytes that the signed tree proves are read, as long as not all are here' part wrong-whole 2 5
oracle --mode direct "$(image wrong-whole)" "$WWW/wrong-whole"
check_like 'of the last of them, the reader gets right bytes or EBADMSG' '^(right|EBADMSG)$' "$oracle_word"
check 'I2 when all are here and their SHA-512 is not the signed one, the image fails' \
    wait_for "$VMI_PATIENCE" state_is wrong-whole failed
check_like 'with code 40' 'code 40' "$(grep "$another" "$LOG")"
check 'the error says what disagrees' grep -q SHA-512 "$MNT/images/wrong-whole/error"
check 'readers get EBADMSG' fails wrong-whole EBADMSG
check_like 'so do those that had it open' 'Bad message' "$(held_read 3)"
exec 8<&-
check_is 'the bytes are in quarantine' 1 "$(in_quarantine "$another")"
check 'there is an event' has_event wrong-whole CorruptFound
check 'it has no name in cache/' [ ! -e "$MNT/cache/wrong-whole" ]
n=$(requests wrong-whole)
fails_now() {
	fails wrong-whole EBADMSG
}
check 'nothing is fetched again, however often it is read' lasting 3 fails_now
check_is 'until there is a new list' "$n" "$(requests wrong-whole)"

check 'a digest that no sidecar leads to: the image is fetched as a whole, and refused' \
    fails wrong-tree EBADMSG
check_like 'with code 40, because the tree of the right bytes is another' 'code 40' \
    "$(grep "$(image_hex wrong-tree)" "$LOG")"
check 'the whole was asked for' asked_whole wrong-tree
check 'it is not stored' [ ! -e "$(object_of wrong-tree)" ]
check 'of the tree of other bytes not one granule is read' fails other-tree EBADMSG
check 'neither here nor there' spot_fails other-tree $mib EBADMSG
check 'without a sidecar the SHA-512 decides as ever' fails wrong-both EBADMSG

check 'the daemon ends' mount_down
check 'the daemon starts' mount_up
check 'I2 the verdict outlives it' fails wrong-whole EBADMSG
check_is 'without a request' "$n" "$(requests wrong-whole)"
image_sha512=()
image_keys=()
for name in "${image_names[@]}"; do
	image_blocks "$name"
done
check 'a new list, in which all is right, is taken' images_update
for name in "${image_names[@]}"; do
	check "with it the image is read ($name)" wait_for 20 reads "$name" --mode pread
done
mount_down || not_ok 'the daemon ends'

# ---- crashes --------------------------------------------------------------------------------------

images_up fill=never stall_timeout=20s
for name in crash map tree data gone swept claimed; do
	image_disk $name ok 8
	image_blocks $name
done
image_disk often ok 32
image_blocks often
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for name in crash map tree data gone swept claimed; do
	part $name 0 16 >/dev/null || not_ok "half of $name is read"
done
map_is_kept() {
	[ -s "${1%.blocks}.map" ] && [ "$(head -c -8 "${1%.blocks}.map" | od -An -v -tx1 | tr -dc f | wc -c)" -ge 4 ]
}
check 'which granules are here is kept on the disk before long' \
    wait_for 20 map_is_kept "$(blocks_of crash)"
for name in map tree data gone swept claimed; do
	wait_for 20 map_is_kept "$(blocks_of $name)"
done
mount_kill
garble() {
	head -c "$(stat -c %s "$1")" /dev/urandom | dd of="$1" conv=notrunc status=none
}
garble "$(blocks_of map | sed 's/blocks$/map/')"
flip_byte "$(blocks_of tree | sed 's/blocks$/fsv/')" 4200
flip_byte "$(blocks_of data)" $((granule * 3 + 5))
dd if=/dev/zero of="$(blocks_of data)" bs=$granule seek=7 count=2 conv=notrunc status=none
rm "$(blocks_of gone)"
truncate -s $mib "$(blocks_of swept)"
# All but the last granule.
# Behind it are eight bytes of its SHA-512.
claim='\377\377\377\177'
{
	printf "$claim"
	printf "$claim" | openssl dgst -sha512 -binary | head -c 8
} >"$(blocks_of claimed | sed 's/blocks$/map/')"
check 'after a crash in the middle the daemon starts' mount_up
check 'P01 what was here is read' part crash 0 16
check 'P01 without being fetched again, but for what came in the last moment' \
    [ "$(sent crash)" -le $((18 * granule)) ]
check 'P01 a map of garbage costs fetches, never a wrong byte' reads map --mode direct
check 'P01 so does a tree that was damaged' reads tree --mode direct
check 'P01 so do granules that were damaged' reads data --mode direct
check 'P01 they alone are fetched again' [ "$(sent data)" -le $((8 * mib + 4 * granule)) ]
check 'P01 so does a file that is gone' reads gone --mode direct
check 'P01 and one that was cut' reads swept --mode direct
all_verified() {
	local name

	for name in crash map tree data gone swept; do
		[ $name = crash ] || state_is $name verified || return 1
	done
}
check 'I2 all that is complete is verified' wait_for "$VMI_PATIENCE" all_verified
# Nobody reads what the map says is here, and only the last look at the whole finds out.
check 'P01 a map that says too much: with the last granule all seems to be here' part claimed 31
check 'P01 the look at the whole finds out, and whatever fill says, it is made whole, and verified' \
    wait_for "$VMI_PATIENCE" state_is claimed verified
check_like 'P01 it says so' 'granules changed on the disk' "$(grep "$(image_hex claimed)" "$LOG")"
check 'P01 nothing is fetched twice' [ "$(sent claimed)" -le $((8 * mib + 2 * granule)) ]

# Killed while it is being filled, again and again.
kill_rounds() {
	local round

	set_fill now
	for ((round = 0; round < ${VMI_LONG:+3}0 + 6; round++)); do
		oracle --mode direct --seed $round --errors ENOTCONN,ECONNABORTED,EIO,ENOENT \
		    "$(image often)" "$WWW/often" &
		wait_for 10 test -e "$(image often)"
		# Some time within what it takes to fetch it, another each time.
		sleep "0.0$((round * 7 % 10))"
		mount_kill
		wait $! || { echo "a reader ended with $?"; return 1; }
		mount_up || return 1
	done
}
check 'P01 however often the daemon is killed while it fills an image, no reader sees a wrong byte' kill_rounds
check 'P01 in the end it is verified' wait_for 30 reads often --mode direct
check 'P01 and stays so' wait_for 30 state_is often verified
check 'verify finds nothing wrong' ctl verify --deep
mount_down || not_ok 'the daemon ends'

# ---- a new version ---------------------------------------------------------------------------------

images_up fill=never stall_timeout=60s
image_disk disk ok 8
image_blocks disk
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
reads disk --mode pread >/dev/null && wait_for "$VMI_PATIENCE" state_is disk verified ||
    bail 'no verified image'
cp "$WWW/disk" "$SITE/disk.old"
old=$(object_of disk)
hold_old=$(readlink -f "$(image disk)")
image_names=() image_uris=()
image_disk disk "stallat:$((7 * mib))" 8
image_version[disk]=2.0
image_keys=()
image_blocks disk mode=ok
check 'a list with a new version is taken' images_update
version_is() {
	[ "$(said_of disk version)" = "$1" ]
}
check 'with the tree verified, the new version is shown' wait_for 20 version_is 2.0
check_is 'its name leads to the new bytes' "$(basename "$(object_of disk)")" \
    "$(basename "$(readlink -f "$(image disk)")")"
check 'nothing is pending then' [ ! -e "$MNT/images/disk/pending" ]
check 'bytes of it are read' spot disk $((2 * mib))
more_is_sent() {
	[ "$(sent disk)" -gt $((4 * mib)) ]
}
check 'whatever fill says, the rest is fetched' wait_for 20 more_is_sent
check 'cache/ has the old version until the new one is whole' cmp "$MNT/cache/disk" "$SITE/disk.old"
check_is 'nothing has expired yet' 0 "$(find "$MNT/expired" -mindepth 1 -maxdepth 1 | wc -l)"
check_is 'nor was anything announced' 'AvailablePrefix AvailablePostfix' "$(events_of disk)"
check 'the old bytes are read where they were' cmp "$hold_old" "$SITE/disk.old"
server_get '/release?always'
check 'when it is whole it is verified' wait_for 20 state_is disk verified
check 'cache/ has the new version' wait_for 5 cmp "$MNT/cache/disk" "$WWW/disk"
check_is 'the old one has expired' replaced "$(cat "$MNT"/expired/disk.*/reason)"
check_is 'events come in order' \
    'AvailablePrefix AvailablePostfix ExpirePrefix ExpirePostfix AvailablePrefix AvailablePostfix' \
    "$(events_of disk)"
check 'the old bytes are still read' cmp "$hold_old" "$SITE/disk.old"
check 'and kept' cmp "$old" "$SITE/disk.old"
mount_down || not_ok 'the daemon ends'

# ---- a disk that stumbles while the whole is hashed ------------------------------------------------

shim=$(dirname "$hostile")/shim.so
if [ -n "${VMI_SANITIZE:-}" ] || [ ! -e "$shim" ]; then
	skip 'B07 a read error that goes away accuses nobody' 'shim.so and sanitizers do not go together'
else
	images_up stall_timeout=20s fill=never
	image_disk stumble ok 2
	image_blocks stumble
	images_subscribe
	# Only who hashes all of it reads its beginning from now on.
	LD_PRELOAD=$shim SHIM_FAIL=pread:1:EIO SHIM_AT=0 SHIM_PATH=.blocks SHIM_PROGRAM=vmimagefs \
	    SHIM_ARMED=$SITE/armed mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	check 'all of an image but its last granule is read' part stumble 0 7
	: >"$SITE/armed"
	check 'a page of that, too' spot stumble $((7 * granule))
	check 'B07 a read error that goes away accuses nobody: it is hashed again, and verified' \
	    wait_for 20 state_is stumble verified
	check 'B07 there was one' grep -q 'warning: .*cannot be read at byte 0' "$LOG"
	check_is 'B07 nothing is in quarantine' '' "$(ls "$SITE/cache/quarantine")"
	check_is 'B07 nor was anything fetched again' $((2 * mib)) "$(sent stumble)"
	mount_down || not_ok 'the daemon ends'
fi

plan_done
