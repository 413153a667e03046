#!/bin/bash
# time limit: 180 s
#
# A new version of an image: what is equal to blocks of a version that is here is taken from there,
# wherever it stands, and only the rest is fetched.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse openssl curl fsverity jq
. "$here/../lib/mount.sh"
. "$here/../lib/images.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/blocks.sh"

mib=1048576
images_up stall_timeout=20s fill=never
names='inserted removed changed appended moved same rotten strict unlike'
for name in $names; do
	image_disk $name ok 32
	[ $name = strict ] || image_blocks $name
done
images_subscribe
mount_up || bail "no mount: $(tail -n 3 "$LOG")"
for name in $names; do
	reads $name --mode pread >/dev/null && wait_for "$VMI_PATIENCE" state_is $name verified ||
	    bail "no first version of $name: $oracle_said"
	cp "$WWW/$name" "$SITE/$name.old"
done

# ---- second versions -----------------------------------------------------------------------------

# In the middle of everything, at multiples of 4096, as file systems in images have it.
make_second() {
	local old=$SITE/$1.old at=$((13 * mib + 12288))

	case $1 in
	inserted|rotten|strict)
		head -c $at "$old" && head -c 4096 /dev/urandom && tail -c +$((at + 1)) "$old" ;;
	removed) head -c $at "$old" && tail -c +$((at + 4096 + 1)) "$old" ;;
	changed) head -c $at "$old" && head -c 1 /dev/urandom && tail -c +$((at + 2)) "$old" ;;
	appended) cat "$old" && head -c 100000 /dev/urandom ;;
	moved)	tail -c +$((16 * mib + 1)) "$old" && head -c $((16 * mib)) "$old" ;;
	same)	cat "$old" && head -c 1 /dev/urandom ;;
	unlike)	head -c $((32 * mib)) /dev/urandom ;;
	esac >"$WWW/$1-2"
}

for i in "${!image_names[@]}"; do
	name=${image_names[i]}
	make_second "$name"
	mv "$WWW/$name-2" "$WWW/$name"
	# At another address, to be counted alone.
	image_uris[i]=$SERVER/ok/second/$name
	image_keys[$name]=
	image_blocks "$name"
	image_version[$name]=2.0
done
# A bit of the old version is not what it was: what it would give must not be used.
flip_byte "$SITE/cache/objects/$(sha512sum <"$SITE/rotten.old" | sed -E 's|^(..)(.{126}).*|\1/\1\2|')" $((20 * mib))
second() {
	server_get /stats | awk -v end="/second/$1" \
	    'substr($1, length($1) - length(end) + 1) == end { n += $3 } END { print n + 0 }'
}
check 'the list with the second versions is taken' images_update
for name in $names; do
	check "the second version is whole and verified ($name)" wait_for 60 cmp -s "$MNT/cache/$name" "$WWW/$name"
	check "its bytes are the signed ones in the store ($name)" cmp "$(object_of "$name")" "$WWW/$name"
done

# The sidecar counts: its last level, which has a digest for each block, is what tells which are equal.
percent() {
	local fetched

	fetched=$(($(second "$1") + $(second "$1.fsv")))
	note "$1: $fetched bytes of $(stat -c %s "$WWW/$1")"
	[ $((fetched * 100)) -lt $(($(stat -c %s "$WWW/$1") * 5)) ]
}
declare -A what=([inserted]='a block was inserted' [removed]='a block was removed' [changed]='a byte was changed'
	[appended]='something was appended' [moved]='two halves changed places' [same]='a byte was appended'
	[rotten]='a block was inserted, while a bit of the old version has flipped')
for name in inserted removed changed appended moved same rotten; do
	check "of a version in which ${what[$name]} less than five percent are fetched" percent $name
done
check 'also if the version before was fetched as a whole' percent strict
check_is 'of one that is altogether different all is fetched, once' $((32 * mib)) "$(second unlike)"
check 'the mount counts what was taken from older versions' [ "$(status_of reused_bytes)" -ge $((200 * mib)) ]
check 'all of them are read' reads inserted
check 'verify finds nothing wrong but the bit that was flipped' \
    ctl -q verify inserted removed changed appended moved same rotten strict unlike
mount_down || not_ok 'the daemon ends'
plan_done
