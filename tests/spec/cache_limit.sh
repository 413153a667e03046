#!/bin/bash
# time limit: 240 s
#
# The cache and its limit: what is refused, what leaves for what, what never does, and that all goes on
# by itself as soon as there is room.  VMI_LONG makes the race of evictions and opens minutes long,
# VMI_NIGHTLY what the fault catalogue asks for.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq getfattr setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576
# What an image of 1 MiB takes: its blocks, and those of its tree.
one=$(((mib + mib / 4096 * 64 + 4096 + 4095) / 4096 * 4096))
room_for() {
	echo $((($1 * one + 16384) / 1024 * 1024))
}

in_cache() {
	[ -L "$MNT/cache/$1" ] && [ -f "$(object_of "$1")" ]
}
has_left() {
	[ ! -e "$MNT/cache/$1" ] && [ ! -e "$(object_of "$1")" ]
}
cached() {
	local name out=

	for name in "${image_names[@]}"; do
		! in_cache "$name" || out+=" $name"
	done
	echo "${out# }"
}
# A name comes a moment after the bytes.
cached_is() {
	wait_for "$VMI_PATIENCE" test_cached "$1" || { echo "there are: $(cached)"; return 1; }
}

test_cached() {
	[ "$(cached)" = "$1" ]
}

# All that the store takes, by allocated blocks.
used() {
	find "$SITE"/cache/{objects,partial,quarantine,lost+found} -type f -printf '%b\n' 2>/dev/null |
	    awk '{ n += $1 } END { print n * 512 }'
}
fits_in() {
	local n

	n=$(used)
	[ "$n" -le "$1" ] || { echo "$n of $1 bytes are in use"; return 1; }
}
# A reader that has the image open until it is let go.
hold() {
	local name=$1 pipe=$SITE/hold.$1

	mkfifo "$pipe"
	(exec 8<"$(image "$name")" && head -c 4096 <&8 >/dev/null && echo open >"$pipe.open" && cat "$pipe" >/dev/null) &
	held[$name]=$!
	wait_for 20 test -e "$pipe.open"
}
let_go() {
	echo >"$SITE/hold.$1"
	wait "${held[$1]}" >/dev/null
	rm "$SITE/hold.$1" "$SITE/hold.$1.open"
}
declare -A held
conf_set() {
	local word

	for word in "$@"; do
		sed -i "/^${word%%=*} = /d" "$CONF"
		echo "${word%%=*} = ${word#*=}" >>"$CONF"
	done
	ctl -q reload
}
# Of the last use one second counts.
tick() {
	local from

	from=$(date +%s)
	wait_for 5 later_than "$from"
}
later_than() {
	[ "$(date +%s)" -gt "$1" ]
}

# ---- a limit ---------------------------------------------------------------------------------------

limit=$(room_for 3)
images_up cache_size="$limit" fill=never prefetch=never stall_timeout=20s
for name in a b c d e; do
	image_add $name ok
done
image_add huge ok $((4 * mib))
image_add wrong flip:1000
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check_like 'config show shows the limit' "cache_size = $((limit / 1024))K" "$(ctl config show | tr -s ' ')"
check 'what fits is fetched' reads a
reads b && reads c
check_is 'B29 when the limit is reached by selected images, one more is ENOSPC' 'a b c' \
    "$(fails d ENOSPC && cached)"
check_like 'B29 its error says that cache_size is reached, and what takes it' \
    'cache_size are in use; selected images take [0-9]+; evict, deselect or unpin images, or raise cache_size' \
    "$(said_of d error)"
ctl fetch d >"$SITE/said" 2>&1
check_is 'B29 a fetch by hand ends with 8' 8 $?
check_like 'B29 and with the code' 'code 52' "$(<"$SITE/said")"
check 'other images are read as before' reads b --mode random
check_is 'a larger image than the limit is never begun' "ENOSPC 0" \
    "$(fails huge ENOSPC && echo "ENOSPC $(requests huge)")"
check_like 'and its error says which limit' 'bytes are needed, and cache_size is' "$(said_of huge error)"
check 'nothing was asked of the server for what has no room' [ "$(requests d)" -eq 0 ]
check 'the limit holds' fits_in "$limit"
check_is 'status says how much is in use' "$(used)" "$(status_of cache_used_bytes)"
check_is 'and of how much' "$limit" "$(status_of cache_size_bytes)"
check 'and how often that was not enough' [ "$(status_of room_refusals)" -ge 3 ]
check_is 'df shows the limit' "$((limit / 4096))" "$(stat -f -c %b "$MNT")"

# ---- room that is made -----------------------------------------------------------------------------

ctl -q evict a
check 'evict removes the file, and the name in cache/ with it' has_left a
check 'the file of its digest can still be opened: a read fetches it again' test -r "$(image a)"
check 'B29 with the room of what was evicted another is fetched at once' reads d
check 'and nothing else' cached_is 'b c d'
ctl -q deselect b
check 'what is not selected any more stays while there is room' test -f "$(object_of b)"
check 'and leaves when another needs it' reads e
check 'then it is gone' cached_is 'c d e'
counted() {
	[ "$(status_of "$1")" -ge "$2" ]
}
check 'status counts it' wait_for 5 counted evicted_images 1
ctl -q select b

# ---- pins, open files ------------------------------------------------------------------------------

ctl -q pin c
check_like 'images says which are pinned' 'c .*\(pinned\)$' "$(ctl images | grep '^c ')"
check_is 'so does --json' 'true false' "$(ctl --json images | jq -r '[.images[] | select(.id == "c" or .id == "d") | .pinned] | map(tostring) | join(" ")')"
check_like 'and show' '^pinned: yes$' "$(ctl show c | grep ^pinned)"
check_is 'and an attribute of the file' yes \
    "$(getfattr --only-values -n user.vmimage.pinned "$(readlink -f "$(image c)")" 2>/dev/null)"
check_like 'site.json has it' '"pinned": \["c"\]' "$(tr -d ' \n' <"$SITE/state/site.json" | sed 's/:/: /g')"
ctl evict c >"$SITE/said" 2>&1
check_is 'a pinned image is not evicted by hand' '5 pinned' "$? $(grep -o -m 1 pinned "$SITE/said")"
hold d
ctl -q deselect c d
check 'X07 neither what is pinned nor what is open leaves' fails a ENOSPC
check_like 'the error says who has the room' 'pinned ones [0-9]+, open ones [0-9]+' "$(said_of a error)"
ctl evict d >"$SITE/said" 2>&1 || true
check 'X07 both are there' test -f "$(object_of c)" -a -f "$(object_of d)"
let_go d
check 'what was closed leaves for the next reader' wait_for 10 reads a
check 'X07 what is pinned stays' test -f "$(object_of c)"
ctl -q unpin c
check 'what was unpinned leaves for the next reader' reads b
check 'then it is gone' test ! -e "$(object_of c)"
ctl -q select c d
check 'the limit holds' fits_in "$limit"

# ---- what is bad, and what has expired -------------------------------------------------------------

ctl -q evict e
fails wrong EBADMSG >/dev/null
# Or it would be tried again, and that takes room too.
ctl -q deselect wrong
quarantined() {
	find "$SITE/cache/quarantine" -type f | wc -l
}
check_is 'what failed its digest is kept' 1 "$(quarantined)"
check 'and counts' [ "$(status_of cache_quarantine_bytes)" -ge "$mib" ]
check 'but it is the first that leaves' reads e
check_is 'then it is gone' 0 "$(quarantined)"
ctl -q evict a
# Later than b was: times are seconds.
tick
check 'an image is fetched' reads c
# Two versions leave the list; the one that left first goes first.
for name in b c; do
	head -c $mib /dev/urandom >"$WWW/$name.next"
	old[${#old[@]}]=$(object_of $name)
	mv "$WWW/$name.next" "$WWW/$name"
	image_version[$name]=2
done
ctl -q deselect b && tick && ctl -q deselect c
check 'X07 of what has expired the oldest leaves first' reads d
check 'X07 its file goes' wait_for "$VMI_PATIENCE" test ! -e "${old[0]}"
check 'X07 and no more than is needed' test -e "${old[1]}"
ctl -q select b c
check 'the limit holds' fits_in "$limit"

# ---- parts of images -------------------------------------------------------------------------------

mount_down || not_ok 'the daemon ends'
images_up cache_size="$limit" fill=never prefetch=never stall_timeout=20s
for name in p q r s t; do
	image_disk $name ok 1
	image_blocks $name
done
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
part p 0 && tick && part q 0 && part r 0 || not_ok 'parts are read'
check 'what is here in part counts whole' wait_for "$VMI_PATIENCE" counted cache_partial_bytes $((3 * mib))
check 'a part that nobody reads leaves for a reader, the one that was used longest ago' part s 1
check 'it is gone' test ! -e "$(blocks_of p)"
check 'the others are not' test -e "$(blocks_of q)" -a -e "$(blocks_of s)"
check 'and is fetched again when it is read' part p 2
hold p && hold s && hold r
check 'X07 a part that is open does not leave' spot_fails t 0 ENOSPC
let_go p
check 'X07 when it is closed it may' wait_for 10 part t 0
let_go s
let_go r
check 'all are right in the end' eval 'reads p && reads t'
check 'the limit holds' fits_in "$limit"
mount_down || not_ok 'the daemon ends'

# ---- selected ones, too ----------------------------------------------------------------------------

images_up cache_size="$limit" evict_selected=yes fill=never prefetch=never stall_timeout=20s
for name in k l m n; do
	image_add $name ok
done
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for name in k l m; do
	reads $name || not_ok "$name is read"
	tick
done
reads k --mode spots
check 'with evict_selected = yes selected images leave, too' reads n
check 'the least recently used one' cached_is 'k m n'
ctl -q pin k
hold m
tick
check 'X07 those that are pinned or open do not' reads l
check 'so the one that was left went' cached_is 'k l m'
let_go m
mount_down || not_ok 'the daemon ends'
rm "$SITE/state/catalogue.db"*
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
check_is 'pins outlive the catalogue' k "$(ctl --json images | jq -r '.images[] | select(.pinned) | .id')"
ctl -q unpin k

# X07: whoever reads everything has everything in turns, but no more of the disk than that.
watch_limit() {
	while :; do
		fits_in $((limit + 8192)) || echo over
	done >"$SITE/over" 2>&1
}
watch_limit &
watcher=$!
hold k
setpriv --reuid 4242 --regid 4242 --clear-groups bash -c 'for i in 1 2 3; do cat "$1"/by-sha512/* >/dev/null; done' \
    - "$MNT" 2>"$SITE/said"
check 'X07 a user who reads all images cannot make the cache larger' eval \
    'kill $watcher; wait $watcher 2>/dev/null; [ ! -s "$SITE/over" ]'
check 'X07 nor push out what is open' in_cache k
check 'X07 and root is served' reads l
let_go k
mount_down || not_ok 'the daemon ends'

# ---- as soon as there is room ----------------------------------------------------------------------

conf_file() {
	sed -i "/^${1%%=*} = /d" "$CONF"
	echo "${1%%=*} = ${1#*=}" >>"$CONF"
}
conf_file evict_selected=no
conf_file prefetch=always
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
three_cached() {
	[ "$(cached | wc -w)" -eq "$1" ]
}
check 'what is fetched without a reader keeps the limit, too' wait_for 20 three_cached 3
refused_one() {
	local name

	for name in k l m n; do
		! in_cache $name && state_is $name failed && grep -q cache_size "$MNT/images/$name/error" && return
	done
	return 1
}
check 'and one is refused' wait_for 20 refused_one
conf_set cache_size="$(room_for 4)"
check 'a larger limit is noticed: it is fetched without a restart and without a reader' wait_for 20 three_cached 4
conf_set cache_size=unlimited cache_min_free=99% prefetch=auto
head -c $mib /dev/urandom >"$WWW/n.new" && mv "$WWW/n.new" "$WWW/n"
image_version[n]=2
images_update
check 'below cache_min_free nothing is fetched' wait_for 10 counted room_refusals 2
check_is 'the version before stays' 1.0 "$(said_of n version)"
shows_version() {
	[ "$(said_of "$1" version)" = "$2" ]
}
conf_set cache_min_free=0%
check 'when less is to be kept free, the new one is fetched by itself' wait_for 20 shows_version n 2

# A smaller limit: what has expired leaves by itself, what is selected does not.
ctl -q deselect k
conf_set cache_size="$(room_for 2)"
check 'when the limit is made smaller, what may leave does so by itself' wait_for 20 fits_in "$(room_for 3)"
check 'selected images stay even then' eval 'in_cache l && in_cache m && in_cache n'
mount_down || not_ok 'the daemon ends'
ctl -q deselect l
ctl -q select k
ctl fetch k >"$SITE/said" 2>&1
check_is 'without a daemon a fetch keeps the limit, too' 8 $?
conf_file cache_size="$(room_for 3)"
check 'and makes room' ctl -q fetch k
check 'by what is not selected' test ! -e "$(object_of l)"
check 'the limit holds' fits_in "$(room_for 3)"

# ---- cut in the middle -----------------------------------------------------------------------------

if command -v strace >/dev/null; then
	hex=$(image_hex k)
	strace -f -qq -o /dev/null -e trace=unlinkat -e inject=unlinkat:signal=KILL:when=1 \
	    "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" evict k >/dev/null 2>&1
	check 'an eviction that is killed before the file is gone' test -e "$SITE/cache/objects/${hex:0:2}/$hex"
	mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	check 'is finished at the next start' wait_for 5 test ! -e "$SITE/cache/objects/${hex:0:2}/$hex"
	check 'nothing of it is in lost+found' [ -z "$(ls "$SITE/cache/lost+found")" ]
	check 'and the image is fetched again when it is read' reads k
	mount_down || not_ok 'the daemon ends'
else
	skip 'an eviction that is killed is finished at the next start' 'no strace'
fi

# ---- evictions and opens at the same time ----------------------------------------------------------

picks=8 rounds=10
[ -z "${VMI_LONG:-}" ] || picks=150 rounds=40
[ -z "${VMI_NIGHTLY:-}" ] || picks=3400 rounds=100
conf_file evict_selected=yes
conf_file cache_size="$(room_for 4)"
conf_file prefetch=never
for name in o p q; do
	image_add $name ok
done
images_update
ctl -q select --all
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
# Three open at most three of seven at a time: the fourth place always has something that may leave.
picker() {
	local i names=(k l m n o p q) n=$1

	for ((i = 0; i < picks; i++)); do
		n=$(((n * 5 + i + $1) % 7))
		oracle --mode pread,direct --rounds "$rounds" --seed "$i" "$(image "${names[n]}")" "$WWW/${names[n]}" ||
		    echo "${names[n]}: $oracle_word"
	done
}
for i in 1 2 3; do
	picker $i >"$SITE/picked.$i" 2>&1 &
	pickers[i]=$!
done
wait "${pickers[@]}"
check_is 'C11 readers that make each other room again and again see no error and no wrong byte' '' \
    "$(cat "$SITE"/picked.*)"
note "$(status_of evicted_images) evictions"
check 'C11 there were evictions' [ "$(status_of evicted_images)" -ge 4 ]
check 'C11 and the limit holds' fits_in "$(room_for 4)"
check 'the files of what was evicted are nowhere in the way' [ -z "$(ls "$SITE/cache/lost+found")" ]
mount_down || not_ok 'the daemon ends'

# ---- a small disk ----------------------------------------------------------------------------------

images_up cache_min_free=1M fill=never prefetch=never stall_timeout=20s
mkdir "$SITE/disk"
if mount -t tmpfs -o size=4m tmpfs "$SITE/disk" 2>/dev/null; then
	at_exit umount -l "$SITE/disk"
	sed -i "s|^cache_dir = .*|cache_dir = $SITE/disk/cache|" "$CONF"
	for name in u v w; do
		image_add $name ok
	done
	images_subscribe
	mount_up || bail "no mount: $(tail -n 3 "$LOG")"
	reads u && reads v
	check 'B01 below cache_min_free a selected image does not leave for another' fails w ENOSPC
	ctl -q deselect u
	check 'B01 what is not selected does, without a limit' wait_for 10 reads w
	check_is 'B01 and so there is enough left' yes "$([ "$(stat -f -c %a "$SITE/disk")" -ge 256 ] && echo yes)"
	mount_down || not_ok 'the daemon ends'
else
	skip 'B01 what is not selected leaves for want of disk' 'no tmpfs'
fi
plan_done
