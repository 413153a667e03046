#!/bin/bash
# Two daemons and one cache: the second is refused, however often and however closely after the first it
# comes, and the bytes in the cache are never those of both.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"

n_races=6
[ -z "${VMI_LONG:-}" ] || n_races=50

mib=1048576
images_up stall_timeout=60s
image_add slow rate:$((2 * mib)) $((4 * mib))
image_add one ok
image_add two ok
images_subscribe

# second_of DIR: a second daemon's configuration: another mount point, its own run_dir, one cache.
first_conf=$CONF first_mnt=$MNT
second_conf=$SITE/second.conf
mkdir "$SITE/mnt2"
sed -e "s|^mountpoint = .*|mountpoint = $SITE/mnt2|" -e "s|^run_dir = .*|run_dir = $SITE/run2|" \
    "$CONF" >"$second_conf"

use_first() {
	CONF=$first_conf MNT=$first_mnt
}

use_second() {
	CONF=$second_conf MNT=$SITE/mnt2
}

end_second() {
	use_second
	mount_kill
	use_first
}
at_exit end_second

# start WHICH: its exit status into a file, and what it said.
start() {
	"use_$1"
	"$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" </dev/null >"$SITE/said.$1" 2>&1
	echo $? >"$SITE/status.$1"
}

# ---- one after the other -------------------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
oracle_of() {
	oracle --mode "$2" "$(image "$1")" "$WWW/$1"
	echo "$oracle_word" >"$SITE/read.$1.$2"
}
for way in pread direct mmap; do
	oracle_of slow $way &
	readers+=($!)
done
wait_for "$VMI_PATIENCE" state_is slow fetching || not_ok 'the readers wait'
for ((i = 0; i < 4; i++)); do
	(start second)
	echo "$(<"$SITE/status.second") $(grep -oE 'code [0-9]+' "$SITE/said.second" | tail -n 1)"
done >"$SITE/refusals"
check_is 'C08 a second daemon on the same cache is refused with code 55, whatever its mount point' \
    '4 5 code 55' "$(sort "$SITE/refusals" | uniq -c | sed 's/^ *//')"
check_not 'C08 nothing is mounted for it' mountpoint -q "$SITE/mnt2"
wait "${readers[@]}"
check_is 'C08 readers of the first read on, every byte right' '3 right' \
    "$(cat "$SITE"/read.slow.* | sort | uniq -c | sed 's/^ *//')"
check_is 'C08 from one download' 1 "$(requests slow)"

# ---- both at once --------------------------------------------------------------------------------

mount_down || not_ok 'the daemon ends'
# One is mounted, and the other was told why it is not; both must not be, and seldom is it none: when each
# saw the other's lock.
races() {
	local i which mounted pids

	for ((i = 0; i < n_races; i++)); do
		(start first) &
		pids=$!
		(start second) &
		wait "$pids" $!
		mounted=
		for which in first second; do
			"use_$which"
			if is_mounted; then
				mounted+=$which
			elif ! grep -q 'code 55' "$SITE/said.$which"; then
				echo "$which: $(tail -n 1 "$SITE/said.$which")"
			fi
		done
		case $mounted in
		first|second)
			"use_$mounted"
			cmp "$MNT/images/one/image" "$WWW/one" && cmp "$MNT/images/slow/image" "$WWW/slow" ||
			    echo "$mounted: wrong bytes"
			ctl evict one ;;
		firstsecond) echo 'both run' ;;
		esac >>"$SITE/races" 2>&1
		for which in first second; do
			"use_$which"
			mount_down || echo "$which does not end"
		done
		echo "$mounted"
	done >"$SITE/raced"
	use_first
}
races
check_is "C08 of two that start at the same time never both run ($n_races times)" '' \
    "$(grep -vxE 'first|second|' "$SITE/raced"; grep -E 'wrong|both|differ' "$SITE/races")"
check 'C08 and mostly one does' [ "$(grep -cxE 'first|second' "$SITE/raced")" -ge $((n_races / 2)) ]

# ---- one instead of the other --------------------------------------------------------------------

use_first
mount_up || not_ok 'the first is mounted again'
mount_kill
(start second)
use_second
check 'C08 when the first was killed the second takes the cache' is_mounted
check 'C08 and serves what the first has fetched' cmp "$MNT/images/slow/image" "$WWW/slow"
check_is 'C08 without fetching it again' 1 "$(requests slow)"
check 'C08 verify finds nothing wrong' ctl verify --deep
mount_down || not_ok 'the second ends'
use_first
check 'C08 and the first comes back' mount_up
check 'C08 with what the second has left' cmp "$MNT/images/two/image" "$WWW/two"
mount_down || not_ok 'the daemon ends'
plan_done
