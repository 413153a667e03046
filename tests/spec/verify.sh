#!/bin/bash
# time limit: 240 s
#
# `vmimagectl verify`: what of a stored image is bad, and --fix, which heals it; with a daemon and
# without.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq sqlite3 fallocate
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

shim=${SHIM_SO:-$tests_dir/../.build/tests/lib/shim.so}

tree_of() {
	printf '%s.fsv\n' "$(object_of "$1")"
}

object_is_whole() {
	cmp -s "$(object_of "$1")" "$WWW/$1"
}

quarantined() {
	find "$SITE/cache/quarantine" -name "$(image_hex "$1")*" | wc -l
}

# row NAME COLUMN
row() {
	sqlite3 "$SITE/state/catalogue.db" \
	    "SELECT $2 FROM object WHERE hex(digest) = upper('$(image_hex "$1")')"
}

found() {
	ctl --json verify "$1" 2>/dev/null | jq -c '.images[0] | [.result, .code, .bad_granules]'
}

# healed NAME N: --fix says 1, fetches N granules and nothing else, and the next run is clean.
healed() {
	local n before status=0

	n=$(requests "$1")
	before=$(sent "$1")
	ctl -q verify --fix "$1" >"$SITE/said" 2>&1 || status=$?
	[ "$status" -eq 1 ] || { echo "exit status $status: $(<"$SITE/said")"; return 1; }
	[ $(($(sent "$1") - before)) -le $(($2 * granule)) ] || { echo "$(($(sent "$1") - before)) bytes"; return 1; }
	[ "$2" -gt 0 ] || [ "$(requests "$1")" -eq "$n" ] || { echo 'something was fetched'; return 1; }
	object_is_whole "$1" || { echo "not whole: $(<"$SITE/said")"; return 1; }
	ctl -q verify "$1"
}

images_up stall_timeout=3s
names='signed derived tiny small norange gone'
image_disk signed ok 4
image_blocks signed
image_disk derived ok 4
image_add tiny ok 3000
image_add small ok 200000
image_disk norange norange 2
image_disk gone ok 2
images_subscribe
ctl -q fetch --all || bail "nothing can be fetched: $(ctl fetch --all 2>&1)"
for name in $names; do
	cp "$(tree_of $name)" "$SITE/$name.fsv" || bail "$name has no tree"
done

# ---- what is found -------------------------------------------------------------------------------

check 'verify finds nothing wrong with what was just fetched' ctl verify
check_is 'and says so of each' '["ok",0,0]' "$(found signed)"
for name in signed derived; do
	flip_byte "$(object_of $name)" 300000
	flip_byte "$(object_of $name)" 530000
	flip_byte "$(object_of $name)" $((4 * 1048576 - 1))
	check_like "verify names the bad ranges ($name)" \
	    '3 of 16 granules are bad: bytes 262144-786431, 3932160-4194303' "$(ctl verify $name)"
	check_is "verify counts the bad granules ($name)" '["wrong",53,3]' "$(found $name)"
done
rm "$(tree_of derived)"
check_like 'without a good tree it says that the bytes are others' 'not those of its SHA-512$' \
    "$(ctl verify derived)"
cp -p "$SITE/derived.fsv" "$(tree_of derived)"
chown nobody:nogroup "$(tree_of derived)"
check_is 'it changes nothing' 3 "$(cmp -l "$(object_of derived)" "$WWW/derived" | wc -l)"

# ---- without a daemon ------------------------------------------------------------------------------

heal_all_ways() {
	local way=$1 name what

	for name in signed derived; do
		object_is_whole $name && flip_byte "$(object_of $name)" 300000
	done
	check "A16 verify --fix fetches the bad granules and no others, $way" healed derived 3
	check "A16 and of an image whose list signs block digests, $way" healed signed 3
	check "B09 the bad bytes are kept, $way" test "$(quarantined signed)" -ge 1
	check_is "B09 there are events of it, $way" 'CorruptFound CorruptHealed' \
	    "$(events_of signed | grep -o 'CorruptFound CorruptHealed' | tail -n 1)"
	fallocate -p -o 8192 -l 1048576 "$(object_of signed)"
	check "B14 a hole that was punched is healed, $way" healed signed 5
	for name in tiny small; do
		flip_byte "$(object_of $name)" 17
		check_is "one bad granule is counted in an image of one granule ($name), $way" \
		    '["wrong",53,1]' "$(found $name)"
		check "and healed ($name), $way" healed $name 1
	done

	for what in 'that is gone' 'with a changed byte' 'that is short' 'of another image'; do
		for name in signed derived; do
			case $what in
			*gone)	rm "$(tree_of $name)" ;;
			*byte)	flip_byte "$(tree_of $name)" 5000 ;;
			*short)	truncate -s 4096 "$(tree_of $name)" ;;
			*image)	cat "$SITE/norange.fsv" >"$(tree_of $name)" ;;
			esac
			check_like "B15 a tree $what is named ($name), $way" 'its bytes are right, but' "$(ctl verify $name)"
			check "B15 and made anew from the right bytes ($name), $way" healed $name 0
			check "B15 as it was ($name), $way" cmp "$(tree_of $name)" "$SITE/$name.fsv"
		done
	done
	rm "$(tree_of derived)"
	flip_byte "$(object_of derived)" 1000
	check "B16 with a bad byte and no tree the image is fetched anew, $way" healed derived 16
	check "B16 with its tree, $way" cmp "$(tree_of derived)" "$SITE/derived.fsv"

	flip_byte "$(object_of norange)" 1000
	check "T26 from a server without ranges the whole is fetched anew, $way" healed norange 16
	check "T26 and the tree is there, $way" cmp "$(tree_of norange)" "$SITE/norange.fsv"
	rm "$(object_of tiny)"
	check "a file that is gone is fetched anew, $way" healed tiny 1
}

heal_all_ways 'without a daemon'

# What the disk cannot read is as bad as what it reads wrong.
if [ -e "$shim" ] && [ -z "${VMI_SANITIZE:-}${VMI_WRAP:-}" ]; then
	unreadable() {
		LD_PRELOAD=$shim SHIM_FAIL=pread:5:EIO,pread:9+:EIO SHIM_PATH=/objects/ SHIM_PROGRAM=vmimagectl \
		    "$VMIMAGEFS_BUILD/vmimagectl" -c "$CONF" verify "$@"
	}
	check_like 'granules that cannot be read are named' 'cannot be read; .* granules are bad: bytes' \
	    "$(unreadable signed 2>&1)"
else
	skip 'granules that cannot be read are named' 'needs shim.so and plain programs'
fi

# The digest of the tree in the catalogue.
sqlite3 "$SITE/state/catalogue.db" \
    "UPDATE object SET tree = zeroblob(64) WHERE hex(digest) = upper('$(image_hex derived)')"
check_like 'X28 a row that names another tree is found' 'another one' "$(ctl verify derived)"
check 'X28 and mended' healed derived 0

# ---- with a daemon ------------------------------------------------------------------------------------

mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for name in $names; do
	reads $name --mode pread >/dev/null || bail "cannot read $name: $oracle_said"
done
check 'verify finds nothing wrong beside a daemon' ctl verify
for name in signed derived; do
	flip_byte "$(object_of $name)" 530000
	flip_byte "$(object_of $name)" $((4 * 1048576 - 1))
done
heal_all_ways 'with a daemon'
for name in $names; do
	check "I1 the mount shows the right bytes ($name)" reads $name --mode direct
done

# ---- without the network ------------------------------------------------------------------------------

server_down
flip_byte "$(object_of gone)" 300000
ctl verify --fix gone >"$SITE/said" 2>&1
check_like 'without the network --fix says that it cannot mend' 'cannot be mended' "$(<"$SITE/said")"
check 'and keeps the file' test -e "$(object_of gone)"
check 'which is degraded' wait_for 10 state_is gone degraded
check 'the rest of it can be read' reads gone --mode direct --from $((2 * granule))
check 'the bad granule cannot' spot_fails gone $granule EIO
rm "$(tree_of signed)"
check 'B16 a tree is made anew without the network' healed signed 0
mount_down || not_ok 'the daemon ends'
flip_byte "$(object_of derived)" 300000
ctl verify --fix derived gone >"$SITE/said" 2>&1
check_is 'without the network and without a daemon nothing is lost either' '2 2' \
    "$(grep -c 'cannot be mended' "$SITE/said") $(find "$(object_of derived)" "$(object_of gone)" | wc -l)"
plan_done
