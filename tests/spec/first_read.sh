#!/bin/bash
# The first read of an image fetches it: the reader waits, sees every byte right, and what was fetched
# stays.  What a user sees meanwhile, and what happens to half an image when the daemon ends.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl script getfattr
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

images_up stall_timeout=20s
mib=1048576
ways='pread whole backward odd random mmap direct'

for way in $ways; do
	image_add "by-$way" ok $((mib + 4097))
done
image_add tiny ok 1
image_add page ok 4096
image_add half stall:50
image_add slow rate:2000000 $((2 * mib))
image_add seen rate:2000000 $((2 * mib))
image_add quiet ok
image_add refused status:404
image_add crashed once-stall:50
image_add stopped once-stall:50
image_add damaged once-stall:50
image_add dropped once-stall:50
image_add left ok
image_add crowded ok
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# ---- every way of reading ----------------------------------------------------------------------

for way in $ways; do
	check "a first read ($way) gets every byte" reads "by-$way" --mode "$way"
done
check 'an image of one byte is read' reads tiny
check 'an image of one page is read' reads page
all_ways_again() {
	for way in $ways; do
		reads "by-$way" --seed 7 || return 1
	done
}
check 'what has been fetched is read in every way' all_ways_again
asked_once() {
	for way in $ways; do
		[ "$(requests "by-$way")" -eq 1 ] || return 1
	done
}
check 'and never fetched again' asked_once
check 'T31 the stored file has the signed bytes' cmp "$(object_of by-direct)" "$WWW/by-direct"
check_is 'a stored file cannot be written by others' 640 "$(stat -c %a "$(object_of by-direct)")"

# ---- what is seen meanwhile --------------------------------------------------------------------

background_read() {
	oracle --mode pread "$(image "$1")" "$WWW/$1"
	echo "$oracle_word" >"$SITE/read.$1"
}

progress_is() {
	[ "$(said_of "$1" progress)" = "$2" ]
}

background_read half &
check 'progress says how many bytes have come' \
    wait_for 10 progress_is half "$((mib / 2)) $mib 50"
check_is 'the state is fetching meanwhile' fetching "$(said_of half state)"
check_is 'and so says the attribute of the file' fetching \
    "$(getfattr --only-values -n user.vmimage.state "$(readlink -f "$(image half)")" 2>/dev/null)"
check_is 'size and time of the file are known before its bytes' "$mib" \
    "$(stat -Lc %s "$(image half)")"
check 'what has not been verified has no name in cache/' [ ! -e "$MNT/cache/half" ]
check_is 'no byte has reached the reader' 'no' "$([ -e "$SITE/read.half" ] && cat "$SITE/read.half" || echo no)"
server_get /release
wait $!
check_is 'it gets all of them when the last has come and been verified' right "$(cat "$SITE/read.half")"
check 'the state is verified then' wait_for 5 state_is half verified
check 'progress is complete' wait_for 5 progress_is half "$mib $mib 100"

ctl fetch slow 2>"$SITE/lines" >&2
check_is 'fetch says so when it is done' 0 $?
steps() {
	sed -nE 's/^slow: ([0-9]+) % \([0-9]+ of 2097152 bytes\)$/\1/p' "$SITE/lines"
}
check 'a progress line every ten percent, in order' [ "$(steps)" = "$(steps | sort -nu)" ]
check 'there are several of them' [ "$(steps | wc -l)" -ge 3 ]
check_is 'the last says that all is there' 100 "$(steps | tail -n 1)"
# shellcheck disable=SC2016 # for the inner shell
script -qec "$(tap_quote "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" fetch seen)" /dev/null \
    >"$SITE/terminal" </dev/null
check 'on a terminal fetch draws a bar' grep -q '\[#*\.*\].* %' "$SITE/terminal"
check 'that ends full' grep -q '\[#*\] *100 %' "$SITE/terminal"
check_is 'with -q nothing is said' '' "$(ctl -q fetch quiet 2>&1)"
check_like 'with --json the answer is one object' '"state": *"verified"' "$(ctl --json fetch by-odd half 2>&1)$(ctl --json images --state verified)"
check_status 'a fetch that the network stops ends with 5' 5 ctl -q fetch refused
check_like 'and says which image, why, and what to do' "image 'refused'.*status 404" \
    "$(ctl fetch refused 2>&1)"

# ---- no room ---------------------------------------------------------------------------------------

set_min_free() {
	sed -i "s/^cache_min_free = .*/cache_min_free = $1/" "$CONF"
	ctl -q reload
}

check 'cache_min_free is set while the daemon runs' set_min_free 99%
check 'below cache_min_free a first read is ENOSPC' fails crowded ENOSPC
check_status 'and fetch ends with 8' 8 ctl -q fetch crowded
check 'the error says why' grep -q cache_min_free "$MNT/images/crowded/error"
check 'what is there already is read' reads by-odd
check_is 'nothing was asked for' 0 "$(requests crowded)"
set_min_free 0%
check 'when there is room again it is fetched' wait_for 10 reads crowded --mode pread

# ---- half an image when the daemon ends ----------------------------------------------------------

readers=()
for name in crashed stopped damaged dropped; do
	background_read "$name" &
	readers+=($!)
done
for name in crashed stopped damaged dropped; do
	wait_for 10 progress_is "$name" "$((mib / 2)) $mib 50" || not_ok "$name gets half"
done
mount_kill
wait "${readers[@]}"
check_like 'readers are told when the daemon is gone' '^(ENOTCONN|ECONNABORTED)$' \
    "$(cat "$SITE/read.crashed")"
check 'P04 after a crash the site is mounted again' mount_up
check 'a first read goes on where an earlier daemon was stopped' reads crashed --mode pread
check_is 'T08 it asks for the rest, if it is still the same file' \
    "range=$((mib / 2)) if-range=\"v1\"" "$(asked crashed | tail -n 1)"
check 'T08 no byte is fetched twice' [ "$(sent crashed)" -eq $mib ]
check 'P04 TERM ends the daemon in the middle of fetching' mount_down
check 'and the site is mounted once more' mount_up
check 'T08 what came before is used then, too' reads stopped --mode pread
check 'T08 without a byte being fetched twice' [ "$(sent stopped)" -eq $mib ]

# poison NAME: one bit of what came before is not what it was.
poison() {
	local file

	file=$SITE/cache/partial/$(basename "$(object_of "$1")")
	[ "$(stat -c %s "$file")" -eq $((mib / 2)) ] || return 1
	printf '%b' "\\x$(printf %02x $((0x$(od -An -tx1 -j1000 -N1 "$file" | tr -d ' ') ^ 1)))" |
	    dd of="$file" bs=1 seek=1000 conv=notrunc status=none
}

check 'there is half an image' poison damaged
check 'T29 half an image that was damaged is found by the digest, and fetched anew' \
    reads damaged --mode pread
check_is 'T29 from byte 0, in the same try' 'range=-1 if-range=-' "$(asked damaged | tail -n 1)"
partials_are() {
	[ "$(ls "$SITE/cache/partial")" = "$1" ]
}
check 'nothing is left of unfinished transfers but what is still wanted' \
    wait_for 10 partials_are "$(basename "$(object_of dropped)")"
ctl -q deselect dropped
check 'half an image goes when it is deselected' wait_for 10 partials_are ''

# ---- without a daemon ----------------------------------------------------------------------------

check 'the site is unmounted' mount_down
check 'fetch works without a daemon' ctl -q fetch left
check 'the site is mounted' mount_up
server_down
check 'what was fetched without a daemon is read without the server' reads left
plan_done
