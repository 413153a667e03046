#!/bin/bash
# time limit: 240 s
#
# What can go wrong between a server and a reader of an image whose list signs block digests: ranges
# that are not what was asked for, wrong bytes, sidecars that prove nothing.  What can be had is
# read, if need be by fetching the whole image; what cannot ends in time with a clear errno; and no
# byte that was not verified is ever read.
#
# Each image is read twice at once, buffered and with O_DIRECT.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"
. "$here/../lib/relay.sh"

mib=1048576
# Bounds are ten times what should be needed.
patient_ms=$((VMI_PATIENCE * 4000))

images_up fill=never connect_timeout=2s stall_timeout=2s "block_timeout=$((VMI_PATIENCE * 12 / 15))s" fetch_parallel=16

# ---- images ------------------------------------------------------------------------------------

# Its sidecar is as it should be.
ranges_image() {
	image_add "$1" "$2" "${3:-$((2 * mib))}"
	image_blocks "$1" mode=ok
}

# With a server of its own, because what stalls keeps others from it.
own_server_image() {
	another_server
	image_add_at "$1" "$ANOTHER/$2/$1" "${3:-$((2 * mib))}"
	image_blocks "$1" mode=ok
}

wrong_at=$((5 * granule + 777))
ranges_image good ok
ranges_image short shortrange
ranges_image less rangeless
ranges_image etags etags
ranges_image weak weaketag
ranges_image none noetag
ranges_image once-flip "flipatonce:$wrong_at"
ranges_image busy busy:2
ranges_image cut-once "cutatonce:$wrong_at"
own_server_image stall-once "stallatonce:$wrong_at"
by_stream='norange wrongrange norangehead multipart'
for name in $by_stream; do
	ranges_image "$name" "$name"
done
ranges_image othertotal othertotal
either='nototal rangemore rangegzip'
for name in $either; do
	ranges_image "$name" "$name"
done
own_server_image endless rangeendless
ranges_image flip "flipat:$wrong_at"
ranges_image lying lyingrange
ranges_image cut "cutat:$wrong_at"
ranges_image reset "cutatonce:$wrong_at"
own_server_image pause "stallatonce:$wrong_at"
own_server_image stall "stallat:$wrong_at"
ranges_image mended ok
ranges_image swapped ok
# two images of the same bytes, at two places
for name in flip:middle lyingrange; do
	ranges_image "two-${name%%:*}" "$name"
	image_add_as "two-${name%%:*}-too" "two-${name%%:*}" ok
	image_blocks "two-${name%%:*}-too"
done

# sidecars; "middle" needs a tree whose prefix has more than one block
sidecars='absent short-tree long-tree first middle root other foreign zeros-tree endless-tree redirect'
sidecars+=' norange-tree silent slow drip'
for name in absent short-tree long-tree first other zeros-tree endless-tree redirect norange-tree; do
	image_add "$name" ok $((2 * mib + 1))
done
image_add middle ok $((20 * mib))
image_add root ok $((20 * mib))
image_add foreign ok $((2 * mib + 1))
image_blocks absent sidecar=no
image_blocks short-tree sidecar=short
image_blocks long-tree sidecar=long
image_blocks first mode=flipat:0
image_blocks root mode=flipat:100
image_blocks middle mode=flipat:8000
image_blocks other
image_blocks foreign
image_blocks zeros-tree mode=zeros
image_blocks endless-tree mode=endless
image_blocks redirect mode=loop
image_blocks norange-tree mode=norange
for name in silent slow drip; do
	another_server
	image_add "$name" ok $((2 * mib + 1))
	case $name in
	silent)	image_blocks $name "uri=$ANOTHER/silent/$name.fsv" ;;
	slow)	image_blocks $name "uri=$ANOTHER/slow:100/$name.fsv" ;;
	drip)	image_blocks $name "uri=$ANOTHER/headerdrip:300/$name.fsv" ;;
	esac
done
# Each has the other's.
mv "$WWW/other.fsv" "$SITE/other.fsv"
mv "$WWW/foreign.fsv" "$WWW/other.fsv"
mv "$SITE/other.fsv" "$WWW/foreign.fsv"
# One whose stream stalls, so that it can be looked at meanwhile; one that never answers.
another_server
image_add_at told "$ANOTHER/stall:50/told" $((2 * mib))
image_blocks told sidecar=no
another_server
image_add_at never "$ANOTHER/silent/never" $((2 * mib))
image_blocks never mode=ok

images_subscribe
cp "$WWW/mended" "$SITE/mended.good"
cp "$WWW/swapped" "$SITE/swapped.good"
flip_byte "$WWW/mended" $wrong_at
cp "$WWW/good" "$WWW/swapped"
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# ---- everything at once ------------------------------------------------------------------------

original_of() {
	if [ -e "$SITE/$1.good" ]; then echo "$SITE/$1.good"; else echo "$WWW/$1"; fi
}

# read_one NAME WAY: what the oracle said and how long it took, into a file.
read_one() {
	timed oracle --mode "$2" "$(image "$1")" "$(original_of "$1")"
	printf '%s %s\n' "$oracle_word" "$took" >"$SITE/read.$1.$2"
}

for name in "${image_names[@]}"; do
	case $name in reset|pause) continue ;; esac
	for way in pread direct; do
		read_one "$name" $way &
		readers+=($!)
	done
done
wait "${readers[@]}"

# ended NAME WORD: so both ended, in time.
ended() {
	local way word ms

	for way in pread direct; do
		read -r word ms <"$SITE/read.$1.$way"
		[ "$word" = "$2" ] && [ "$ms" -lt $patient_ms ] ||
		    { echo "$1 ($way): '$word' instead of '$2', after $ms ms"; return 1; }
	done
}

came() {
	ended "$1" right || return 1
	wait_for 15 state_is "$1" verified ||
	    { echo "$1 is $(said_of "$1" state), $(said_of "$1" progress)"; return 1; }
	cmp "$(object_of "$1")" "$WWW/$1"
}

came_in_blocks() {
	came "$1" && { ! asked_whole "$1" || { echo 'it was fetched as a whole'; return 1; }; }
}

# The reason is in the log, with the image's digest.
came_by_stream() {
	came "$1" && { asked_whole "$1" || { echo 'it was not fetched as a whole'; return 1; }; } &&
	    { grep -qE "warning: code [0-9]+: $(image_hex "$1"): " "$LOG" || { echo 'the log has no reason'; return 1; }; }
}

check 'an image whose server does as it should is read' came_in_blocks good
check 'T28 of a range shorter than asked for, what came is used' came_in_blocks short
check 'T28 a body shorter than its header says is no reason to give up' came less
check 'T29 an ETag that changes from range to range does not matter: each granule is proven' came_in_blocks etags
check 'T29 nor does a weak one' came_in_blocks weak
check 'T29 nor does none' came_in_blocks none
check 'T31 a granule that is wrong once is asked for again' came_in_blocks once-flip
check 'T24 a server that is busy for a while is asked again' came_in_blocks busy
check 'T08 a range that is cut is asked for again' came_in_blocks cut-once
check 'T06 a range that stalls is asked for again' came_in_blocks stall-once

check 'T26 a server that answers a range by the whole is asked for the whole' came_by_stream norange
check 'T27 so is one that answers with other bytes' came_by_stream wrongrange
check 'T27 so is one that does not say which bytes they are' came_by_stream norangehead
check 'T27 so is one that answers in parts' came_by_stream multipart
check 'T27 a range of a file of unknown size is read' came nototal
check 'T28 a range that is longer than it says is read as far as it was asked for' came rangemore
check 'T13 a range that does not end is read as far as it was asked for' came endless
check 'T30 an unsolicited Content-Encoding changes nothing' came rangegzip

check 'T27 a file of another size is EBADMSG' ended othertotal EBADMSG

# ---- wrong bytes --------------------------------------------------------------------------------

check 'T31 a granule that is always wrong is EBADMSG' ended flip EBADMSG
others_of() {
	reads "$1" --mode direct --from 0 --length $((5 * granule)) &&
	    reads "$1" --mode direct --from $((6 * granule))
}
check 'T31 for this granule alone: all others are read' others_of flip
check 'T31 none of its bytes is' spot_fails flip $((5 * granule + 8192)) EBADMSG
check 'T31 a server that lies in every range is EBADMSG' ended lying EBADMSG
check 'T08 a range that is always cut is EHOSTUNREACH' ended cut EHOSTUNREACH
check 'T08 for its granule alone' others_of cut
check 'T08 a reader of one page does not notice that its connection was cut' spot reset $((5 * granule))
check 'T06 nor that it stalled' spot pause $((5 * granule))
check_is 'T08 the granule was asked for twice' '2 2' "$(requests reset) $(requests pause)"
check 'T06 a range that always stalls is ETIMEDOUT' ended stall ETIMEDOUT
check 'T06 for its granule alone' others_of stall
check 'T31 wrong bytes on the server are EBADMSG' ended mended EBADMSG
mend() {
	mv "$SITE/mended.good" "$WWW/mended"
}
mend
check 'T31 and when they are mended the image is read, without a restart' wait_for 20 reads mended
check 'T44 bytes of another listed image are EBADMSG' ended swapped EBADMSG
check_is 'T44 nothing of them is kept' '' \
    "$(find "$SITE/cache/objects" -name "$(sha512sum <"$SITE/swapped.good" | cut -d' ' -f1)")"
for name in flip lyingrange; do
	check "T32 a granule that one place has wrong ($name) comes from another" came_in_blocks "two-$name"
done
check 'T32 the first place was asked' [ "$(requests two-lyingrange)" -ge 1 ]

check 'T03 a server that does not answer is ETIMEDOUT' ended never ETIMEDOUT

# ---- sidecars ---------------------------------------------------------------------------------

for name in $sidecars; do
	case $name in
	absent)	what='that is not there' ;;
	short-tree) what='that is too short' ;;
	long-tree) what='that is too long' ;;
	first)	what='whose first block is wrong' ;;
	root)	what='whose root is wrong' ;;
	middle)	what='whose middle block is wrong' ;;
	other|foreign) what="of another image ($name)" ;;
	zeros-tree) what='of zeros' ;;
	endless-tree) what='that does not end' ;;
	redirect) what='that leads in a circle' ;;
	norange-tree) what='whose server knows no ranges' ;;
	silent)	what='whose server does not answer' ;;
	slow)	what='that comes too slowly' ;;
	drip)	what='whose header drips in' ;;
	esac
	case $name in
	# What came may be used or not: all of the sidecar is there.
	norange-tree|long-tree) check "T40 with a sidecar $what every byte is read" came "$name" ;;
	*)	check "T40 with a sidecar $what the image is fetched as a whole, and every byte is read" \
		    came_by_stream "$name" ;;
	esac
done
for way in pread direct; do
	read -r word _ <"$SITE/read.told.$way"
	check_is "T40 a stream that stalls after that is ETIMEDOUT ($way)" ETIMEDOUT "$word"
done
check 'T40 the error file says why blocks cannot be verified, or what is wrong with the stream' \
    [ -s "$MNT/images/told/error" ]
curl -s -m 10 "${image_uris[-2]%/stall*}/release?always"
check 'T40 when the stream goes on it is read' wait_for 30 reads told --mode pread

check_is 'T40 what is fetched as a whole leaves nothing behind' '' \
    "$(find "$SITE/cache/partial" -name "$(image_hex absent)*" -o -name "$(image_hex middle)*")"
check 'verify finds nothing wrong' ctl verify --deep
check 'nobody waits any more' wait_for 10 parked -eq 0
mount_down || not_ok 'the daemon ends'

# ---- one at a time --------------------------------------------------------------------------------

images_up fill=now connect_timeout=5s stall_timeout=20s
relay_up "$(server_port http)" --delay 2
for name in a b c; do
	image_add_at $name "$RELAY/slots:1/$name" $((4 * mib))
	image_blocks $name "uri=$RELAY/slots:1/$name.fsv"
done
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
waiters one
for name in a b c; do
	waiter $name-1 $name --mode pread
	waiter $name-2 $name --mode random
	waiter $name-3 $name --mode direct
done
waited
check_is 'T41 from a server that serves one at a time all images are read' '9 right' "$waiters_saw"
check 'T41 no more than two connections are open to it' [ "$(relay_count most)" -le 2 ]
# 17 granules and 3 trees; without joining and read-ahead.
check 'T41 it is not stormed with requests' [ "$(wc -l <"$SITE/requests")" -le 300 ]
mount_down || not_ok 'the daemon ends'

plan_done
