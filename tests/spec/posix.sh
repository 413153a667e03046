#!/bin/bash
# Reading the mount is like reading a local file system: every way to read gives the same bytes and
# the same errors, locks and leases work, attributes are what they promise.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv getfattr qemu-io
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
fscheck=$(dirname "$hostile_program")/fscheck
[ -x "$fscheck" ] || skip_all 'tests/lib/fscheck is not built'

site_up
lists_up
image_file disk.img 1050003
image_file later.img 300003
publish_titled() {
	publish alice image.list a-list "$1" "$(image_entry a-disk "$2" 1.0 disk.img)" \
	    "$(image_entry later 'Not yet' 1.0 later.img)" || bail 'no list'
}
publish_titled 1 'A disk'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$WEB_URL/image.list" --endorser alice --select all || bail 'no list'
mount_up || bail "not mounted: $(tail -n 5 "$LOG")"
ctl -q fetch a-disk || bail 'not fetched'
disk=$(readlink -f "$MNT/images/a-disk/image")
later=$(readlink -f "$MNT/images/later/image")
local_disk=$SITE/disk.img
cp "$WWW/disk.img" "$local_disk"

# ---- reading --------------------------------------------------------------------------------

check 'F21 reads at, around and far beyond the end give what a local file gives' \
    "$fscheck" same read "$disk" "$local_disk"
check 'F21 a read of 2 GiB gives the file' "$fscheck" same huge "$disk" "$local_disk"
check 'F22 O_DIRECT gives the right bytes or EINVAL' "$fscheck" same direct "$disk" "$local_disk"
check 'F22 dd reads with O_DIRECT' \
    bash -c "dd if='$disk' iflag=direct bs=64k status=none | cmp - '$local_disk'"
check 'F23 mappings give the right bytes, a writable shared one EACCES' \
    "$fscheck" same map "$disk" "$local_disk"
check 'F24 splice, tee, sendfile, copy_file_range and preadv2 give the right bytes' \
    "$fscheck" same move "$disk" "$local_disk"
check 'F24 cp gives the right bytes however it copies' \
    bash -c "cp --reflink=auto --sparse=always '$disk' '$SITE/copy' && cmp '$SITE/copy' '$local_disk'"
with_io_uring() {
	local said

	said=$(qemu-io -r -t none -i io_uring -f raw -c "read -v 4096 65536" "$1") || return 1
	grep -E '^[0-9a-f]{8}: ' <<<"$said" | sha512sum
}
uring=$(with_io_uring "$local_disk" 2>&1)
if [ ${#uring} -gt 100 ]; then
	check_is 'F24 io_uring gives the right bytes' "$uring" "$(with_io_uring "$disk" 2>&1)"
else
	skip 'F24 io_uring gives the right bytes' 'no io_uring here'
fi
check 'F21 texts are read like local files, too' bash -c \
    "cp '$MNT/images/a-disk/metadata.json' '$SITE/text' && '$fscheck' same read '$MNT/images/a-disk/metadata.json' '$SITE/text'"

# ---- seeking, locks, attributes -------------------------------------------------------------

check 'F25 a stored image is data up to its end' "$fscheck" same seek "$disk" "$local_disk"
check 'F25 an image that is not here yet is data up to its end, no hole' "$fscheck" seek "$later"
check 'F25 so is a text' "$fscheck" seek "$MNT/images/a-disk/metadata.json"
check_is 'F25 seeking fetches nothing' '0 selected' \
    "$(web_requests '/later') $(image_state later)"
tar_copies() {
	timeout 60 tar -cSf - -C "${later%/*}" "${later##*/}" | tar -xOf - | cmp - "$WWW/later.img"
}
check 'F25 tar -S does not take an image that is not here for a hole, but fetches it' tar_copies
check 'F26 flock, POSIX locks, OFD locks and leases are those of a local file' \
    "$fscheck" same lock "$disk" "$local_disk"
two_readers() {
	local one

	qemu-io -r -f raw -c "read 0 64k" -c "sleep 500" -c "read 64k 64k" "$disk" &
	one=$!
	qemu-io -r -f raw -c "read 0 64k" "$disk" && wait "$one"
}
check 'F26 two qemu-io read one image at once' two_readers
check 'F28 an attribute that does not exist is ENODATA' "$fscheck" same xattr "$disk" "$local_disk"
check_is 'F28 an attribute tells its length, and ERANGE when there is too little room' a-disk \
    "$("$fscheck" attr "$disk" user.vmimage.id 2>&1)"
check_is 'F28 listxattr tells the names' \
    'user.vmimage.endorser user.vmimage.error user.vmimage.expires user.vmimage.fetched user.vmimage.id user.vmimage.list user.vmimage.pinned user.vmimage.sha512 user.vmimage.state user.vmimage.title user.vmimage.version' \
    "$(getfattr --absolute-names "$disk" | grep '^user' | sort | paste -sd' ')"
check_is 'F28 a directory and a text have none' '' \
    "$(getfattr --absolute-names "$MNT/images" "$MNT/README")"
handle() {
	"$fscheck" handle "$disk" >"$SITE/by-handle"
	[ $? -eq 77 ] && return 77
	cmp "$SITE/by-handle" "$local_disk"
}
check 'F28 a file handle opens the file it was made of' handle

# ---- names ----------------------------------------------------------------------------------

long=$(printf 'n%.0s' {1..255})
check_like 'F30 a name of 255 bytes is not there' 'No such file' "$(stat "$MNT/images/$long" 2>&1)"
check_like 'F30 a name of 256 bytes is too long' 'File name too long' \
    "$(stat "$MNT/images/${long}n" 2>&1)"
check_like 'F30 a file is no directory' 'Not a directory' "$(stat "$MNT/README/" 2>&1)"
check_like 'F30 a file has no parent' 'Not a directory' "$(stat "$MNT/README/.." 2>&1)"
check_is 'F30 chains of .. lead where they should' 'A disk' \
    "$(cat "$MNT/images/a-disk/../../by-title/../images/./a-disk//title")"
check_is 'F30 .. of the mount leads out of it' "$(stat -c %i "$SITE")" "$(stat -c %i "$MNT/..")"
check_is 'F30 every link leads somewhere, none to itself' '' \
    "$(find "$MNT" -type l -not -exec test -e {} \; -print)"

# ---- texts that change ----------------------------------------------------------------------

printf 'A disk\n' >"$SITE/title.1"
printf 'A disk with quite another title\n' >"$SITE/title.2"
change_titles() {
	local n=2 title

	while [ -e "$SITE/go-on" ]; do
		title='A disk'
		[ $((n % 2)) -eq 1 ] || title='A disk with quite another title'
		publish_titled $n "$title" && ctl -q update || return 1
		n=$((n + 1))
	done
}
: >"$SITE/go-on"
change_titles &
changer=$!
seen=$("$fscheck" versions 4 "$MNT/images/a-disk/title" "$SITE/title.1" "$SITE/title.2")
status=$?
rm "$SITE/go-on"
wait "$changer"
check_is 'F33 the list changes while its texts are read' 0 $?
check_is "F33 a text that is read byte by byte is one version, of the size that it says ($seen)" 0 "$status"
check_like 'F33 both versions are seen' '^[1-9][0-9]* [1-9][0-9]*$' "$seen"

publish_titled 1000 'A disk'
ctl -q update
exec 7<"$MNT/images/a-disk/title"
publish_titled 1001 'A disk with quite another title'
ctl -q update
check_is 'F33 an open text stays what it was, a new open is the new one' \
    'A disk|A disk with quite another title' \
    "$(cat /dev/fd/7 "$MNT/images/a-disk/title" | paste -sd'|')"
exec 7<&-
sizes() {
	find "$MNT" -type f -not -path '*/by-sha512/*' -printf '%s %p\n' | while read -r size path; do
		[ "$(wc -c <"$path")" -eq "$size" ] || echo "$path: $size"
	done
}
# Those that count events of this moment may have a new version between the two looks.
check_is 'F33 every text is as long as it says' '' \
    "$(sizes | grep -vE '/(status|status.json|metrics|events):')"

plan_done
