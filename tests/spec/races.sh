#!/bin/bash
# time limit: 180 s
#
# Things that happen at the same time, again and again: lists are refreshed while images are read and
# directories listed; images are evicted while they are opened.  VMI_LONG makes it minutes,
# VMI_NIGHTLY what the fault catalogue asks for.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576
seconds=12 n_readers=24 rounds=2000
[ -z "${VMI_LONG:-}" ] || seconds=60 n_readers=64 rounds=20000
[ -z "${VMI_NIGHTLY:-}" ] || seconds=600 n_readers=64 rounds=1000000

# ---- refreshes ------------------------------------------------------------------------------------

images_up fill=now stall_timeout=20s
for name in steady lazy stream turns; do
	image_disk $name ok 4
done
image_blocks steady
image_blocks lazy
image_blocks turns
cp "$WWW/turns" "$WWW/turns.1"
head -c $((4 * mib)) /dev/urandom >"$WWW/turns.2"
verity_of "$WWW/turns.1" "$WWW/turns.1.fsv" >"$SITE/digest.1"
verity_of "$WWW/turns.2" "$WWW/turns.2.fsv" >"$SITE/digest.2"
# Two lists, to be taken in turns: every time with a higher version, of the list and of the image.
turn_to() {
	cp --reflink=auto "$WWW/turns.$1" "$WWW/turns.new" && mv "$WWW/turns.new" "$WWW/turns"
	image_uris[-1]=$SERVER/ok/turns.$1
	image_keys[turns]=" sl:checksum:fsverity-sha512=$(<"$SITE/digest.$1")"
	image_version[turns]=$1.$((images_version + 1))
}
turn_to 1
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
pin=$(readlink -f "$(image turns)")
hex1=$(image_hex turns.1) hex2=$(image_hex turns.2)

waiters c06
for ((i = 0; i < n_readers; i++)); do
	case $((i % 4)) in
	0)	waiter $i steady --mode spots,directspots --seconds $seconds --seed $i ;;
	1)	waiter $i lazy --mode all --seconds $seconds --seed $i ;;
	2)	waiter $i stream --mode random,direct --seconds $seconds --seed $i ;;
	3)	(
			# Whoever has found the way to a version goes on reading it.
			oracle --mode spots,directspots --seconds $seconds --seed $i "$pin" "$WWW/turns.1"
			echo "$oracle_word" >"$SITE/read.c06-$i"
		) &
		waiters_pids+=($!) ;;
	esac
done

# A directory and its files are always whole, and the fields of one version belong together.
look_around() {
	local end=$((${EPOCHREALTIME/[.,]/} + seconds * 1000000)) names json looks=0

	while [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ]; do
		names=$(ls "$MNT/images" | paste -sd' ')
		[ "$names" = 'lazy steady stream turns' ] || { echo "images: $names"; return; }
		ls -R "$MNT" >"$SITE/ls.$1" 2>"$SITE/ls.$1.said" || grep -v 'No such file' "$SITE/ls.$1.said"
		json=$(jq -r '.["hv:version"] + " " + .["sl:checksum:sha512"]' "$MNT/images/turns/metadata.json")
		case $json in
		1.*" $hex1"|2.*" $hex2") ;;
		*)	echo "mixed: $json"; return ;;
		esac
		looks=$((looks + 1))
	done
	[ "$looks" -gt 3 ] || echo "only $looks looks"
}
for ((i = 0; i < 8; i++)); do
	look_around $i >"$SITE/looked.$i" 2>&1 &
	lookers+=($!)
done
# Ten a second, or as many as the machine makes.
refreshes=0 end=$((${EPOCHREALTIME/[.,]/} + seconds * 1000000))
while [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ]; do
	turn_to $((refreshes % 2 + 1))
	images_update >>"$SITE/updates" 2>&1 || not_ok 'C06 a refresh fails' "$(tail -n 2 "$SITE/updates")"
	refreshes=$((refreshes + 1))
done
wait "${lookers[@]}"
waited
check_is 'C06 while lists are refreshed all the time, readers see no wrong byte' "$n_readers right" "$waiters_saw"
check_is 'C06 and listings no mixture of versions' '' "$(cat "$SITE"/looked.*)"
note "$refreshes refreshes in $seconds s"
check 'C06 there were refreshes' [ "$refreshes" -ge 4 ]
check 'C06 in the end the latest version is read' wait_for 20 reads turns --mode pread
mount_down || not_ok 'the daemon ends'

# ---- evictions -------------------------------------------------------------------------------------

images_up fill=never stall_timeout=20s
names='whole-1 whole-2 lazy-1 lazy-2'
for name in $names; do
	image_disk $name ok 1
done
image_blocks lazy-1
image_blocks lazy-2
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"

# One that is open just then is not evicted.
evict_all() {
	local name

	while :; do
		for name in $names; do
			ctl -q evict $name && echo "gone: $name"
		done
	done >"$SITE/evicted" 2>&1
}
evict_all &
evicter=$!
at_exit kill "$evicter"
# Each round opens the file, reads, and closes it.
waiters c11
waiter 1 whole-1 --mode pread --rounds $((rounds / 4)) --seed 1
waiter 2 whole-2 --mode directspots --reads 2 --rounds $((rounds / 4)) --seed 2
waiter 3 lazy-1 --mode spots --reads 2 --rounds $((rounds / 4)) --seed 3
waiter 4 lazy-2 --mode direct --rounds $((rounds / 4)) --seed 4
waited
check_is 'C11 however often images are evicted while they are opened and read, readers see no error' \
    '4 right' "$waiters_saw"
# How often it happened in between is chance; now nobody has them open.
evicted_all() {
	local name

	for name in $names; do
		grep -qx "gone: $name" "$SITE/evicted" || return 1
	done
}
check 'C11 all are evicted when nobody has them open' wait_for 10 evicted_all
kill "$evicter"
wait "$evicter" 2>/dev/null
# Once each is the first time.
fetched_again() {
	local n

	n=$(grep -c '^GET [^ ]*/whole-[12] ' "$SITE/requests")
	[ "$n" -ge 4 ] || { echo "$n times"; return 1; }
}
for name in $names; do
	check "C11 all are read in the end ($name)" reads $name --mode direct
done
check 'C11 they were fetched again' fetched_again
check 'C11 nothing is left of it' wait_for 10 parked -eq 0
mount_down || not_ok 'the daemon ends'
plan_done
