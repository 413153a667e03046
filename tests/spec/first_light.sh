#!/bin/bash
# The main job from end to end: an endorser is trusted, a list subscribed over TLS, images are
# selected, mounted, read, replaced by a new version and seen in expired/.
#
# under valgrind: yes

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
. "$here/../lib/pki.sh"
need root fuse nginx openssl qemu-img setpriv
. "$here/../lib/mount.sh"
. "$here/../lib/web.sh"

list_id=8d9c6a0e-3c52-4b7a-9f0e-5b1d7a2c4e10
cd_id=1f2e0b54-7a1d-4a58-8a55-0c3f6d1e2a01
disk_id=1f2e0b54-7a1d-4a58-8a55-0c3f6d1e2a02
spare_id=1f2e0b54-7a1d-4a58-8a55-0c3f6d1e2a03

# image ID TITLE VERSION FILE: the entry of a file that the web server has.
image() {
	pki_image "$1" "$2" "$3" "$WEB_URL/$4" "$(stat -c %s "$www/$4")" \
	    "$(sha512sum <"$www/$4" | cut -d' ' -f1)"
}

# publish VERSION DISK DISK_VERSION: signs a list of the CD, that disk and the spare one.
publish() {
	pki_list "$SITE/list.json" "$list_id" "$1" "$(pki_dn alice)" "$(pki_issuer alice)" \
	    "$(image "$cd_id" 'Rescue CD' 1.0 cd.iso)" "$(image "$disk_id" 'Rescue disk' "$3" "$2")" \
	    "$(image "$spare_id" 'Spare' 1.0 spare.img)" &&
	    pki_sign alice "$SITE/list.json" "$www/image.list" &&
	    chmod 644 "$www/image.list"
}

# ---- a site, a CA, a web server -----------------------------------------------------------------

site_up
www=$SITE/www
mkdir "$www"
pki_init "$SITE/pki" && pki_ca root && pki_user alice root && pki_server web root &&
    pki_trust "$CERTS" root || bail 'no PKI'
echo "tls_ca = $PKI/root.pem" >>"$CONF"
# An image with a file system in it, so that it is neither zeros nor noise alone.
truncate -s 24M "$SITE/raw"
head -c 3000000 /dev/urandom >"$SITE/noise"
dd if="$SITE/noise" of="$SITE/raw" bs=1M seek=8 conv=notrunc status=none
qemu-img convert -O qcow2 "$SITE/raw" "$www/disk-1.qcow2" || bail 'qemu-img convert failed'
dd if="$SITE/noise" of="$SITE/raw" bs=1M seek=1 conv=notrunc status=none
qemu-img convert -O qcow2 "$SITE/raw" "$www/disk-2.qcow2"
head -c 5000001 /dev/urandom >"$www/cd.iso"
echo spare >"$www/spare.img"
chmod 644 "$www"/*
web_up "$www" "$PKI/web.pem" "$PKI/web.key"
publish 1 disk-1.qcow2 1.0 || bail 'no list'

# ---- trust, subscribe, select -------------------------------------------------------------------

check 'an endorser is registered from a certificate' \
    ctl endorser add alice --from-cert "$PKI/alice.pem"
check 'subscribing imports the list at once' ctl subscribe "$WEB_URL/image.list" --endorser alice
check_is 'all images of a new list are available' 3 "$(ctl images --state available | wc -l)"
check 'images are selected by title and by prefix' ctl select 'Rescue CD' "$disk_id"

# ---- mount --------------------------------------------------------------------------------------

check 'the mount command returns when the mount is usable' mount_up
is_mounted || bail "nothing is mounted: $(tail -n 5 "$LOG")"
check_is 'the top of the tree is complete' \
    'README SHA512SUMS by-sha512 by-title cache endorsers events expired images metrics status status.json subscriptions' \
    "$(cd "$MNT" && LC_ALL=C ls | tr '\n' ' ' | sed 's/ $//')"
disk=$MNT/by-title/Rescue_disk
check_is 'the files of an image say what the list says' \
    "Rescue disk|1.0|$WEB_URL/disk-1.qcow2|yes|selected" \
    "$(cd "$disk" && cat title version uri selected state | paste -sd'|')"
check_not 'an image that is not selected has no image to read' test -e "$MNT/images/$spare_id/image"
check 'the signed list is there byte for byte' \
    cmp "$MNT/subscriptions/$list_id/list.smime" "$www/image.list"
check_is 'F27 looking at the whole tree fetches nothing' 0 \
    "$(ls -lR "$MNT" >/dev/null; du -s "$MNT" >/dev/null; web_requests 'iso|qcow2|img')"

# ---- first read ---------------------------------------------------------------------------------

read_together() {
	local reader readers='' failed=0

	for reader in 1 2 3 4 5 6 7 8; do
		cmp "$disk/image" "$www/disk-1.qcow2" &
		readers="$readers $!"
	done
	for reader in $readers; do
		wait "$reader" || failed=1
	done
	return $failed
}

check 'C01 eight readers of an image that is not there yet get its bytes' read_together
check_is 'C01 they cause one download' 1 "$(web_requests '^GET /disk-1.qcow2 ')"
check 'a verified image says so' wait_for 5 state_is "$disk_id" verified
check 'a verified image has a name in cache/' cmp "$MNT/cache/$disk_id" "$www/disk-1.qcow2"
check 'fetch brings an image before anybody reads it' ctl fetch 'Rescue CD'
check 'what was fetched is what was published' cmp "$MNT/images/$cd_id/image" "$www/cd.iso"
sums_are() {
	[ "$(wc -l <"$MNT/SHA512SUMS")" -eq "$1" ]
}
check 'every verified image comes into SHA512SUMS' wait_for 5 sums_are 2
check 'sha512sum checks the cache without a tool of ours' \
    sh -c "cd $MNT && sha512sum -c SHA512SUMS"
check_like 'F40 qemu-img sees format and size' 'file format: qcow2.*virtual size: 24 MiB' \
    "$(qemu-img info "$disk/image" | paste -sd' ')"
convert_and_compare() {
	qemu-img convert -f qcow2 -O raw "$disk/image" "$SITE/converted" &&
	    qemu-img compare -f raw -F qcow2 "$SITE/converted" "$www/disk-1.qcow2"
}
check 'F40 qemu-img converts an image of the mount' convert_and_compare
check_not 'F01 an image cannot be written' sh -c "echo x >>$disk/image"
check_not 'nothing can be made in the tree' mkdir "$MNT/new"

# ---- a new version ------------------------------------------------------------------------------

old_inode=$(stat -Lc %i "$disk/image")
exec 7<"$disk/image"
publish 2 disk-2.qcow2 2.0
check 'update takes the new list' ctl update
version_is() {
	[ "$(cat "$disk/version")" = "$1" ]
}
check 'L24 the new version is in its place once it is verified' wait_for 30 version_is 2.0
check 'L24 reading gives the new bytes' cmp "$disk/image" "$www/disk-2.qcow2"
check 'L24 an open file keeps the old bytes' cmp /dev/fd/7 "$www/disk-1.qcow2"
exec 7<&-
check_is 'the old version is in expired/, with the reason' 'replaced 1.0' \
    "$(cat "$MNT/expired/$disk_id".*/reason "$MNT/expired/$disk_id".*/version | paste -sd' ')"
check 'what has expired can still be read' cmp "$MNT/expired/$disk_id".*/image "$www/disk-1.qcow2"
# The file has a new version once a second.
events_tell() {
	[[ $(grep "$disk_id" "$MNT/events" | tail -n 4 | paste -sd' ') =~ $1 ]]
}
check 'the events tell of it in order' \
    wait_for 10 events_tell 'ExpirePrefix.*ExpirePostfix.*AvailablePrefix.*AvailablePostfix'

sed 's/Spare/Share/' "$www/image.list" >"$www/forged" && mv "$www/forged" "$www/image.list"
check_status 'S03 a list that was changed after it was signed is refused' 4 ctl update
check 'S03 and what was there before is still served' cmp "$disk/image" "$www/disk-2.qcow2"

# ---- the end ------------------------------------------------------------------------------------

check 'P04 TERM unmounts and leaves no process' mount_down
fetched=$(web_requests '(iso|qcow2) ')
check 'a site is mounted again' mount_up
check_is 'F32 inode numbers stay' "$old_inode" "$(stat -Lc %i "$MNT/expired/$disk_id".*/image)"
check 'what was verified is served without the web server' \
    cmp "$disk/image" "$www/disk-2.qcow2"
check_is 'nothing is fetched twice' "$fetched" "$(web_requests '(iso|qcow2) ')"
check 'umount ends the daemon, too' sh -c "umount $MNT"
check 'no process stays behind' wait_for "$VMI_PATIENCE" no_daemon_left

plan_done
