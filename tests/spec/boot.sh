#!/bin/bash
# time limit: 1500 s
#
# A PC boots from an image that is not there yet: qemu, with an overlay whose backing file lies in the
# mount.  What the guest reads is compared with what was put on its disk.
#
# By default a small disk (busybox); with VMI_LONG a Debian with systemd, too.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl fsverity qemu-img
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"
. "$here/../lib/lists.sh"
. "$here/../lib/verity.sh"
. "$here/../lib/relay.sh"
. "$here/../lib/boot.sh"
rot=$(dirname "$hostile_program")/rot
[ -x "$rot" ] || skip_all 'tests/lib/rot is not built'

# ---- helpers ---------------------------------------------------------------------------------------

# publish_disk LIST URL: a list of the disk alone, with its address.
publish_disk() {
	IMAGE_URI=$2/disk publish alice "$1" "$1" 1 "$(pki_image disk 'The disk' 1.0 "$2/disk" \
	    "$(stat -c %s "$BOOT_DISK")" "$disk_sha512" hv:format=raw "sl:checksum:fsverity-sha512=$disk_verity")"
}

# Served under the same name whichever disk it is.
serve_disk() {
	ln -sf "$BOOT_DISK" "$WWW/disk"
	disk_sha512=$(sha512sum <"$BOOT_DISK" | cut -d' ' -f1)
	disk_verity=$(verity_of "$BOOT_DISK" "$WWW/disk.fsv") || bail 'no digest of the disk'
	chmod 644 "$WWW/disk.fsv"
	publish_disk near "$WEB_URL" && publish_disk far "https://localhost:$RELAY_PORT" || bail 'no list'
}

# another_site LIST [KEY=VALUE...]: with an empty cache.
another_site() {
	local list=$1

	shift
	site_up "tls_ca=$PKI/root.pem" block_timeout=60s "$@"
	pki_trust "$CERTS" root
	ctl -q endorser add alice --from-cert "$PKI/alice.pem" &&
	    ctl -q subscribe "$WEB_URL/$list" --endorser alice --select all || bail 'no subscription'
	mount_up || bail "not mounted: $(tail -n 5 "$LOG")"
	image=$(readlink -f "$MNT/images/disk/image")
	before=$(fetched)
}

# Bytes of the disk and of its sidecar that left the server.
fetched() {
	awk '$2 == "/disk" || $2 == "/disk.fsv" { n += $4 } END { print n + 0 }' "$WEB_DIR/access.log"
}

fetched_now() {
	echo $(($(fetched) - before))
}

status_of() {
	sed -n "s/^$1: //p" "$MNT/status"
}

fewer() {
	[ "$1" -lt "$2" ] || { echo "$1 are not fewer than $2"; return 1; }
}

right_bytes() {
	sha512sum <"$image" | grep -q "^$disk_sha512 "
}

rot_begin() {
	"$rot" "$1" >"$SITE/rotten" &
	rot_pid=$!
	at_exit rot_end
	wait_for 60 grep -q rotten "$SITE/rotten" || bail 'nothing rots'
}

# Ours until it has been waited for.
rot_end() {
	[ -z "${rot_pid:-}" ] || { kill "$rot_pid" && wait "$rot_pid"; } 2>/dev/null
	rot_pid=
}

# ---- one disk --------------------------------------------------------------------------------------

# boots_cold WHERE LIST
boots_cold() {
	local bytes

	another_site "$2" fill=never
	check "F40 a $kind PC boots from a cold image, $1" boot_right "$image"
	bytes=$(fetched_now)
	check "a boot fetches what it reads, not the image, $1" fewer "$bytes" $((disk_bytes / 2))
	check_not "the image is only partly here then, $1" state_is disk verified
	note "$kind, $1: up after $(boot_seconds) s, $((bytes / 1000)) kB fetched"
	check "F40 it boots again from what is here, $1" boot_right "$image"
	# No two boots read quite the same.
	check "the second boot fetches next to nothing, $1" fewer $(($(fetched_now) - bytes)) $((bytes / 20))
	mount_down || not_ok 'the mount ends'
}

# boots_while_filled WHERE LIST: leaves the site with the whole image.
boots_while_filled() {
	another_site "$2" fill=now
	check "F40 a $kind PC boots while the image is filled, $1" boot_right "$image"
	note "$kind, while filled, $1: up after $(boot_seconds) s"
	check "the image is complete and verified then, $1" wait_for 300 state_is disk verified
	check "every byte of it is right, $1" right_bytes
}

# Past the pages that the kernel has: qemu reads with O_DIRECT.
boots_from_rot() {
	rot_begin "$(find "$SITE/cache/objects" -name "$disk_sha512")"
	check "B09 a $kind PC boots from an image that rots under it" boot_right "$image" none
	rot_end
	note "$kind, while it rots: up after $(boot_seconds) s, $(status_of healed_granules) granules healed"
	check 'B09 what went bad was found and healed' test "$(status_of healed_granules)" -ge 20
	check_is 'B09 and could be healed' 0 "$(status_of images_degraded)"
	mount_down || not_ok 'the mount ends'
}

boots() {
	kind=$1
	disk_bytes=$(stat -c %s "$BOOT_DISK")
	serve_disk
	check "F40 a $kind PC boots from its disk" boot_right "$BOOT_DISK"
	note "$kind, from the file itself: up after $(boot_seconds) s"
	boots_cold 'on this host' near
	[ -z "${VMI_LONG:-}" ] || boots_cold 'over a line of 20 ms' far
	boots_while_filled 'on this host' near
	boots_from_rot
	if [ -n "${VMI_LONG:-}" ]; then
		boots_while_filled 'over a line of 20 ms' far
		mount_down || not_ok 'the mount ends'
	fi
}

# ---- all of them -----------------------------------------------------------------------------------

site_up
boot_disk busybox || skip_all "no disk to boot from: $boot_reason"
lists_up
relay_up "$WEB_PORT" --delay 20 --rate 125000000
boots busybox
if [ -z "${VMI_LONG:-}" ]; then
	skip 'F40 a systemd PC boots from its image' 'takes minutes (VMI_LONG)'
elif ! boot_disk systemd; then
	skip 'F40 a systemd PC boots from its image' "$boot_reason"
else
	boots systemd
fi
plan_done
