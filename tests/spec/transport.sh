#!/bin/bash
# What can go wrong between a web server and a reader in the mount: each way ends within its time, with
# a clear errno, and no byte that is not the signed one is ever read.
#
# The server goes wrong as the address of the image says (tests/lib/hostile --help).  All images are read
# at once, in the background; what came of it is looked at afterwards.
# time limit: 150 s

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

images_up fetch_parallel=64 connect_timeout=2s stall_timeout=2s
# Bounds are ten times what should be needed.
patient_ms=20000

# ---- images ------------------------------------------------------------------------------------

mib=1048576
image_add good ok
# unreachable or silent
image_add_at t01 "http://127.0.0.1:$(server_port refused)/t01"
image_add_at t02 "http://127.0.0.1:$(server_port full)/t02"
image_add_at t03 "http://127.0.0.1:$(server_port silent)/t03"
image_add t04 headerdrip:200
image_add t05 slow:300
image_add t06 stall:99
# cut
image_add t07 close
image_add t08 half-ok
image_add t09 once-cutnolen:60
image_add t10 once-cutchunked:60
image_add small half-ok 1000
image_add t38 drops:20 $((8 * mib))
image_add whole cutwhole
image_add every every:1000 200000
# lengths
image_add t11 more
image_add t12 less
image_add t13 endless 1000000
# redirects and statuses
image_add t20-four chain:4
image_add t20-five chain:5
image_add t20-loop loop
image_add t21 'redirect' && image_uris[-1]+='?to=file:///etc/hostname'
image_add t22 'redirect' && image_uris[-1]+="?to=ftp://127.0.0.1:$(server_port silent)/t22"
image_add t24-404 status:404
image_add t24-410 status:410
image_add t24-503 status:503
image_add t24-busy busy:7
image_add t25 portal
# ranges and validators
image_add t26 half-norange
image_add t27 half-wrongrange
image_add t28 half-shortrange
image_add t29-new newetag
image_add t29-weak half-weaketag
image_add t29-none half-noetag
image_add t29-bad half-badifrange
image_add t29-lie half-lyingrange
# two images of the same bytes, at two places
image_add t32-wrong flip:middle
image_add t32-size more
image_add t32-gone status:404
for name in t32-wrong t32-size t32-gone; do
	image_add_as "$name-too" "$name" ok
done
# wrong bytes
wrong='first middle last plus zeros swap'
for variant in first middle last; do
	image_add "t31-$variant" "flip:$variant"
done
image_add t31-plus plus
image_add t31-minus minus
image_add t31-zeros zeros
image_add t31-swap swap $((2 * mib))
# right in the list, wrong on the server until it is mended
image_add t31-mended ok
image_add t31-renewed ok

images_subscribe
for name in t31-mended t31-renewed; do
	cp "$WWW/$name" "$SITE/$name.good"
	head -c $mib /dev/urandom >"$WWW/$name"
done
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# ---- everything at once ------------------------------------------------------------------------

# read_one NAME: what the oracle said and how long it took, into a file.
read_one() {
	local original=$WWW/$1

	[ ! -e "$SITE/$1.good" ] || original=$SITE/$1.good
	timed oracle --mode pread "$(image "$1")" "$original"
	printf '%s %s\n' "$oracle_word" "$took" >"$SITE/read.$1.new"
	mv "$SITE/read.$1.new" "$SITE/read.$1"
}

begun=$(now_ms)
for name in "${image_names[@]}"; do
	read_one "$name" &
	readers+=($!)
done
check 'T01-T03 other images are read meanwhile' wait_for 5 grep -qx 'right .*' "$SITE/read.good"
wait "${readers[@]}"

quarantined() {
	find "$SITE/cache/quarantine" -name "$(basename "$(object_of "$1")").*" | wc -l
}

# ended NAME WORD: so it ended, in time.
ended() {
	local word ms

	read -r word ms <"$SITE/read.$1"
	[ "$word" = "$2" ] && [ "$ms" -lt $patient_ms ] && return
	echo "$1: '$word' instead of '$2', after $ms ms"
	return 1
}

# coded NAME CODE: the log has that code for it.
coded() {
	grep -q "code $2: $(basename "$(object_of "$1")"):" "$LOG" ||
	    { echo "$1: no code $2 in the log"; return 1; }
}

# A network that fails is tried again and again: then the state is "fetching".
failed_with() {
	ended "$1" "$2" && coded "$1" "$3" && wait_for 10 state_is "$1" failed &&
	    [ -s "$MNT/images/$1/error" ]
}

came_whole() {
	ended "$1" right && state_is "$1" verified && cmp "$(object_of "$1")" "$WWW/$1"
}

check 'T01 a refused connection is EHOSTUNREACH' failed_with t01 EHOSTUNREACH 44
check 'T02 a server that drops every packet is ETIMEDOUT' failed_with t02 ETIMEDOUT 44
check 'T03 a server that never answers is ETIMEDOUT' failed_with t03 ETIMEDOUT 44
check 'T04 a header that drips in is ETIMEDOUT' failed_with t04 ETIMEDOUT 44
check 'T05 a body below the lowest speed is ETIMEDOUT' failed_with t05 ETIMEDOUT 44
check 'T06 a body that stalls is ETIMEDOUT' failed_with t06 ETIMEDOUT 44
check 'T07 a connection closed before the header is EHOSTUNREACH' failed_with t07 EHOSTUNREACH 44

resumed_at() {
	[ "$(asked "$1")" = "$(printf 'range=-1 if-range=-\nrange=%s if-range="v1"' "$2")" ] &&
	    [ "$(sent "$1")" -eq "$(stat -c %s "$WWW/$1")" ] && return
	asked "$1"
	echo "$(sent "$1") bytes sent"
	return 1
}

check 'T08 a transfer that is cut is completed without the reader noticing' came_whole t08
check 'T08 it goes on at the byte where it stopped, if the validator is the same' \
    resumed_at t08 $((mib / 2))
check 'T08 so does one of a small image' came_whole small
check 'T09 a cut body without a length is noticed and completed' came_whole t09
check 'T10 a cut chunked body is completed' came_whole t10
check 'T38 twenty disconnects are survived' came_whole t38
check 'T38 they cost no byte twice' [ "$(sent t38)" -le $((8 * mib * 12 / 10)) ]

bounded() {
	[ "$(requests "$1")" -le "$2" ] || { requests "$1"; return 1; }
}

check 'T38 a server that gives little at a time is not asked again at once' \
    ended every EHOSTUNREACH
check 'T38 and not without end' bounded every 12
check 'T38 nor is one that begins anew each time' ended whole EHOSTUNREACH
check 'T38 and that is not asked without end, either' bounded whole 24

# nothing_kept NAME: neither an object nor a partial file.
nothing_kept() {
	local hex

	hex=$(basename "$(object_of "$1")")
	[ ! -e "$(object_of "$1")" ] && wait_for 10 [ ! -e "$SITE/cache/partial/$hex" ]
}

check 'T11 an announced size above the signed one is EBADMSG' failed_with t11 EBADMSG 41
check 'T11 none of it is kept' nothing_kept t11
check 'T12 an announced size below the signed one is EBADMSG' failed_with t12 EBADMSG 41
check 'T13 an endless body is EBADMSG' failed_with t13 EBADMSG 43
check 'T13 none of it is kept' nothing_kept t13
check 'T20 four redirects are followed' came_whole t20-four
check 'T20 the fifth redirect is refused' failed_with t20-five EHOSTUNREACH 10
check 'T20 a redirect loop is refused' failed_with t20-loop EHOSTUNREACH 10
check 'T21 a redirect to a file of the host is refused' failed_with t21 EHOSTUNREACH 10
check 'T22 a redirect to ftp is refused' failed_with t22 EHOSTUNREACH 10
check 'T24 a status of 404 is EHOSTUNREACH' failed_with t24-404 EHOSTUNREACH 10
check 'T24 a status of 410 is EHOSTUNREACH' failed_with t24-410 EHOSTUNREACH 10
check 'T24 a status of 503 is EHOSTUNREACH' failed_with t24-503 EHOSTUNREACH 10
check_is 'T24 nothing expires because a server has lost it' 0 "$(ls "$MNT/expired" | wc -l)"
check 'T25 the page of a captive portal is EBADMSG' failed_with t25 EBADMSG 41
check 'T25 none of it is kept' nothing_kept t25
check_status 'T25 a captive portal is no list' 4 ctl subscribe "$SERVER/portal/list" --endorser alice

check 'T26 a range answered by the whole file starts again at byte 0' came_whole t26
check_is 'T26 with two requests' 2 "$(requests t26)"
check 'T27 a range of other bytes is not used' came_whole t27
check_is 'T27 the file is asked for once more, from byte 0' 'range=-1 if-range=-' \
    "$(asked t27 | tail -n 1)"
check 'T28 of a range shorter than asked for, what came is used' came_whole t28
check 'T29 a file that has changed meanwhile is fetched from byte 0' came_whole t29-new
check 'T29 a weak validator is not sent back' \
    [ "$(asked t29-weak | tail -n 1)" = "range=$((mib / 2)) if-range=-" ]
check 'T29 what came in parts under a weak validator is proven by its digest' came_whole t29-weak
check 'T29 so is what came without a validator' came_whole t29-none
check 'T29 a range of another version is not used' came_whole t29-bad
check 'T29 a range that lies is found by the digest, and all is fetched anew' came_whole t29-lie

for name in t32-wrong t32-size t32-gone; do
	check "T32 L25 bytes that one list entry has wrong (${name#t32-}) come from the place of another" \
	    came_whole "$name"
	check "T32 after the first place was asked (${name#t32-})" [ "$(requests "$name")" -eq 1 ]
done
check 'T32 what came wrong is in quarantine' [ "$(quarantined t32-wrong)" -eq 1 ]

# Bytes that came before a stall are not fetched again.
server_get '/release?always'
check 'T06 a stalled transfer goes on by itself when the server does' \
    wait_for 60 state_is t06 verified
check 'T06 no byte is fetched twice' [ "$(sent t06)" -eq $mib ]
check 'T06 it is read then' reads t06 --mode pread

# ---- wrong bytes --------------------------------------------------------------------------------

declare -A code=([plus]=43)
for variant in $wrong; do
	check "T31 wrong bytes ($variant) are EBADMSG, and none is read" \
	    failed_with "t31-$variant" EBADMSG "${code[$variant]:-42}"
done
check 'T31 a body that is a byte short, without saying so, is never read' \
    ended t31-minus EHOSTUNREACH
check 'T31 a later reader is told at once, too' fails t31-first EBADMSG

tries_are() {
	local variant

	for variant in $wrong mended renewed; do
		[ "$(requests "t31-$variant")" -eq "$1" ] || return 1
	done
}

# A failed network never uses up the tries, and a reader that comes two seconds later is reason enough
# for a new one.
check 'T24 a server that was busy seven times is asked an eighth time' \
    wait_for 60 reads t24-busy --mode pread
check_is 'T24 and no more often' 8 "$(requests t24-busy)"
check 'T31 wrong bytes are fetched five times' wait_for 90 tries_are 5
six_tries() {
	wait_for 40 tries_are 6
}
# It would come at most 32 seconds later.
[ -z "${VMI_LONG:-}" ] || check_not 'T31 there is no sixth time' six_tries
check 'T31 with longer and longer waits in between, fifteen seconds at least' \
    [ $(($(now_ms) - begun)) -ge 15000 ]
check 'T31 there is one file in quarantine, however often it came' \
    [ "$(quarantined t31-zeros)" -eq 1 ]
check 'T31 it holds the bytes that came' \
    cmp "$SITE/cache/quarantine/$(basename "$(object_of t31-zeros)")".* <(head -c $mib /dev/zero)
mv "$SITE/t31-mended.good" "$WWW/t31-mended"
mv "$SITE/t31-renewed.good" "$WWW/t31-renewed"
check 'T31 after the fifth time readers get the error' fails t31-mended EBADMSG
check 'T31 and the error says what is wrong' grep -q SHA-512 "$MNT/images/t31-mended/error"

check 'T31 without asking the server' tries_are 5
check 'T31 fetch by hand tries again, and finds it mended' ctl -q fetch t31-mended
check 'T31 then it is read' reads t31-mended --mode pread
check_status 'T31 fetch by hand of bytes that are still wrong is refused' 4 ctl -q fetch t31-zeros

mount_down || not_ok 'the daemon ends'
check 'the site is mounted again' mount_up
check 'T31 the count of tries outlives the daemon' fails t31-renewed EBADMSG
check_is 'T31 without asking the server' 5 "$(requests t31-renewed)"
check 'T31 a new version of the list is taken' images_update
check 'T31 with it there are new tries' reads t31-renewed --mode pread
plan_done
