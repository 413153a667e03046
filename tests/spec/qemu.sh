#!/bin/bash
# Hypervisors use the images where they are: qemu reads them in all its ways, and as backing files of
# overlays that live elsewhere.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl setpriv qemu-img qemu-io jq
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"

site_up
lists_up

# A disk with data, zeros and a hole; as raw, and as a qcow2 with compressed clusters.
truncate -s 8M "$WWW/disk.raw"
head -c 1500000 /dev/urandom | dd of="$WWW/disk.raw" bs=64k seek=3 conv=notrunc status=none
yes 'a line of text' | head -c 1000000 | dd of="$WWW/disk.raw" bs=64k seek=90 conv=notrunc status=none
qemu-img convert -c -f raw -O qcow2 "$WWW/disk.raw" "$WWW/disk.qcow2" || bail 'qemu-img convert failed'
chmod 644 "$WWW"/disk.*
publish alice image.list a-list 1 "$(image_entry raw 'Raw disk' 1.0 disk.raw)" \
    "$(image_entry qcow 'Qcow2 disk' 1.0 disk.qcow2)" || bail 'no list'
ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
    ctl -q subscribe "$WEB_URL/image.list" --endorser alice --select all || bail 'no list'
mount_up || bail "not mounted: $(tail -n 5 "$LOG")"
raw=$(readlink -f "$MNT/images/raw/image")
qcow=$(readlink -f "$MNT/images/qcow/image")

# ---- the first contact fetches ----------------------------------------------------------------

check_is 'F40 qemu-img info fetches the image and tells its format' 'qcow2 8388608' \
    "$(qemu-img info --output=json "$qcow" | jq -r '[.format, .["virtual-size"]] | join(" ")')"
check 'F40 qemu-img check finds nothing wrong' qemu-img check "$qcow"
check 'F40 qemu-img compare: the raw image is the qcow2 image' \
    qemu-img compare -f raw -F qcow2 "$raw" "$qcow"
check_is 'F40 qemu-img map takes the whole of a raw image for data' '8388608 true false' \
    "$(qemu-img map --output=json -f raw "$raw" | jq -r '.[] | "\(.length) \(.data) \(.zero)"')"
convert() {
	rm -f "$SITE/out"
	qemu-img convert -T "$1" -f "$2" -O raw "$3" "$SITE/out" && cmp "$SITE/out" "$WWW/disk.raw"
}
for cache in none writeback directsync; do
	check "F40 qemu-img convert with cache=$cache gives the right bytes of qcow2" convert $cache qcow2 "$qcow"
	check "F40 qemu-img convert with cache=$cache gives the right bytes of raw" convert $cache raw "$raw"
done

# ---- reading as a guest does ------------------------------------------------------------------

# qemu-io prints a failed read and goes on: what it says is looked at, too.
guest_reads() {
	local said

	said=$(qemu-io -r -f raw -t none -i "$1" "$raw" -c 'read 0 64k' -c 'read 196608 1M' \
	    -c 'aio_read 200704 4096' -c 'aio_read 5898240 65536' -c 'aio_flush' -c 'read 8384512 4096' \
	    -c 'read -P 97 5898240 1' 2>&1)
	grep -q 'ops; ' <<<"$said" && ! grep -qiE 'failed|error' <<<"$said" || { echo "$said"; return 1; }
}
has_engine() {
	qemu-io -r -f raw -t none -i "$1" -c 'read 0 4096' "$WWW/disk.raw" 2>&1 | grep -q 'ops; '
}
for engine in threads native io_uring; do
	if has_engine $engine; then
		check "F40 cache=none with aio=$engine reads" guest_reads $engine
	else
		skip "F40 cache=none with aio=$engine reads" 'qemu or the kernel cannot'
	fi
done
pattern_is_seen() {
	! qemu-io -r -f raw -t none "$raw" -c 'read -P 98 5898240 1' | grep -q 'Pattern verification failed' || return 0
	echo 'a wrong pattern goes unnoticed'
	return 1
}
check 'F40 qemu-io would notice wrong bytes' pattern_is_seen

# ---- overlays -----------------------------------------------------------------------------------

overlay() {
	rm -f "$SITE/overlay.qcow2"
	qemu-img create -q -f qcow2 -b "$1" -F "$2" "$SITE/overlay.qcow2"
}
overlay_works() {
	overlay "$1" "$2" && qemu-io -f qcow2 -c 'write -P 7 196608 4096' "$SITE/overlay.qcow2" &&
	    qemu-io -f qcow2 -c 'read -P 7 196608 4096' "$SITE/overlay.qcow2" &&
	    cp "$WWW/disk.raw" "$SITE/expected" &&
	    qemu-io -f raw -c 'write -P 7 196608 4096' "$SITE/expected" &&
	    qemu-img compare -f qcow2 -F raw "$SITE/overlay.qcow2" "$SITE/expected"
}
check 'F40 an overlay on a qcow2 image of the mount is written, the image is not' overlay_works "$qcow" qcow2
check 'F40 an overlay on a raw image, too' overlay_works "$raw" raw
check 'F40 an overlay may be larger than its backing file' \
    bash -c "qemu-img resize -q '$SITE/overlay.qcow2' 16M && qemu-img compare -f qcow2 -F raw '$SITE/overlay.qcow2' '$SITE/expected'"
check_not 'F40 commit into the mount is refused' qemu-img commit -q "$SITE/overlay.qcow2"
check 'F40 the images are what they were' \
    bash -c "cmp '$raw' '$WWW/disk.raw' && cmp '$qcow' '$WWW/disk.qcow2'"

# ---- an overlay lives through an update -----------------------------------------------------------

overlay "$(readlink -f "$MNT/by-title/Raw_disk/image")" raw
cp "$WWW/disk.raw" "$SITE/expected"
head -c 8388608 /dev/urandom >"$WWW/disk2.raw" && chmod 644 "$WWW/disk2.raw"
publish alice image.list a-list 2 "$(image_entry raw 'Raw disk' 2.0 disk2.raw)" \
    "$(image_entry qcow 'Qcow2 disk' 1.0 disk.qcow2)"
ctl -q update
check 'F40 the name leads to the new version' wait_for 30 cmp "$MNT/by-title/Raw_disk/image" "$WWW/disk2.raw"
check 'F40 an overlay on the old one still has the old bytes' \
    qemu-img compare -f qcow2 -F raw "$SITE/overlay.qcow2" "$SITE/expected"

# ---- a hypervisor of its own user -----------------------------------------------------------------

as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
install -d -o 65534 -g 65534 "$SITE/vm"
check 'F35 another user may use an image as a backing file' \
    as_nobody qemu-img create -q -f qcow2 -b "$qcow" -F qcow2 "$SITE/vm/disk"
check_is 'F35 what is copied from the mount can be written by who copied it' 'writable' \
    "$(as_nobody cp --preserve=mode "$raw" "$SITE/vm/copy" && as_nobody test -w "$SITE/vm/copy" && echo writable)"

plan_done
